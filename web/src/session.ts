/** Who is signed in: learned from the server, renewed while somebody is active, ended on time. */

import { api, ApiError, guardWith, type Session, type Site } from "./api";
import { createStore } from "./store";
import { serverNow } from "./time";

export interface Present {
  /** `asking` until the server has told. */
  state: "asking" | "out" | "in" | "unreachable";
  session: Session | null;
  /** Why somebody who was signed in is not any more. */
  ended: "" | "expired" | "signed_out" | "elsewhere";
}

export const present = createStore<Present>({ state: "asking", session: null, ended: "" });
export const site = createStore<Site | null>(null);

type Role = Session["roles"][number];

/** Whether somebody with one of these roles is signed in; no roles: anybody signed in. */
export function hasRole(roles: readonly Role[] = []): boolean {
  const session = present.get().session;
  return session !== null && (roles.length === 0 || roles.some((role) => session.roles.includes(role)));
}

const RENEW_AFTER = 0.5;
const WARN_BEFORE = 1 / 6;
const WARN_BEFORE_MS_MAX = 120_000;
const TIMER_MS_MAX = 2 ** 31 - 1;
const LEFT_MS_MIN = 500;
const REFRESH_MS = 5000;

const tabs = new BroadcastChannel("fortress");
const atEnd: (() => void)[] = [];

let end_ms = 0;
let life_ms = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
let isRenewing = false;

/** Run something when a session ends, such as forgetting keys. */
export function whenEnded(then: () => void): void {
  atEnd.push(then);
}

/** When the session ends if nobody does anything, once that is near; milliseconds of this device's clock. */
export const warning = createStore<number | null>(null);

function enter(session: Session): void {
  const left_ms = Math.max(Date.parse(session.expires) - serverNow(), LEFT_MS_MIN);
  const isSame = present.get().session?.username === session.username;
  // seen for the first time it may be half over; a renewal then shows how long it is
  life_ms = isSame ? Math.max(life_ms, left_ms) : left_ms;
  end_ms = Date.now() + left_ms;
  present.set({ state: "in", session, ended: "" });
  schedule();
}

function leave(ended: Present["ended"]): void {
  clearTimeout(timer);
  warning.set(null);
  const was = present.get().state;
  present.set({ state: "out", session: null, ended });
  if (was === "in") for (const then of atEnd) then();
}

/** Ask again before the warning, as another tab may have renewed it, and after the end. */
function schedule(): void {
  clearTimeout(timer);
  const now = Date.now();
  const warn = end_ms - Math.min(life_ms * WARN_BEFORE, WARN_BEFORE_MS_MAX);
  const isNear = now >= warn;
  warning.set(isNear ? end_ms : null);
  const wait_ms = (isNear ? end_ms : warn) - now + LEFT_MS_MIN;
  timer = setTimeout(() => void refresh(), Math.min(wait_ms, TIMER_MS_MAX));
}

/** Ask the server who is signed in. */
export async function refresh(): Promise<void> {
  try {
    enter(await api.get("/api/session"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) leave(present.get().state === "in" ? "expired" : present.get().ended);
    else if (present.get().state !== "in") present.set({ state: "unreachable", session: null, ended: "" });
    else {
      clearTimeout(timer);
      timer = setTimeout(() => void refresh(), REFRESH_MS);
    }
  }
}

/** Learn which bank this is and who is signed in; once, at the start. */
export async function begin(): Promise<void> {
  await Promise.all([refresh(), learnSite()]);
}

async function learnSite(): Promise<void> {
  try {
    site.set(await api.get("/api/site"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

/** Exchange a ceremony's token for the session's cookie. */
export async function exchange(token: string): Promise<void> {
  enter(await api.post("/api/session", { body: { token } }));
  tabs.postMessage("changed");
}

/** Give the session its full time again. */
export async function renew(): Promise<void> {
  if (isRenewing) return;
  isRenewing = true;
  try {
    enter(await api.post("/api/session/renew", { patience_ms: 5000 }));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  } finally {
    isRenewing = false;
  }
}

/** Sign out, for good; rejects if the bank could not be told, and then one is still signed in. */
export async function signOut(): Promise<void> {
  try {
    await api.delete("/api/session", { patience_ms: 10_000 });
  } catch (error) {
    // it was over already
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
  }
  leave("signed_out");
  tabs.postMessage("changed");
}

function onActivity(): void {
  if (present.get().state === "in" && end_ms - Date.now() < life_ms * RENEW_AFTER) void renew();
}

for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, onActivity, { passive: true, capture: true });

// a tab that slept has no running timers
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && present.get().state === "in" && Date.now() > end_ms) void refresh();
});

tabs.onmessage = () => {
  const before = present.get().session?.username;
  void refresh().then(() => {
    const now = present.get().session?.username;
    if (before && !now) leave("elsewhere");
    // never show one person's figures under another's name
    if (before && now && before !== now) location.reload();
  });
};

guardWith({
  antiForgery: () => present.get().session?.anti_forgery ?? "",
  isOver: () => {
    if (present.get().state === "in") leave("expired");
  },
  isRenewed: async () => {
    const before = present.get().session;
    await refresh();
    const now = present.get().session;
    return before !== null && now?.username === before.username && now.anti_forgery !== before.anti_forgery;
  },
});
