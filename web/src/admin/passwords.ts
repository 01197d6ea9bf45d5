/** First passwords for people who are made by hand: letters and digits that cannot be taken for each other. */

const LETTERS = "abcdefghijkmnpqrstuvwxyz23456789";
const GROUPS = 5;
const GROUP = 4;

/** Make a password of 100 random bits, in groups that can be read out; the alphabet has 32 signs, so none is likelier. */
export function newPassword(): string {
  const random = crypto.getRandomValues(new Uint8Array(GROUPS * GROUP));
  const signs = [...random].map((byte) => LETTERS.charAt(byte % LETTERS.length));
  return Array.from({ length: GROUPS }, (_, at) => signs.slice(at * GROUP, (at + 1) * GROUP).join("")).join("-");
}
