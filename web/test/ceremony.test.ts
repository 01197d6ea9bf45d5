// What is said to the bank in each ceremony, and what becomes of lost wires, silent banks and unclear ends.

import assert from "node:assert/strict";
import { createHash, webcrypto } from "node:crypto";
import { test } from "node:test";
import { bytesOfHex, hexOf, utf8 } from "../src/worker/bytes";
import type { World } from "../src/worker/ceremony";
import { CeremonyError } from "../src/worker/errors";
import { Keeper } from "../src/worker/keeper";
import type { SignableOrder, Task } from "../src/worker/messages";
import { type Wire, WireLost } from "../src/worker/wire";

type Said = Record<string, unknown>;
type Answer = (said: Said) => Said[];

const SALT = "0123456789abcdef0123456789abcdef";
const CHANNEL: Said = { type: "channel", bank: "bank-a", channel: "ab".repeat(32) };
const CHALLENGE: Said = {
  type: "challenge",
  salt: SALT,
  memory_kib: 65_536,
  iterations: 3,
  lanes: 1,
  nonce: "cd".repeat(32),
};
const TICKET: Said = { type: "ticket", token: "the token" };
const PASSWORD = "tree river 77 lamp";
const ORDER: SignableOrder = {
  bank: "bank-a",
  id: "00".repeat(16),
  debit: 1_000_168,
  payee: "bank-b/1000265",
  amount: "12345",
  currency: "EUR",
  reference: "rent",
  not_after: "0",
};

function problem(status: number, code = "FT-3009"): Said {
  const words = { title: "no", detail: "not now", code, retry: "same_id", hint: "wait", status_name: "", facts: {} };
  return { type: "problem", status, ...words };
}

/** A bank that says what its script says; a script that ends loses the wire, so does a bank that has none left. */
class Bank {
  readonly said: Said[] = [];
  readonly words: string[] = [];
  opened = 0;
  closed = 0;
  #now_ms = 0;
  readonly #scripts: Answer[];

  constructor(...scripts: Answer[]) {
    this.#scripts = scripts;
  }

  get world(): World {
    return {
      open: () => this.#open(),
      random: (size) => webcrypto.getRandomValues(new Uint8Array(size)),
      // the real one takes a second, and has its own test
      derive: (password, salt) => Promise.resolve(Uint8Array.from(createHash("sha256").update(password).update(salt).digest())),
      now_ms: () => this.#now_ms,
      pause: (ms) => {
        this.#now_ms += ms;
        return Promise.resolve();
      },
      progress: (words) => void this.words.push(words),
    };
  }

  get kinds(): unknown[] {
    return this.said.map((each) => each["type"]);
  }

  derivations(): number {
    return this.words.filter((each) => each.startsWith("Making the key")).length;
  }

  #open(): Promise<Wire> {
    const script = this.#scripts[this.opened];
    if (!script) return Promise.reject(new WireLost("nobody there"));
    this.opened += 1;
    const queue: Said[] = [CHANNEL];
    return Promise.resolve({
      send: (text) => {
        const said = JSON.parse(text) as Said;
        this.said.push(said);
        queue.push(...script(said));
      },
      receive: () => {
        const next = queue.shift();
        return next ? Promise.resolve(JSON.stringify(next)) : Promise.reject(new WireLost("closed"));
      },
      close: () => void (this.closed += 1),
    });
  }
}

/** Answers by the type of what was said; what has no answer loses the wire. */
function answers(table: Record<string, Said[]>): Answer {
  return (said) => table[String(said["type"])] ?? [];
}

/** Knows the salt of the key that was sent, as a bank does that has done what it did not get to say. */
function remembering(bank: () => Bank, table: Record<string, Said[]>): Answer {
  return (said) => {
    const sent = bank().said.find((each) => each["key"]);
    const key = (sent?.["key"] ?? {}) as Said;
    const { salt, memory_kib, iterations, lanes } = key;
    if (said["type"] === "login_begin") return [{ ...CHALLENGE, salt, memory_kib, iterations, lanes }];
    return table[String(said["type"])] ?? [];
  };
}

const LOGIN = answers({ login_begin: [CHALLENGE], login_finish: [TICKET] });

function signIn(password = PASSWORD): Task {
  return { kind: "sign_in", username: "ada", password: utf8(password) };
}

function register(password = PASSWORD): Task {
  return { kind: "register", code: "code-code", username: "ada", name: "Ada", password: utf8(password) };
}

function changePassword(): Task {
  return { kind: "change_password", username: "ada", old: utf8("old words 12"), password: utf8(PASSWORD) };
}

