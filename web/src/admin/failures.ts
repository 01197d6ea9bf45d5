/** What went wrong with an act, whether the API or the worker that holds keys says so. */

import { ApiError, type Problem } from "../api";
import { CeremonyError } from "../worker/client";

export interface FailureFacts {
  problem: Problem;
  /** Whether it is certain that nothing was done. */
  isDefinite: boolean;
}

const UNFORESEEN: Problem = {
  type: "about:blank",
  title: "the page failed",
  status: 0,
  detail: "Something in this page went wrong.",
  code: "",
  retry: "same_id",
  hint: "Reload the page.",
  status_name: "",
  facts: {},
};

/** What the worker says before anything was sent. */
const BEFORE_SENDING: readonly string[] = ["password_weak", "derivation_refused", "unreachable", "no_key"];

// What says that the request was wrong, or that it is not allowed, did nothing; of anything else it is not known.
const isNo = (problem: Problem): boolean => problem.status >= 400 && problem.status < 500;

/** Read an error; one that nobody foresaw is as good as no answer. */
export function failureOf(error: unknown): FailureFacts {
  if (error instanceof ApiError) return { problem: error.problem, isDefinite: isNo(error.problem) };
  if (error instanceof CeremonyError) {
    const isDefinite = error.kind === "problem" ? isNo(error.problem) : BEFORE_SENDING.includes(error.kind);
    return { problem: error.problem, isDefinite };
  }
  return { problem: UNFORESEEN, isDefinite: false };
}
