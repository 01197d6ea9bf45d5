/**
 * Sends the orders that are kept, again and again with the same id, until the bank has said what became of each.
 *
 * One tab at a time drives an order (a Web Lock named after it); the others see its phase in local storage, and one of
 * them goes on when the driving tab is closed. Without locks all tabs drive, which costs requests and nothing else: the
 * bank does an id once.
 */

import type { Problem, Shapes } from "../api";
import { isOver, type Kept, type Order, type Orders } from "./orders";

type Payment = Shapes["Payment"];

/** The way to the bank. Both reject with what `problemOf` reads; null stands for: no answer at all. */
export interface Post {
  send(order: Order): Promise<Payment>;
  look(id: string): Promise<Payment>;
  problemOf(error: unknown): Problem | null;
}

/** Sleeping that can be cut short, so that tests need no time. */
export type Sleep = (ms: number, signal: AbortSignal) => Promise<void>;

/** What an attempt says; `wait_ms`: when to try again, null when there is nothing more to try by itself. */
export interface Finding {
  phase: Kept["phase"];
  reason: string;
  reasonName: string;
  code: string;
  wait_ms: number | null;
}

/** After so long without an answer it is no longer said that an order is just being sent. */
const SLOW_MS = 3_000;
const FIRST_WAIT_MS = 1_000;
const WAIT_MS_MAX = 10_000;
const HELD_WAIT_MS = 2_000;
/** Other banks or the way to them are missing, and nothing was paid: the person decides whether to try again. */
const NOT_SENT = new Set(["FT-3010", "FT-3011", "FT-3012"]);
const NOT_ALLOWED = "FT-2004";

/** How long to wait before the attempt after this many. */
export function waitBefore(attempt: number): number {
  return Math.min(FIRST_WAIT_MS * 2 ** Math.min(attempt, 5), WAIT_MS_MAX);
}

/** Read from a payment how far it is. */
export function findingOf(payment: Payment): Finding {
  const { reason, reason_name: reasonName } = payment;
  const why = { reason: reason ?? "", reasonName: reasonName ?? "", code: "" };
  if (payment.state === "done") return { ...why, phase: "done", wait_ms: null };
  if (payment.state === "pending") return { ...why, phase: "held", wait_ms: HELD_WAIT_MS };
  if (payment.state === "given_up") return { ...why, phase: "not_sent", wait_ms: null };
  return { ...why, phase: "refused", wait_ms: null };
}

/** Read from an error what it says of the payment that was sent. Whatever is not a clear no leaves it unknown. */
export function findingOfProblem(problem: Problem | null, before: Kept["phase"], attempt: number): Finding {
  const unknown = { reason: "", reasonName: "", code: problem?.code ?? "", wait_ms: waitBefore(attempt) };
  if (!problem) return { ...unknown, phase: "unknown" };
  const told = { reason: problem.detail, reasonName: problem.status_name, code: problem.code, wait_ms: null };
  if (NOT_SENT.has(problem.code)) return { ...told, phase: "not_sent" };
  if ([404, 409, 413, 422].includes(problem.status)) return { ...told, phase: "refused" };
  if (problem.status === 403 && problem.code === NOT_ALLOWED) return { ...told, phase: "refused" };
  const isRefusedAtTheDoor = [401, 403, 429].includes(problem.status);
  return { ...unknown, phase: isRefusedAtTheDoor ? before : "unknown" };
}

export class Outbox {
  readonly #orders: Orders;
  readonly #post: Post;
  readonly #sleep: Sleep;
  readonly #slow_ms: number;
  readonly #running = new Set<string>();
  readonly #end = new AbortController();
  #nudge = new AbortController();

  constructor(orders: Orders, post: Post, sleep: Sleep = sleepOrNudge, slow_ms = SLOW_MS) {
    this.#orders = orders;
    this.#post = post;
    this.#sleep = sleep;
    this.#slow_ms = slow_ms;
  }