async function failure(bank: Bank, task: Task): Promise<CeremonyError> {
  const failed: unknown = await new Keeper().perform(task, bank.world).then(
    () => assert.fail("it was not refused"),
    (error: unknown) => error,
  );
  assert.ok(failed instanceof CeremonyError, String(failed));
  return failed;
}

test("signing in takes three moves, and leaves a key to sign with and no password", async () => {
  const bank = new Bank(LOGIN);
  const keeper = new Keeper();
  const task = { kind: "sign_in" as const, username: "ada", password: utf8(PASSWORD) };
  assert.deepEqual(await keeper.perform(task, bank.world), { token: "the token" });
  assert.deepEqual(bank.kinds, ["login_begin", "login_finish"]);
  assert.equal(bank.closed, 1);
  assert.ok(task.password.every((byte) => byte === 0), "the password is wiped");
  const sent = JSON.stringify(bank.said);
  assert.ok(!sent.includes(PASSWORD) && !sent.includes(hexOf(utf8(PASSWORD))));
  assert.equal(await keeper.perform({ kind: "holds_key", username: "ada" }, bank.world), true);
  assert.equal(await keeper.perform({ kind: "holds_key", username: "bob" }, bank.world), false);
  const signed = await keeper.perform({ kind: "sign_order", username: "ada", order: ORDER }, bank.world);
  assert.match(String(signed), /^[0-9a-f]{128}$/);
  await keeper.perform({ kind: "forget" }, bank.world);
  assert.equal(await keeper.perform({ kind: "holds_key", username: "ada" }, bank.world), false);
});

test("nothing is signed for a person whose key is not here", async () => {
  const task: Task = { kind: "sign_order", username: "ada", order: ORDER };
  assert.equal((await failure(new Bank(), task)).kind, "no_key");
});

test("a wrong password is told as the bank tells it, after one try, and is wiped", async () => {
  const bank = new Bank(answers({ login_begin: [CHALLENGE], login_finish: [problem(401, "FT-2001")] }), LOGIN);
  const task = { kind: "sign_in" as const, username: "ada", password: utf8(PASSWORD) };
  const failed = await failure(bank, task);
  assert.deepEqual([failed.kind, failed.problem.code, bank.opened, bank.closed], ["problem", "FT-2001", 1, 1]);
  assert.ok(task.password.every((byte) => byte === 0));
});

test("a lost wire and a switching bank begin anew, with fresh commitments and the key made once", async () => {
  const lost = answers({ login_begin: [CHALLENGE] });
  const switching = answers({ login_begin: [problem(503)] });
  const bank = new Bank(lost, switching, LOGIN);
  assert.deepEqual(await new Keeper().perform(signIn(), bank.world), { token: "the token" });
  assert.equal(bank.derivations(), 1);
  assert.ok(bank.words.includes("The bank does not answer; trying again"));
  const commitments = bank.said.flatMap((each) => (each["commitment"] ? [each["commitment"]] : []));
  assert.equal(new Set(commitments).size, 3);
  assert.equal(bank.closed, 3);
});

test("a bank that never answers is an error after a bounded time", async () => {
  assert.equal((await failure(new Bank(), signIn())).kind, "unreachable");
  const failed = await failure(new Bank(...Array<Answer>(100).fill(answers({ login_begin: [problem(503)] }))), signIn());
  assert.equal(failed.problem.status, 503);
});

test("a bank that asks for weak key derivation, or speaks nonsense, gets no proof", async () => {
  const weak = new Bank(answers({ login_begin: [{ ...CHALLENGE, memory_kib: 8 }], login_finish: [TICKET] }));
  assert.equal((await failure(weak, signIn())).kind, "derivation_refused");
  assert.deepEqual(weak.kinds, ["login_begin"]);
  for (const change of [{ nonce: "cd" }, { salt: SALT.toUpperCase() }, { iterations: "3" }, { type: "ticket" }]) {
    const bank = new Bank(answers({ login_begin: [{ ...CHALLENGE, ...change }], login_finish: [TICKET] }));
    assert.equal((await failure(bank, signIn())).kind, "unreachable");
    assert.deepEqual(bank.kinds, ["login_begin"]);
  }
});

test("a weak new password is refused before the bank is asked", async () => {
  for (const task of [register("password123"), { ...changePassword(), password: utf8("1234567890") } as Task]) {
    const bank = new Bank(LOGIN);
    assert.equal((await failure(bank, task)).kind, "password_weak");
    assert.equal(bank.opened, 0);
  }
});

