/** The bank's names for kinds, steps and refusals, in words for customers. */

import type { Phase } from "./orders";

export type Tone = "ok" | "info" | "warning" | "danger" | "neutral";

/** The kinds of entries that an account of a customer can show; the order is that of the filter. */
export const KINDS: Record<string, string> = {
  transfer: "Payment within the bank",
  payment_out: "Payment to another bank",
  payment_in: "Payment from another bank",
  deposit: "Cash paid in",
  withdrawal: "Cash paid out",
  fee: "Fee",
  reversal: "Reversal",
  hold: "Put on hold",
  hold_posted: "Hold taken",
  hold_voided: "Hold freed",
  hold_expired: "Hold ran out",
};

const OTHER_KINDS: Record<string, string> = {
  opened: "Account opened",
  freeze: "Account frozen",
  unfreeze: "Account free again",
  close: "Account closed",
  reopen: "Account open again",
  set_limits: "Limits changed",
};

export const kindWord = (kind: string): string => KINDS[kind] ?? OTHER_KINDS[kind] ?? plain(kind);

const PHASES: Record<Phase, { tone: Tone; word: string }> = {
  sending: { tone: "info", word: "Sending" },
  unknown: { tone: "warning", word: "We do not know yet" },
  held: { tone: "info", word: "On hold" },
  not_sent: { tone: "warning", word: "Not sent" },
  done: { tone: "ok", word: "Done" },
  refused: { tone: "danger", word: "Refused" },
};

export const phaseWord = (phase: Phase): { tone: Tone; word: string } => PHASES[phase];

const ACCOUNT_STATES: Record<string, { tone: Tone; word: string }> = {
  open: { tone: "ok", word: "Open" },
  debit_frozen: { tone: "warning", word: "Frozen for payments out" },
  frozen: { tone: "danger", word: "Frozen" },
  closed: { tone: "neutral", word: "Closed" },
};

export const accountState = (state: string): { tone: Tone; word: string } =>
  ACCOUNT_STATES[state] ?? { tone: "neutral", word: plain(state) };

/** What each step of a payment means to its payer. */
const STEPS: Record<string, { word: string; meaning: string }> = {
  created: { word: "Created", meaning: "You sent the order." },
  held: { word: "Put on hold", meaning: "The money is reserved on the payer's account." },
  open: { word: "Put on hold", meaning: "The money is reserved on the payer's account." },
  intended: { word: "Registered", meaning: "The gateway between the banks has the payment." },
  prepared: { word: "Prepared", meaning: "The payee's bank has agreed to take it." },
  decided: { word: "Decided", meaning: "From here on the payment is certain." },
  posted: { word: "Booked", meaning: "It is in the books of this bank." },
  done: { word: "Booked", meaning: "It is in the books of this bank." },
  voided: { word: "Freed", meaning: "The reserved money is free again; nothing was paid." },
  expired: { word: "Freed", meaning: "The hold ran out; nothing was paid." },
  aborted: { word: "Called off", meaning: "Nothing was paid." },
  refused: { word: "Refused", meaning: "Nothing was paid." },
};

export const stepWord = (step: string): { word: string; meaning: string } =>
  STEPS[step] ?? { word: plain(step), meaning: "" };

/** What to do about a refusal, where a customer can do something. */
const ADVICE: Record<string, string> = {
  exceeds_available: "Send less, or pay money in first.",
  exceeds_limit_per_payment: "Send less, or ask your bank to change the limit.",
  exceeds_limit_per_day: "Send less, or wait until tomorrow (UTC).",
  exceeds_limit_per_month: "Send less, or ask your bank to change the limit.",
  credit_account_unknown: "Check the account number; its last two digits are check digits.",
  credit_account_closed: "Ask the payee for another account.",
  credit_account_frozen: "Ask the payee for another account.",
  debit_account_frozen: "Ask your bank why.",
  currency_mismatch: "Choose an account of yours in the payee's currency.",
  payee_bank_unknown: "Check the name of the payee's bank.",
  bank_suspended: "Ask your bank when payments to that bank are possible again.",
  exceeds_debit_cap: "Try again later; your bank must settle with the others first.",
  order_expired: "Send it again as a new payment if you still want it.",
  id_too_far_ahead: "Set the clock of this device, then send it again.",
  order_signature_required: "Send it again; you will be asked for your password to sign it.",
  order_signature_invalid: "Sign in again, then send it again. If you changed your password elsewhere, that is why.",
};

export const adviceFor = (reasonName: string): string => ADVICE[reasonName] ?? "";

/** Make a sentence: a capital letter first, a full stop last. */
export function sentence(text: string): string {
  const words = text.trim();
  if (words === "") return "";
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}`;
}

export function plain(name: string): string {
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Write an account number in groups of three from the right, to be read and compared; copies get the plain digits. */
export function grouped(number: number | string): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Take apart `bank/number`; of an account of one's own bank only the number is shown. */
export function partyOf(payee: string, ownBank: string): { bank: string; number: string } {
  const at = payee.lastIndexOf("/");
  const bank = payee.slice(0, Math.max(at, 0));
  return { bank: bank === ownBank ? "" : bank, number: payee.slice(at + 1) };
}
