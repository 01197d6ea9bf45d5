// Which new passwords are refused: the same rules, and the same list, as fortress/protocol/schnorr.py check_password.

import list from "../../../fortress/protocol/common_passwords.txt?raw";
import { localError } from "./errors";

const LENGTH_MIN = 10;
const DISGUISED_LENGTH_MAX = 64;
const ROWS = [
  "0123456789",
  "1234567890",
  "abcdefghijklmnopqrstuvwxyz",
  "qwertyuiopasdfghjklzxcvbnm",
  "qwertzuiopasdfghjklyxcvbnm",
  "azertyuiopqsdfghjklmwxcvbn",
  "qazwsxedcrfvtgbyhnujmikolp",
  "1q2w3e4r5t6y7u8i9o0p",
  "!@#$%^&*()",
];
const DISGUISE = "013457@$!";
const MEANT = ["oieastasi", "oleastasl"];

const common = new Set(list.split("\n").filter((line) => line !== "" && !line.startsWith("#")));

/** Refuse a new password that a guesser would try early. */
export function checkPassword(password: string): void {
  const typed = password.normalize("NFC");
  if ([...typed].length < LENGTH_MIN) {
    throw localError("password_weak", `a password has at least ${LENGTH_MIN} characters`, { facts: { length_min: LENGTH_MIN } });
  }
  const text = folded(typed);
  if (isRepetition(text)) throw localError("password_weak", "the password repeats a few characters");
  if (isSequence(text)) throw localError("password_weak", "the password is a sequence of neighbouring characters");
  for (const form of plainForms(text)) {
    if (common.has(form)) {
      throw localError("password_weak", "the password is one of those that everybody tries first");
    }
  }
}

// Case folding by Unicode, as far as JavaScript has it: capitals first, so that a sharp s becomes two letters; a
// dotless i has no capital of its own.
function folded(text: string): string {
  const letters = [...text].map((letter) => (letter === "\u0131" ? letter : letter.toUpperCase().toLowerCase()));
  return letters.join("").replaceAll("\u03c2", "\u03c3");
}

function isRepetition(text: string): boolean {
  const letters = [...text];
  for (let unit = 1; unit < LENGTH_MIN; unit++) {
    if (letters.length % unit === 0 && letters.every((letter, at) => letter === letters[at % unit])) return true;
  }
  return false;
}

function isSequence(text: string): boolean {
  const backwards = [...text].reverse().join("");
  return ROWS.some((row) => {
    const endless = row.repeat(Math.floor(text.length / row.length) + 2);
    return endless.includes(text) || endless.includes(backwards);
  });
}

// The text, and what is left when digits and signs around it are taken away, each also with look-alikes undone. Every
// cut, not just the shortest core: a digit at the edge may be decoration or a letter in disguise.
function plainForms(text: string): Set<string> {
  const letters = [...text];
  const isLetter = letters.map((letter) => /\p{L}/u.test(letter));
  const [first, last] = [isLetter.indexOf(true), isLetter.lastIndexOf(true)];
  const forms = new Set([text]);
  if (first >= 0 && letters.length <= DISGUISED_LENGTH_MAX) {
    for (let start = 0; start <= first; start++) {
      for (let stop = last + 1; stop <= letters.length; stop++) forms.add(letters.slice(start, stop).join(""));
    }
  }
  for (const form of [...forms]) {
    for (const meant of MEANT) forms.add(undisguised(form, meant));
  }
  return forms;
}

function undisguised(text: string, meant: string): string {
  return [...text].map((letter) => meant[DISGUISE.indexOf(letter)] ?? letter).join("");
}
