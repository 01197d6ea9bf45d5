/** The orders of who is signed in, and what sends them; begins and ends with the session. */

import { useEffect, useState } from "preact/hooks";
import { api, ApiError } from "../api";
import { connection } from "../connection";
import { useEntries } from "../live";
import { present, type Present } from "../session";
import { type Kept, Orders } from "./orders";
import { Outbox, type Post } from "./outbox";

interface Sending {
  whose: string;
  orders: Orders;
  outbox: Outbox;
}

/** An attempt is not repeated below: the outbox repeats it, and says what it knows meanwhile. */
const ONCE = { patience_ms: 0 };

const post: Post = {
  send: (order) => api.post("/api/payments", { body: order, ...ONCE }),
  look: (id) => api.get("/api/payments/{id}", { path: { id }, ...ONCE }),
  problemOf(error) {
    if (!(error instanceof ApiError)) throw error;
    return error.status === 0 ? null : error.problem;
  },
};

let sending: Sending | null = null;

function follow({ session }: Present): void {
  const whose = session ? `${session.bank}/${session.username}` : "";
  if (whose === (sending?.whose ?? "")) return;
  sending?.outbox.stop();
  sending = null;
  if (!session || session.kind !== "bank") return;
  const orders = new Orders(session.bank, session.username);
  sending = { whose, orders, outbox: new Outbox(orders, post) };
  sending.outbox.start();
}

present.watch(follow);
connection.watch(({ state }) => state === "ok" && sending?.outbox.nudge());
addEventListener("online", () => sending?.outbox.nudge());

/** What sends the orders of who is signed in; null at a gateway, where nobody pays. */
export function outboxOfMine(): Outbox | null {
  follow(present.get());
  return sending?.outbox ?? null;
}

/** The orders kept in this browser, newest first; draws again with each change, also those of other tabs. */
export function useOrders(): Kept[] {
  follow(present.get());
  const orders = sending?.orders;
  const [kept, setKept] = useState<Kept[]>(() => orders?.all() ?? []);
  useEffect(() => {
    setKept(orders?.all() ?? []);
    return orders?.listen(() => {
      setKept(orders.all());
      // another tab may have kept one and been closed at once
      sending?.outbox.start();
    });
  }, [orders]);
  useEntries(() => sending?.outbox.nudge());
  return kept;
}