  /** Go on with all that is not over. */
  start(): void {
    for (const kept of this.#orders.all()) void this.#drive(kept.order.id);
  }

  /** Keep an order and send it; the same order a second time is the same. False: it is not kept over a reload. */
  submit(order: Order, payeeName: string): boolean {
    if (this.#orders.get(order.id)) return true;
    const now = Date.now();
    const why = { reason: "", reasonName: "", code: "" };
    const isKept = this.#orders.keep({ order, payeeName, made: now, changed: now, phase: "sending", ...why });
    void this.#drive(order.id);
    return isKept;
  }

  /** Try again what was not sent, with the same id. */
  again(id: string): void {
    if (this.#orders.get(id)?.phase === "not_sent") this.#orders.move(id, "sending");
    void this.#drive(id);
    this.nudge();
  }

  /** Put away what was not sent, once the bank confirms that it knows of no such payment. */
  async putAway(id: string): Promise<void> {
    const finding = await this.#look(id);
    if (finding === null || finding.phase === "not_sent") this.#orders.forget(id);
    else this.#orders.move(id, finding.phase, finding);
    void this.#drive(id);
  }

  /** Ask at once instead of at the next turn: something happened, or the person pressed "Ask now". */
  nudge(): void {
    this.#nudge.abort();
    this.#nudge = new AbortController();
  }

  /** Stop asking; what is kept stays kept. */
  stop(): void {
    this.#end.abort();
    this.nudge();
  }

  async #drive(id: string): Promise<void> {
    if (this.#running.has(id)) return;
    this.#running.add(id);
    try {
      await locked(`fortress.order.${id}`, this.#end.signal, () => this.#untilOver(id));
    } catch (error) {
      if (!this.#end.signal.aborted) throw error;
      return;
    } finally {
      this.#running.delete(id);
    }
    // it may have been asked for again while this was just ending
    const kept = this.#orders.get(id);
    if (kept && !isOver(kept) && kept.phase !== "not_sent" && !this.#end.signal.aborted) void this.#drive(id);
  }

  async #untilOver(id: string): Promise<void> {
    for (let attempt = 0; !this.#end.signal.aborted; attempt++) {
      const kept = this.#orders.get(id);
      if (!kept || isOver(kept) || kept.phase === "not_sent") return;
      const finding = await this.#attempt(kept, attempt);
      if (this.#end.signal.aborted) return;
      this.#orders.move(id, finding.phase, finding);
      if (finding.wait_ms === null) return;
      await this.#sleep(finding.wait_ms, this.#nudge.signal);
    }
  }

  async #attempt(kept: Kept, attempt: number): Promise<Finding> {
    if (kept.phase === "held") {
      const found = await this.#look(kept.order.id).catch(() => null);
      if (found) return found;
    }
    const slow = setTimeout(() => void this.#sayMore(kept), this.#slow_ms);
    try {
      return findingOf(await this.#post.send(kept.order));
    } catch (error) {
      return this.#surely(findingOfProblem(this.#post.problemOf(error), kept.phase, attempt), kept, attempt);
    } finally {
      clearTimeout(slow);
    }
  }

  // A "no" to a repeat does not say what became of the first try, whose answer may have been lost: the books do.
  async #surely(finding: Finding, kept: Kept, attempt: number): Promise<Finding> {
    if (finding.phase !== "unknown" && finding.phase !== "refused") return finding;
    const found = await this.#look(kept.order.id).catch(() => undefined);
    if (found === undefined) return findingOfProblem(null, kept.phase, attempt);
    return found && found.phase !== "refused" ? found : finding;
  }

  // An answer may take as long as other banks take, or never come: meanwhile nobody is told that all goes well.
  async #sayMore({ order: { id } }: Kept): Promise<void> {
    const found = await this.#look(id).catch(() => null);
    if (this.#orders.get(id)?.phase === "sending") this.#orders.move(id, found?.phase === "held" ? "held" : "unknown");
  }

  // Null: the bank does not know of it, for sure.
  async #look(id: string): Promise<Finding | null> {
    try {
      return findingOf(await this.#post.look(id));
    } catch (error) {
      if (this.#post.problemOf(error)?.status === 404) return null;
      throw error;
    }
  }
}

async function locked(name: string, signal: AbortSignal, act: () => Promise<void>): Promise<void> {
  // Not there on pages that are neither https nor localhost, and in old browsers.
  const { locks } = (globalThis.navigator ?? {}) as { locks?: LockManager };
  if (!locks) return act();
  await locks.request(name, { signal }, act);
}

function sleepOrNudge(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
