// What sends the payments of a browser: each is done once, and nobody is told more than is known.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Problem, Shapes } from "../src/api";
import { forgetWhatIsOver, type Kept, type Order, Orders } from "../src/customer/orders";
import { findingOfProblem, Outbox, type Post, waitBefore } from "../src/customer/outbox";

type Payment = Shapes["Payment"];

const ID = "0199c0de000070008000000000000001";
const ORDER: Order = {
  id: ID,
  debit: 100186,
  payee: "b/200265",
  amount: "1250",
  currency: "EUR",
  reference: "",
  not_after: "0",
  signature: "",
};

class Memory implements Storage {
  readonly #kept = new Map<string, string>();
  get length(): number {
    return this.#kept.size;
  }
  clear = (): void => this.#kept.clear();
  getItem = (key: string): string | null => this.#kept.get(key) ?? null;
  key = (at: number): string | null => [...this.#kept.keys()][at] ?? null;
  removeItem = (key: string): void => void this.#kept.delete(key);
  setItem = (key: string, value: string): void => void this.#kept.set(key, value);
}

const problem = (status: number, code = "", name = ""): Problem => ({
  type: "about:blank",
  title: "",
  status,
  detail: "why",
  code,
  retry: "",
  hint: "",
  status_name: name,
  facts: {},
});

const payment = (state: Payment["state"]): Payment => ({ ...({} as Payment), id: ID, state, reason: "", reason_name: "" });

/** A bank that answers what it is told to, one answer after the other. */
class Script implements Post {
  readonly sent: Order[] = [];
  constructor(
    readonly answers: (Payment | Problem | null)[],
    readonly looks: (Payment | Problem | null)[] = [],
  ) {}
  async send(order: Order): Promise<Payment> {
    this.sent.push(order);
    return this.#told(this.answers.shift());
  }
  async look(): Promise<Payment> {
    return this.#told(this.looks.shift() ?? problem(404));
  }
  problemOf = (error: unknown): Problem | null => (error as { problem: Problem | null }).problem;
  #told(answer: Payment | Problem | null | undefined): Payment {
    if (answer === undefined) throw new assert.AssertionError({ message: "the bank was asked once too often" });
    if (answer === null || "status" in answer) throw { problem: answer };
    return answer;
  }
}

/** Send an order and give the phases it went through, until it rests. */
async function phases(post: Script, storage: Storage = new Memory()): Promise<{ seen: Kept["phase"][]; orders: Orders }> {
  const orders = new Orders("a", "alice", storage);
  const seen: Kept["phase"][] = [];
  const outbox = new Outbox(orders, post, async () => undefined);
  await new Promise<void>((resolve) => {
    Object.assign(globalThis, { addEventListener: () => undefined, removeEventListener: () => undefined });
    orders.listen(() => {
      const phase = orders.get(ID)?.phase ?? "sending";
      if (seen.at(-1) !== phase) seen.push(phase);
      if (["done", "refused", "not_sent"].includes(phase)) resolve();
    });
    outbox.submit(ORDER, "Carla");
    outbox.submit(ORDER, "Carla");
  });
  outbox.stop();
  return { seen, orders };
}

test("an order that is submitted twice is sent once", async () => {
  const post = new Script([payment("done")]);
  assert.deepEqual((await phases(post)).seen, ["sending", "done"]);
  assert.equal(post.sent.length, 1);
});

test("no answer is not an answer: the same order goes out again until there is one", async () => {
  const post = new Script([null, problem(504), problem(500), payment("done")]);
  assert.deepEqual((await phases(post)).seen, ["sending", "unknown", "done"]);
  assert.deepEqual(post.sent, [ORDER, ORDER, ORDER, ORDER]);
});

test("a payment that waits for another bank is on hold until that has decided", async () => {
  const post = new Script([problem(504)], [payment("pending"), payment("pending"), payment("done")]);
  assert.deepEqual((await phases(post)).seen, ["sending", "held", "done"]);
  assert.equal(post.sent.length, 1);
});

test("a repeat that is refused says nothing of a payment that was done before", async () => {
  // the first answer is lost, and the password, and so the key, is changed in between
  const post = new Script([null, problem(409, "FT-1058", "order_signature_invalid")], [null, payment("done")]);
  assert.deepEqual((await phases(post)).seen, ["sending", "unknown", "done"]);
});

test("a refusal that cannot be held against the books is asked for again", async () => {
  const post = new Script([problem(422), problem(422)], [problem(503)]);
  assert.deepEqual((await phases(post)).seen, ["sending", "unknown", "refused"]);
});

test("what is over is forgotten when somebody signs out, and what is not over is kept", async () => {
  const storage = new Memory();
  await phases(new Script([payment("done")]), storage);
  forgetWhatIsOver(storage);
  assert.equal(storage.length, 0);
  await phases(new Script([problem(503, "FT-3011")]), storage);
  forgetWhatIsOver(storage);
  assert.equal(storage.length, 1);
});

test("a refusal is final and says why", async () => {
  const { orders } = await phases(new Script([problem(409, "FT-1016", "exceeds_available")]));
  assert.equal(orders.get(ID)?.reasonName, "exceeds_available");
  orders.move(ID, "done");
  assert.equal(orders.get(ID)?.phase, "refused");
});

test("where nothing was paid for sure, the person decides", async () => {
  const post = new Script([problem(503, "FT-3011")]);
  assert.deepEqual((await phases(post)).seen, ["sending", "not_sent"]);
});

test("an order is in the storage before it is sent, so that a page that is loaded anew goes on with it", async () => {
  const storage = new Memory();
  const post = new Script([payment("done")]);
  const send = post.send.bind(post);
  post.send = (order) => {
    assert.deepEqual(new Orders("a", "alice", storage).get(ID)?.order, ORDER);
    assert.equal(new Orders("a", "bob", storage).get(ID), null);
    return send(order);
  };
  await phases(post, storage);
  assert.equal(new Orders("a", "alice", storage).get(ID)?.phase, "done");
});

test("signed out, throttled or without a fresh token, an order stays what it was", () => {
  for (const status of [401, 403, 429]) assert.equal(findingOfProblem(problem(status), "held", 0).phase, "held");
  assert.equal(findingOfProblem(problem(403, "FT-2004"), "sending", 0).phase, "refused");
});

test("the waits grow and are bounded", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 99].map(waitBefore), [1000, 2000, 4000, 8000, 10000, 10000]);
});
