/**
 * Talks with the pages' server: typed by its own description, patient while the bank switches, and errors are one class.
 *
 *     const { accounts } = await api.get("/api/accounts");
 *     const page = await api.get("/api/accounts/{number}/history", { path: { number }, query: { limit: 20 } });
 *     const payment = await api.post("/api/payments", { body: order });
 *
 * A change that meets a 503 or 504, or no answer, is sent again with the same body until `patience_ms` is over; all
 * changes are safe to repeat, since their id, or the state they set, is in them.
 */

import { connection, seen } from "./connection";
import type { components, paths } from "./schema";
import { heardDate } from "./time";

export type Shapes = components["schemas"];
export type Problem = Required<Shapes["Problem"]>;
export type Session = Shapes["Session"];
export type Site = Shapes["Site"];

/** An answer that is no success, or no answer: then `status` is 0. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
  get status(): number {
    return this.problem.status;
  }
  /** The bank's code, such as FT-2001, or empty. */
  get code(): string {
    return this.problem.code;
  }
  /** A rule of the bank said no, for certain; `problem.status_name` names it. */
  get isRefusal(): boolean {
    return this.status === 409;
  }
  /** Nobody decides now; the same again, later. */
  get isSwitching(): boolean {
    return this.status === 503 || this.status === 0;
  }
  /** It may have been done or not: ask, or send the same again. */
  get isUnknown(): boolean {
    return this.status === 504 || this.status === 0;
  }
}

type Method = "get" | "post" | "put" | "delete";
type PathsWith<M extends Method> = { [P in keyof paths]: paths[P][M] extends object ? P : never }[keyof paths];
type PathOf<O> = O extends { parameters: { path: infer T } } ? { path: T } : { path?: undefined };
type QueryOf<O> = O extends { parameters: { query: infer T } }
  ? { query: T }
  : O extends { parameters: { query?: infer T } }
    ? { query?: T }
    : { query?: undefined };
type BodyOf<O> = O extends { requestBody: { content: { "application/json": infer T } } }
  ? { body: T }
  : { body?: undefined };
/** What an operation answers. */
export type AnswerOf<O> = O extends { responses: { 200: { content: { "application/json": infer T } } } } ? T : undefined;

export interface Patience {
  signal?: AbortSignal;
  /** How long to go on trying while the bank does not answer; a get 15 s, a change 60 s. */
  patience_ms?: number;
  /** Is told each time that it did not work yet. */
  onWaiting?: (error: ApiError) => void;
}
type Options<O> = PathOf<O> & QueryOf<O> & BodyOf<O> & Patience;
type Given<O> = Record<never, never> extends Options<O> ? [options?: Options<O>] : [options: Options<O>];

interface Sent extends Patience {
  path?: object | undefined;
  query?: object | undefined;
  body?: unknown;
}

/** What the pages' server knows by itself; such an answer does not show that the bank answers. */
const ANSWERED_HERE = /^\/api\/(site|lab|admin\/(cluster|samples|events))\b/;
const ATTEMPT_MS = 20_000;
const PATIENCE_MS = { get: 15_000, change: 60_000 };
const PAUSES_MS = [250, 500, 1000, 2000];

/** What the session brings in: its token, what to do when it is over, and how to learn of a newer token. */
export interface Guard {
  antiForgery: () => string;
  isOver: () => void;
  /** Ask who is signed in now; true if the token is another one now and the person the same. */
  isRenewed: () => Promise<boolean>;
}
let guard: Guard = { antiForgery: () => "", isOver: () => undefined, isRenewed: async () => false };

/** Let the session take part; called once, by the session. */
export function guardWith(its: Guard): void {
  guard = its;
}

/** Fill a path's template and add the query, as an address of the API. */
export function addressOf(path: string, values: object = {}, query: object = {}): string {
  const given = new Map<string, unknown>(Object.entries(values));
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(given.get(name))));
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") asked.set(name, String(value));
  }
  const text = asked.toString();
  return text ? `${filled}?${text}` : filled;
}

async function once(method: Method, address: string, sent: Sent): Promise<unknown> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "get") headers["X-Fortress-Anti-Forgery"] = guard.antiForgery() || "none";
  const init: RequestInit = { method: method.toUpperCase(), headers, credentials: "same-origin", cache: "no-store" };
  if (sent.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(sent.body);
  }
  const limit = AbortSignal.timeout(ATTEMPT_MS);
  init.signal = sent.signal ? AbortSignal.any([sent.signal, limit]) : limit;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(address, init);
    text = await answer.text();
  } catch (error) {
    if (sent.signal?.aborted) throw error;
    seen("offline");
    throw new ApiError(NO_ANSWER);
  }
  heardDate(answer.headers.get("Date"));
  if (!answer.ok) throw new ApiError(problemOf(answer.status, text));
  if (connection.get().state !== "switching" || !ANSWERED_HERE.test(address)) seen("ok");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ApiError(problemOf(502, ""));
  }
}

const NO_ANSWER: Problem = {
  type: "about:blank",
  title: "no answer",
  status: 0,
  detail: "Your device does not reach the bank.",
  code: "",
  retry: "same_id",
  hint: "Check your connection; the page goes on by itself as soon as it can.",
  status_name: "",
  facts: {},
};

function problemOf(status: number, text: string): Problem {
  let told: Partial<Problem> = {};
  try {
    const read: unknown = JSON.parse(text);
    if (typeof read === "object" && read !== null) told = read;
  } catch {
    // a load balancer between us and the bank speaks no JSON
  }
  const isPassing = status === 502 || status === 503 || status === 504;
  const bare = { type: "about:blank", title: `status ${status}`, detail: "", code: "", hint: "", status_name: "" };
  // 502 without a code comes from a load balancer whose server just went away
  const meant = status === 502 && !told.code ? 503 : status;
  return { ...bare, facts: {}, retry: isPassing ? "same_id" : "never", ...told, status: meant };
}

async function call(method: Method, path: string, sent: Sent = {}): Promise<unknown> {
  const address = addressOf(path, sent.path, sent.query);
  const end = Date.now() + (sent.patience_ms ?? PATIENCE_MS[method === "get" ? "get" : "change"]);
  let isSecondToken = false;
  for (let attempt = 0; ; attempt++) {
    try {
      return await once(method, address, sent);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 503) seen("switching");
      else if (error.status !== 0) seen("ok");
      if (error.status === 401) guard.isOver();
      if (error.status === 403 && method !== "get" && !isSecondToken && (await guard.isRenewed())) {
        isSecondToken = true;
        continue;
      }
      const pause = PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)] ?? 2000;
      if (!(error.isSwitching || error.isUnknown) || Date.now() + pause > end) throw error;
      sent.onWaiting?.(error);
      await wait(pause * (0.75 + Math.random() / 2), sent.signal);
    }
  }
}

function wait(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}

function caller<M extends Method>(method: M) {
  return <P extends PathsWith<M>>(path: P, ...[options]: Given<paths[P][M]>): Promise<AnswerOf<paths[P][M]>> =>
    call(method, path as string, options) as Promise<AnswerOf<paths[P][M]>>;
}

export const api = { get: caller("get"), post: caller("post"), put: caller("put"), delete: caller("delete") };

/** The same for addresses that are known only while running; prefer `api`. */
export const ask = call;
