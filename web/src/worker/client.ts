// What pages use to sign in, to change keys and to sign orders; the work is done in a worker, away from the page.

import { CeremonyError, localError } from "./errors";
import type { Asked, NewCustomer, Results, SignableOrder, Task, Told } from "./messages";

export { CeremonyError } from "./errors";
export type { Kind, NewCustomer, Problem, Role, SignableOrder } from "./messages";

/** Is told, in words to show, what is being done now. */
export type Progress = (words: string) => void;

/** The part of a Web Worker that is used here. */
export interface Helper {
  onmessage: ((event: MessageEvent<Told>) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  postMessage(asked: Asked, transfer: Transferable[]): void;
  terminate(): void;
}

/** How long to wait, in milliseconds: for the worker to load, and for its next sign of life. */
export interface Patience {
  load_ms: number;
  silence_ms: number;
}

/** A ceremony is over after 60 s at the latest, since its socket closes then; a derivation alone takes about one. */
export const PATIENCE: Patience = { load_ms: 30_000, silence_ms: 75_000 };

interface Waiting {
  resolve: (result: never) => void;
  reject: (error: CeremonyError) => void;
  progress: Progress;
  timer: ReturnType<typeof setTimeout>;
}

const NO_PROGRESS: Progress = () => undefined;

/**
 * Signs in, registers, changes passwords and signs orders. All answers are promises; they reject with `CeremonyError`.
 *
 * The key that signs orders stays in the worker's memory after each of the first three, until `forget`, a reload, or
 * a failure of the worker; then `holdsKey` is false and the person types the password again (`signIn`).
 */
export class Ceremonies {
  #helper: Helper | null = null;
  #isReady = false;
  #number = 0;
  readonly #waiting = new Map<number, Waiting>();
  readonly #start: () => Helper;
  readonly #patience: Patience;

  /** `start` makes the worker; it is called when there is something to do and none runs. */
  constructor(start: () => Helper, patience: Patience = PATIENCE) {
    this.#start = start;
    this.#patience = patience;
  }

  /** Load the worker ahead of need, such as while a password is typed. A failure shows when it is used. */
  warmUp(): void {
    void this.#ask({ kind: "holds_key", username: "" }).catch(() => undefined);
  }

  /** Sign in; the token is to be exchanged for the cookie with POST /api/session. */
  signIn(username: string, password: string, progress: Progress = NO_PROGRESS): Promise<{ token: string }> {
    return this.#ask({ kind: "sign_in", username, password: bytesOf(password) }, progress);
  }

  /** Become a customer with an invitation code; the token is to be exchanged for the cookie. */
  register(
    code: string,
    username: string,
    name: string,
    password: string,
    progress: Progress = NO_PROGRESS,
  ): Promise<{ token: string }> {
    return this.#ask({ kind: "register", code, username, name, password: bytesOf(password) }, progress);
  }

  /** Replace the password of who is signed in; all older tokens end, so the new one must be exchanged at once. */
  changePassword(
    username: string,
    old: string,
    password: string,
    progress: Progress = NO_PROGRESS,
  ): Promise<{ token: string }> {
    const task = { kind: "change_password", username, old: bytesOf(old), password: bytesOf(password) } as const;
    return this.#ask(task, progress);
  }

  /** Make a customer with a first password (administrator); with an `approval`, a second one must agree first. */
  createCustomer(customer: NewCustomer, progress: Progress = NO_PROGRESS): Promise<{ approval: string }> {
    return this.#ask({ ...customer, kind: "create_customer", password: bytesOf(customer.password) }, progress);
  }

  /** Reject with `password_weak` if this may not be a new password; nothing is sent. */
  async checkPassword(password: string): Promise<void> {
    await this.#ask({ kind: "check_password", password: bytesOf(password) });
  }

  /** Whether orders of this person can be signed without typing the password again. */
  holdsKey(username: string): Promise<boolean> {
    return this.#ask({ kind: "holds_key", username });
  }

  /** Sign a payment order; 128 hexadecimal digits come back. Rejects with `no_key` where `holdsKey` is false. */
  signOrder(username: string, order: SignableOrder): Promise<string> {
    return this.#ask({ kind: "sign_order", username, order });
  }

  /**
   * Drop the key, such as when a session ends. What is under way goes on: a change of password ends the old session
   * before the token of the new one has arrived.
   */
  forget(): void {
    if (this.#waiting.size > 0) void this.#ask({ kind: "forget" }).catch(() => undefined);
    else this.#end();
  }

  #ask<T extends Task>(task: T, progress: Progress = NO_PROGRESS): Promise<Results[T["kind"]]> {
    return new Promise<Results[T["kind"]]>((resolve, reject) => {
      const number = ++this.#number;
      try {
        const helper = this.#running();
        const timer = this.#timer(number);
        this.#waiting.set(number, { resolve: resolve as (result: never) => void, reject, progress, timer });
        helper.postMessage({ number, task }, buffersOf(task));
      } catch (error) {
        this.#fail(localError("worker_failed", wordsOf(error)));
        reject(localError("worker_failed", wordsOf(error)));
      }
    });
  }

  #running(): Helper {
    if (this.#helper) return this.#helper;
    const helper = this.#start();
    this.#helper = helper;
    this.#isReady = false;
    helper.onmessage = (event) => this.#hear(event.data);
    helper.onmessageerror = () => this.#fail(localError("worker_failed", "an answer of the worker is unreadable"));
    helper.onerror = (event) => {
      const words = event.message || "the worker could not be loaded";
      this.#fail(localError("worker_failed", words));
    };
    return helper;
  }

  #timer(number: number): ReturnType<typeof setTimeout> {
    const limit = this.#isReady ? this.#patience.silence_ms : this.#patience.load_ms;
    const words = this.#isReady ? "the worker does not answer" : "the worker did not load in time";
    return setTimeout(() => {
      if (this.#waiting.has(number)) this.#fail(localError("worker_silent", words));
    }, limit);
  }

  #hear(told: Told): void {
    if (told.type === "ready") {
      this.#isReady = true;
      for (const number of this.#waiting.keys()) this.#rewind(number);
      return;
    }
    const waiting = this.#waiting.get(told.number);
    if (!waiting) return;
    if (told.type === "progress") {
      this.#rewind(told.number);
      waiting.progress(told.words);
      return;
    }
    clearTimeout(waiting.timer);
    this.#waiting.delete(told.number);
    if (told.type === "done") waiting.resolve(told.result as never);
    else waiting.reject(new CeremonyError(told.kind, told.problem));
  }

  #rewind(number: number): void {
    const waiting = this.#waiting.get(number);
    if (!waiting) return;
    clearTimeout(waiting.timer);
    waiting.timer = this.#timer(number);
  }

  // A worker that failed once is not trusted with the next task: the next one starts anew.
  #fail(error: CeremonyError): void {
    this.#end();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const each of waiting) {
      clearTimeout(each.timer);
      each.reject(error);
    }
  }

  #end(): void {
    const helper = this.#helper;
    this.#helper = null;
    if (!helper) return;
    helper.onmessage = helper.onmessageerror = helper.onerror = null;
    helper.terminate();
  }
}

function bytesOf(password: string): Uint8Array {
  return new TextEncoder().encode(password.normalize("NFC"));
}

function buffersOf(task: Task): Transferable[] {
  return Object.values(task).flatMap((part) => (part instanceof Uint8Array ? [part.buffer] : []));
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : "the worker could not be started";
}

/** The one of this tab. */
export const ceremonies = new Ceremonies(
  () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "fortress" }) as Helper,
);
