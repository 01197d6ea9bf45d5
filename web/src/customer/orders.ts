/**
 * Payments that this browser has begun, kept in local storage until the bank has said what became of them, and a day more.
 *
 * An order is kept whole before it is sent for the first time. So a reload, a second tab and a bank that is switching to
 * its standby all go on with the same id and the same content, which the bank does once. Each order has a key of its own:
 * two tabs that keep orders at one time do not overwrite each other's.
 */

export interface Order {
  id: string;
  debit: number;
  payee: string;
  amount: string;
  currency: string;
  reference: string;
  not_after: string;
  signature: string;
}

/**
 * How far an order is known to be.
 *
 * - `sending`: it is on its way, or waits to be.
 * - `unknown`: sent, and no answer; it is repeated with the same id.
 * - `held`: the bank has it, the money is reserved, and other banks must still act.
 * - `not_sent`: the bank said that nothing was paid and that it may be tried again.
 * - `done`, `refused`: what the bank said for good.
 */
export type Phase = "sending" | "unknown" | "held" | "not_sent" | "done" | "refused";

export interface Kept {
  order: Order;
  payeeName: string;
  /** Milliseconds since 1970: when it was made, and when the phase last changed. */
  made: number;
  changed: number;
  phase: Phase;
  /** Why it was refused or not sent, in words, the name of the rule, and the code. */
  reason: string;
  reasonName: string;
  code: string;
}

export const isOver = (kept: Kept): boolean => kept.phase === "done" || kept.phase === "refused";

const AFTERWARDS_MS = 86_400_000;
const PREFIX = "fortress.order";

/** Forget what is over, of everybody: who signs out leaves no names of payees behind. */
export function forgetWhatIsOver(storage: Storage | null = localStorageOrNull()): void {
  const keys = Array.from({ length: storage?.length ?? 0 }, (_, at) => storage?.key(at) ?? "");
  for (const key of keys.filter((each) => each.startsWith(`${PREFIX}.`))) {
    const kept = read(storage?.getItem(key) ?? null);
    if (!kept || isOver(kept)) storage?.removeItem(key);
  }
}

/** The orders of one person at one bank. */
export class Orders {
  readonly #prefix: string;
  readonly #storage: Storage | null;
  readonly #memory = new Map<string, Kept>();
  readonly #listeners = new Set<() => void>();

  constructor(bank: string, username: string, storage: Storage | null = localStorageOrNull()) {
    this.#prefix = `${PREFIX}.${bank}.${username}.`;
    this.#storage = storage;
    this.#readAll();
  }

  /** All that is kept, newest first. */
  all(): Kept[] {
    return [...this.#memory.values()].sort((one, other) => other.made - one.made);
  }

  get(id: string): Kept | null {
    return this.#memory.get(id) ?? null;
  }

  /** Keep an order before it is sent. False: this browser keeps it only as long as the page is open. */
  keep(kept: Kept): boolean {
    this.#memory.set(kept.order.id, kept);
    const isKept = this.#write(kept);
    this.#tell();
    return isKept;
  }

  /** Say what has become of an order. What is over stays as it is; what was put away meanwhile stays away. */
  move(id: string, phase: Phase, why: { reason?: string; reasonName?: string; code?: string } = {}): Kept | null {
    const before = this.#memory.get(id);
    if (!before || isOver(before)) return before ?? null;
    const { reason = "", reasonName = "", code = "" } = why;
    if (before.phase === phase && before.reason === reason) return before;
    const kept: Kept = { ...before, phase, reason, reasonName, code, changed: Date.now() };
    this.#memory.set(id, kept);
    this.#write(kept);
    this.#tell();
    return kept;
  }

  /** Put an order away, when it is over or was never sent. */
  forget(id: string): void {
    this.#memory.delete(id);
    try {
      this.#storage?.removeItem(this.#prefix + id);
    } catch {
      // A browser that refuses its storage kept nothing there either.
    }
    this.#tell();
  }

  /** Be told of each change, in this tab or another one; the answer ends that. */
  listen(listener: () => void): () => void {
    if (this.#listeners.size === 0) addEventListener("storage", this.#onStorage);
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) removeEventListener("storage", this.#onStorage);
    };
  }

  readonly #onStorage = (event: StorageEvent) => {
    if (event.key !== null && !event.key.startsWith(this.#prefix)) return;
    if (event.key === null) this.#memory.clear();
    else {
      const kept = read(event.newValue);
      const id = event.key.slice(this.#prefix.length);
      if (kept) this.#memory.set(id, kept);
      else this.#memory.delete(id);
    }
    this.#tell();
  };

  #readAll(): void {
    if (!this.#storage) return;
    const keys = Array.from({ length: this.#storage.length }, (_, at) => this.#storage?.key(at) ?? "");
    for (const key of keys.filter((each) => each.startsWith(this.#prefix))) {
      const kept = read(this.#storage.getItem(key));
      if (kept && !(isOver(kept) && kept.changed < Date.now() - AFTERWARDS_MS)) this.#memory.set(kept.order.id, kept);
      else this.#storage.removeItem(key);
    }
  }

  #write(kept: Kept): boolean {
    try {
      this.#storage?.setItem(this.#prefix + kept.order.id, JSON.stringify(kept));
      return this.#storage !== null;
    } catch {
      return false;
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Local storage, or null where the browser refuses it. */
export function localStorageOrNull(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

const PHASES: readonly string[] = ["sending", "unknown", "held", "not_sent", "done", "refused"] satisfies Phase[];

function read(text: string | null): Kept | null {
  try {
    const kept = JSON.parse(text ?? "null") as Kept | null;
    return kept && PHASES.includes(kept.phase) && /^[0-9a-f]{32}$/.test(kept.order.id) ? kept : null;
  } catch {
    return null;
  }
}
