/** Whom one has paid from this browser, for the next time; kept here only, never sent. */

import { localStorageOrNull } from "./orders";

export interface Known {
  /** `bank/number`. */
  payee: string;
  name: string;
  currency: string;
}

const KEPT_MAX = 5;
const key = (whose: string): string => `fortress.payees.${whose}`;

/** The last ones, newest first. */
export function knownPayees(whose: string): Known[] {
  try {
    const read: unknown = JSON.parse(localStorageOrNull()?.getItem(key(whose)) ?? "[]");
    return Array.isArray(read) ? (read as Known[]).filter((each) => typeof each.payee === "string") : [];
  } catch {
    return [];
  }
}

/** Remember one as the newest. */
export function rememberPayee(whose: string, known: Known): void {
  const others = knownPayees(whose).filter((each) => each.payee !== known.payee);
  try {
    localStorageOrNull()?.setItem(key(whose), JSON.stringify([known, ...others].slice(0, KEPT_MAX)));
  } catch {
    // A full or forbidden storage: the next payment is typed in full.
  }
}
