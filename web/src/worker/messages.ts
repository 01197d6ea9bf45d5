// What the page and its worker say to each other. Passwords cross as bytes whose buffer is handed over, not copied.

import type { components } from "../schema";

type Shapes = components["schemas"];

/** An error as the API tells it; errors that begin in the browser have the same form. */
export type Problem = Required<Shapes["Problem"]>;

export type Role = Shapes["Session"]["roles"][number];

/** A payment as its payer signs it: the API's order, and the payer's bank. */
export type SignableOrder = Required<Omit<Shapes["PaymentOrder"], "signature">> & { bank: string };

/**
 * What went wrong, for a program.
 *
 * - `problem`: the bank or its pages said no; see the problem.
 * - `password_weak`: a new password is too short or too common; nothing was sent.
 * - `derivation_refused`: the bank asked for unsafe key derivation; nothing was sent.
 * - `outcome_unknown`: the connection ended before the answer.
 * - `unreachable`: the bank did not answer; nothing was done.
 * - `no_key`: this tab holds no key of that person to sign with; ask for the password.
 * - `worker_failed`: the browser could not load or run the worker.
 * - `worker_silent`: the worker did not answer in time.
 */
export type Kind =
  | "problem"
  | "password_weak"
  | "derivation_refused"
  | "outcome_unknown"
  | "unreachable"
  | "no_key"
  | "worker_failed"
  | "worker_silent";

export interface NewCustomer {
  id: string;
  username: string;
  name: string;
  roles: Role[];
  password: string;
}

export type Task =
  | { kind: "sign_in"; username: string; password: Uint8Array }
  | { kind: "register"; code: string; username: string; name: string; password: Uint8Array }
  | { kind: "change_password"; username: string; old: Uint8Array; password: Uint8Array }
  | { kind: "create_customer"; id: string; username: string; name: string; roles: Role[]; password: Uint8Array }
  | { kind: "check_password"; password: Uint8Array }
  | { kind: "holds_key"; username: string }
  | { kind: "sign_order"; username: string; order: SignableOrder }
  | { kind: "forget" };

/** What each task ends with. */
export interface Results {
  sign_in: { token: string };
  register: { token: string };
  change_password: { token: string };
  create_customer: { approval: string };
  check_password: null;
  holds_key: boolean;
  sign_order: string;
  forget: null;
}

export type Result = Results[keyof Results];

export interface Asked {
  number: number;
  task: Task;
}

export type Told =
  | { type: "ready" }
  | { type: "progress"; number: number; words: string }
  | { type: "done"; number: number; result: Result }
  | { type: "failed"; number: number; kind: Kind; problem: Problem };
