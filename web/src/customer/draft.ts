/**
 * The payment that is being written in this tab: kept over a reload, gone when it is sent or the tab is closed.
 *
 * Its id is made when the person comes to check it, and a new one whenever something in it changes: one id, one content.
 */

import type { Shapes } from "../api";
import { newId } from "../ids";
import { createStore } from "../store";
import { serverNow } from "../time";
import type { Order } from "./orders";

export interface Draft {
  /** Whose it is: bank and username. */
  whose: string;
  /** The account that pays; 0 as long as none is chosen. */
  debit: number;
  currency: string;
  /** What was typed for the payee, and who that is. */
  typed: string;
  payee: Shapes["PayeeAnswer"] | null;
  typedAmount: string;
  amount: string;
  reference: string;
  id: string;
}

/** An order that has not reached the bank within a day will not be carried out; nobody is surprised by it later. */
const VALID_MS = 86_400_000;
const KEY = "fortress.draft";

const empty = (whose: string): Draft => ({
  whose,
  debit: 0,
  currency: "",
  typed: "",
  payee: null,
  typedAmount: "",
  amount: "",
  reference: "",
  id: "",
});

export const draft = createStore<Draft>(stored());

function stored(): Draft {
  try {
    return { ...empty(""), ...(JSON.parse(sessionStorage.getItem(KEY) ?? "{}") as Partial<Draft>) };
  } catch {
    return empty("");
  }
}

/** Begin for somebody, unless it is theirs already. */
export function beginDraft(whose: string): void {
  if (draft.get().whose !== whose) write(empty(whose));
}

/** Change something in it; the id is of what it was, so it goes. */
export function change(part: Partial<Draft>): void {
  write({ ...draft.get(), id: "", ...part });
}

/** Give it its id, once. */
export function identify(): void {
  if (!draft.get().id) write({ ...draft.get(), id: newId(serverNow()) });
}

/** Begin anew. */
export function clearDraft(): void {
  write(empty(draft.get().whose));
}

/** The order as it is sent and signed. The same draft gives the same order each time. */
export function orderOf(it: Draft): Order {
  const made_ms = Number.parseInt(it.id.slice(0, 12), 16);
  return {
    id: it.id,
    debit: it.debit,
    payee: it.payee?.payee ?? "",
    amount: it.amount,
    currency: it.currency,
    reference: it.reference,
    not_after: (BigInt(made_ms + VALID_MS) * 1000n).toString(),
    signature: "",
  };
}

function write(next: Draft): void {
  draft.set(next);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(next));
  } catch {
    // Without a storage the draft lasts as long as the page.
  }
}
