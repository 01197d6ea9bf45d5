/** Why somebody could not come in, in words; the same for a wrong password and an unknown name. */

import { ApiError, type Problem } from "../api";
import { sentence } from "../components";
import { formatSpan, formatTime } from "../time";
import { CeremonyError } from "../worker/client";

export interface Failure {
  title: string;
  words: string;
  code: string;
  tone: "danger" | "warning";
}

const WRONG = "FT-2001";
const LOCKED = "FT-2002";

function problemOf(error: unknown): Problem | null {
  return error instanceof CeremonyError || error instanceof ApiError ? error.problem : null;
}

const fact = (problem: Problem, name: string): number => {
  const value = problem.facts[name];
  return typeof value === "number" ? value : 0;
};

const later = (until_ms: number): string => {
  const isToday = new Date(until_ms).toDateString() === new Date().toDateString();
  return formatTime(until_ms, isToday ? "clock" : "both");
};

/** Say what went wrong; what is no answer of ours is a fault of the browser and told as such. */
export function failureOf(error: unknown): Failure {
  const problem = problemOf(error);
  if (!problem) {
    const words = error instanceof Error ? error.message : "an unknown fault";
    return { title: "Your browser could not do this.", words: sentence(words), code: "", tone: "danger" };
  }
  const { code } = problem;
  const wait_ms = fact(problem, "wait_ms");
  if (code === WRONG) return { title: "Username or password is wrong.", words: sentence(problem.hint), code, tone: "danger" };
  if (code === LOCKED) return { ...locked(fact(problem, "until_us")), code, tone: "warning" };
  if (problem.status === 429 || wait_ms) {
    const words = wait_ms
      ? `Try again in ${formatSpan(Math.ceil(wait_ms / 1000))}, at ${later(Date.now() + wait_ms)}.`
      : "Wait a moment, then try again.";
    return { title: "Too many attempts.", words, code, tone: "warning" };
  }
  if (problem.status === 503) {
    const words = "Your money is not affected. Try again in a few seconds.";
    return { title: "The bank is switching to its standby.", words, code, tone: "warning" };
  }
  const words = [problem.title === problem.detail ? "" : problem.detail, problem.hint].filter(Boolean).map(sentence);
  return { title: sentence(problem.title), words: words.join(" "), code, tone: "danger" };
}

function locked(until_us: number): { title: string; words: string } {
  const words = until_us
    ? `Too many attempts failed. You can sign in again at ${later(until_us / 1000)}.`
    : "Ask your bank to let you in again.";
  return { title: "You are locked out.", words };
}
