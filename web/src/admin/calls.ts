/** What staff asks of the bank; one line for each operation of the API that these pages use. */

import { api, type Shapes } from "../api";
import type { Cash } from "./counter";

type Signal = AbortSignal | undefined;
type Body<Name extends keyof Shapes> = Shapes[Name];

/** For what is asked again by itself soon: not to be tried for long, so that a failure shows. */
const soon = (signal: Signal) => ({ patience_ms: 0, ...(signal ? { signal } : {}) });
const once = (signal: Signal) => (signal ? { signal } : {});

export const calls = {
  cluster: (signal?: AbortSignal) => api.get("/api/admin/cluster", soon(signal)),
  samples: (signal?: AbortSignal) => api.get("/api/admin/samples", soon(signal)),
  events: (signal?: AbortSignal) => api.get("/api/admin/events", soon(signal)),
  books: (signal?: AbortSignal) => api.get("/api/admin/books", soon(signal)),
  trail: (cursor: number, limit: number, signal?: AbortSignal) =>
    api.get("/api/admin/trail", { query: { cursor, limit }, ...soon(signal) }),

  users: (after: number, limit: number, signal?: AbortSignal) =>
    api.get("/api/admin/users", { query: { after, limit }, ...once(signal) }),
  user: (username: string, signal?: AbortSignal) =>
    api.get("/api/admin/users/{username}", { path: { username }, ...once(signal) }),
  invite: (body: Body<"Invitation">) => api.post("/api/admin/invitations", { body }),
  setRoles: (username: string, body: Body<"Roles">) =>
    api.put("/api/admin/users/{username}/roles", { path: { username }, body }),
  lock: (username: string, hours: number) =>
    api.post("/api/admin/users/{username}/lock", { path: { username }, body: { hours } }),
  unlock: (username: string) => api.post("/api/admin/users/{username}/unlock", { path: { username }, body: {} }),
  erase: (username: string, id: string) =>
    api.post("/api/admin/users/{username}/erase", { path: { username }, body: { id } }),

  accountsOf: (username: string, after: number, limit: number, signal?: AbortSignal) =>
    api.get("/api/admin/accounts", { query: { username, after, limit }, ...once(signal) }),
  account: (number: number, signal?: AbortSignal) =>
    api.get("/api/admin/accounts/{number}", { path: { number }, ...soon(signal) }),
  openAccount: (body: Body<"NewAccount">) => api.post("/api/admin/accounts", { body }),
  freeze: (number: number, debits_only: boolean) =>
    api.post("/api/admin/accounts/{number}/freeze", { path: { number }, body: { debits_only } }),
  unfreeze: (number: number) => api.post("/api/admin/accounts/{number}/unfreeze", { path: { number }, body: {} }),
  close: (number: number) => api.post("/api/admin/accounts/{number}/close", { path: { number }, body: {} }),
  reopen: (number: number) => api.post("/api/admin/accounts/{number}/reopen", { path: { number }, body: {} }),
  setLimits: (number: number, body: Body<"Limits">) =>
    api.put("/api/admin/accounts/{number}/limits", { path: { number }, body }),
  cash: ({ way, by: _by, ...body }: Cash) =>
    way === "deposit" ? api.post("/api/admin/deposits", { body }) : api.post("/api/admin/withdrawals", { body }),

  approvals: (signal?: AbortSignal) => api.get("/api/admin/approvals", soon(signal)),
  decide: (id: string, decline: boolean) => api.post("/api/admin/approvals/{id}", { path: { id }, body: { decline } }),

  doubts: (signal?: AbortSignal) => api.get("/api/admin/doubts", soon(signal)),
  payment: (id: string, signal?: AbortSignal) => api.get("/api/payments/{id}", { path: { id }, ...soon(signal) }),
  resolve: (payment: string, body: Body<"Resolution">) =>
    api.post("/api/admin/payments/{id}/resolve", { path: { id: payment }, body }),

  banks: (signal?: AbortSignal) => api.get("/api/banks", soon(signal)),
  addBank: (body: Body<"NewBank">) => api.post("/api/admin/banks", { body }),
  suspend: (bank: string, body: Body<"Suspension">) =>
    api.post("/api/admin/banks/{bank}/suspend", { path: { bank }, body }),
  positions: (signal?: AbortSignal) => api.get("/api/admin/positions", soon(signal)),
  windows: (signal?: AbortSignal) => api.get("/api/admin/windows", soon(signal)),
  window: (number: number, signal?: AbortSignal) =>
    api.get("/api/admin/windows/{number}", { path: { number }, ...soon(signal) }),
  closeWindow: (id: string) => api.post("/api/admin/windows/close", { body: { id } }),

  lab: (signal?: AbortSignal) => api.get("/api/lab", soon(signal)),
  labAct: (name: string, act: Body<"LabAct">["act"]) => api.post("/api/lab/{name}", { path: { name }, body: { act } }),
};