test("registering sends a key with its proof, and keeps the key", async () => {
  const bank = new Bank(answers({ register: [TICKET] }));
  const keeper = new Keeper();
  assert.deepEqual(await keeper.perform(register(), bank.world), { token: "the token" });
  const [sent] = bank.said;
  const { key, ...rest } = sent ?? {};
  assert.deepEqual(rest, { type: "register", code: "code-code", username: "ada", name: "Ada" });
  const sizes = { salt: 16, public: 32, signing: 32, commitment: 32, proof: 32 };
  for (const [name, size] of Object.entries(sizes)) bytesOfHex(String((key as Said)[name]), size);
  assert.equal(await keeper.perform({ kind: "holds_key", username: "ada" }, bank.world), true);
});

test("a registration whose answer was lost is found out by signing in, not sent again", async () => {
  const bank: Bank = new Bank(answers({}), remembering(() => bank, { login_finish: [TICKET] }));
  assert.deepEqual(await new Keeper().perform(register(), bank.world), { token: "the token" });
  assert.deepEqual(bank.kinds, ["register", "login_begin", "login_finish"]);
});

test("a registration whose answer was lost and that is not there stays unknown, without a failed login", async () => {
  const bank = new Bank(answers({}), LOGIN);
  assert.equal((await failure(bank, register())).kind, "outcome_unknown");
  assert.deepEqual(bank.kinds, ["register", "login_begin"]);
  for (const status of [502, 504]) {
    const unclear = new Bank(answers({ register: [problem(status)] }), answers({ login_begin: [problem(429)] }));
    assert.equal((await failure(unclear, register())).kind, "outcome_unknown");
  }
});

test("a refused registration is told, and one that could not begin is tried again", async () => {
  const refused = new Bank(answers({ register: [problem(409, "FT-1000")] }), LOGIN);
  assert.equal((await failure(refused, register())).kind, "problem");
  assert.equal(refused.opened, 1);
  const late = new Bank(answers({ register: [problem(503)] }), answers({ register: [TICKET] }));
  assert.deepEqual(await new Keeper().perform(register(), late.world), { token: "the token" });
});

test("changing the password proves the old key and the new one, and gives the new token", async () => {
  const bank = new Bank(answers({ change_key_begin: [CHALLENGE], change_key: [{ type: "done" }, TICKET] }));
  assert.deepEqual(await new Keeper().perform(changePassword(), bank.world), { token: "the token" });
  assert.deepEqual(bank.kinds, ["change_key_begin", "change_key"]);
  const sent = bank.said[1] ?? {};
  assert.notEqual(sent["commitment"], (sent["key"] as Said)["commitment"]);
});

test("a changed password whose token was lost or refused is followed by a login with the new one", async () => {
  for (const end of [[], [{ type: "done" }], [{ type: "done" }, problem(503)], [{ type: "done" }, problem(401)]]) {
    const first = answers({ change_key_begin: [CHALLENGE], change_key: end });
    const bank: Bank = new Bank(first, remembering(() => bank, { login_finish: [TICKET] }));
    assert.deepEqual(await new Keeper().perform(changePassword(), bank.world), { token: "the token" });
    assert.deepEqual(bank.kinds, ["change_key_begin", "change_key", "login_begin", "login_finish"]);
  }
});

test("making a customer is repeated with its id until it is answered, with one key", async () => {
  const done = { type: "done", approval: "" };
  const bank = new Bank(answers({}), answers({ create_user: [problem(504)] }), answers({ create_user: [done] }));
  const person = { id: "01".repeat(16), username: "bob", name: "Bob", roles: ["customer" as const] };
  const keeper = new Keeper();
  const task: Task = { kind: "create_customer", ...person, password: utf8(PASSWORD) };
  assert.deepEqual(await keeper.perform(task, bank.world), { approval: "" });
  const salts = bank.said.map((each) => (each["key"] as Said)["salt"]);
  assert.equal(bank.said.length, 3);
  assert.equal(new Set(salts).size, 1);
  const { key, ...rest } = bank.said[2] ?? {};
  assert.ok(key);
  assert.deepEqual(rest, { type: "create_user", ...person });
  assert.equal(await keeper.perform({ kind: "holds_key", username: "bob" }, bank.world), false);
});

test("the same form sent again, after no answer came at all, is the same act with the same key", async () => {
  const person = { id: "01".repeat(16), username: "bob", name: "Bob", roles: ["customer" as const] };
  const salts: unknown[] = [];
  for (let again = 0; again < 2; again++) {
    const bank = new Bank(answers({}));
    const failed = await failure(bank, { kind: "create_customer", ...person, password: utf8(PASSWORD) });
    assert.equal(failed.kind, "outcome_unknown");
    const key = (bank.said[0] ?? {})["key"] as Said;
    salts.push(`${String(key["salt"])} ${String(key["public"])}`);
  }
  assert.equal(salts[0], salts[1]);
  const { kind } = await failure(new Bank(), { kind: "create_customer", ...person, password: utf8(PASSWORD) });
  assert.equal(kind, "unreachable");
});
