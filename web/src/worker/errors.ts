// Errors of signing in and of keys. Each carries a problem in the API's form, so that pages show all errors alike.

import type { Kind, Problem } from "./messages";

/** Why a ceremony or a signature did not come about. */
export class CeremonyError extends Error {
  readonly kind: Kind;
  readonly problem: Problem;

  constructor(kind: Kind, problem: Problem) {
    super(problem.detail);
    this.name = "CeremonyError";
    this.kind = kind;
    this.problem = problem;
  }
}

interface Words {
  code: string;
  title: string;
  retry: string;
  hint: string;
}

type Local = Exclude<Kind, "problem">;

/** The codes are those of the errors with the same meaning in the bank's list (`fortress explain`). */
const LOCAL: Record<Local, Words> = {
  password_weak: {
    code: "FT-2007",
    title: "The password is too short or too common",
    retry: "never",
    hint: "use at least 10 characters that are not a well-known password; a phrase of words is best",
  },
  derivation_refused: {
    code: "FT-2009",
    title: "The server asks for unsafe key derivation",
    retry: "never",
    hint: "do not sign in here; tell the bank",
  },
  outcome_unknown: {
    code: "FT-3007",
    title: "We do not know yet whether it was done",
    retry: "never",
    hint: "sign in with the new password to find out",
  },
  unreachable: {
    code: "FT-3006",
    title: "The bank does not answer",
    retry: "same_id",
    hint: "nothing was done; try again in a moment",
  },
  no_key: {
    code: "FT-6000",
    title: "Your signing key is not in this tab",
    retry: "never",
    hint: "enter your password again",
  },
  worker_failed: {
    code: "FT-6000",
    title: "Your browser could not do the cryptography",
    retry: "same_id",
    hint: "reload the page; an up-to-date browser with WebAssembly is needed",
  },
  worker_silent: {
    code: "FT-6000",
    title: "Your browser takes too long for the cryptography",
    retry: "same_id",
    hint: "close other tabs and try again",
  },
};

/** Make an error that began in the browser. */
export function localError(
  kind: Local,
  detail: string,
  { facts = {}, hint = LOCAL[kind].hint }: { facts?: Problem["facts"]; hint?: string } = {},
): CeremonyError {
  const words = { ...LOCAL[kind], hint };
  return new CeremonyError(kind, { type: "about:blank", status: 0, detail, status_name: "", facts, ...words });
}
