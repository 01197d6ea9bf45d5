// The page's side of the worker: answers find their question, and a worker that fails is an error, never a silence.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ceremonies, CeremonyError, type Helper, type SignableOrder } from "../src/worker/client";
import { localError } from "../src/worker/errors";
import type { Asked, Told } from "../src/worker/messages";

const NEVER = { load_ms: 2 ** 30, silence_ms: 2 ** 30 };

class Fake implements Helper {
  onmessage: Helper["onmessage"] = null;
  onmessageerror: Helper["onmessageerror"] = null;
  onerror: Helper["onerror"] = null;
  readonly asked: Asked[] = [];
  readonly transferred: Transferable[] = [];
  isTerminated = false;

  postMessage(asked: Asked, transfer: Transferable[]): void {
    this.asked.push(asked);
    this.transferred.push(...transfer);
  }

  terminate(): void {
    this.isTerminated = true;
  }

  tell(told: Told): void {
    this.onmessage?.({ data: told } as MessageEvent<Told>);
  }
}

function made(patience = NEVER): { ceremonies: Ceremonies; helpers: Fake[] } {
  const helpers: Fake[] = [];
  const start = (): Fake => {
    const helper = new Fake();
    helpers.push(helper);
    return helper;
  };
  return { ceremonies: new Ceremonies(start, patience), helpers };
}

async function failureOf(promise: Promise<unknown>): Promise<CeremonyError> {
  const error: unknown = await promise.then(
    () => assert.fail("it did not fail"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CeremonyError, String(error));
  return error;
}

test("an answer, and words on the way, go to who asked; passwords are handed over as bytes in form NFC", async () => {
  const { ceremonies, helpers } = made();
  const words: string[] = [];
  const first = ceremonies.signIn("ada", "Ko\u0308ln", (said) => words.push(said));
  const second = ceremonies.holdsKey("ada");
  const [helper] = helpers;
  assert.ok(helper);
  assert.deepEqual(helper.asked[0]?.task, {
    kind: "sign_in",
    username: "ada",
    password: new TextEncoder().encode("K\u00f6ln"),
  });
  assert.equal(helper.transferred.length, 1);
  helper.tell({ type: "ready" });
  helper.tell({ type: "progress", number: 1, words: "busy" });
  helper.tell({ type: "done", number: 2, result: true });
  helper.tell({ type: "done", number: 1, result: { token: "t" } });
  helper.tell({ type: "done", number: 1, result: { token: "late" } });
  assert.deepEqual(await first, { token: "t" });
  assert.equal(await second, true);
  assert.deepEqual(words, ["busy"]);
  assert.equal(helpers.length, 1);
});

test("what the worker refuses is a typed error with the problem, and the worker goes on", async () => {
  const { ceremonies, helpers } = made();
  const asked = ceremonies.signOrder("ada", {} as SignableOrder);
  const { kind, problem } = localError("no_key", "none");
  helpers[0]?.tell({ type: "failed", number: 1, kind, problem });
  const failed = await failureOf(asked);
  assert.deepEqual([failed.kind, failed.problem.detail], ["no_key", "none"]);
  assert.equal(helpers[0]?.isTerminated, false);
});

test("a worker that cannot be loaded, or throws, fails all that wait, and the next task starts a new one", async () => {
  const { ceremonies, helpers } = made();
  const both = [ceremonies.holdsKey("ada"), ceremonies.checkPassword("x")];
  helpers[0]?.onerror?.({ message: "" } as ErrorEvent);
  for (const each of both) assert.equal((await failureOf(each)).kind, "worker_failed");
  assert.equal(helpers[0]?.isTerminated, true);
  const next = ceremonies.holdsKey("ada");
  helpers[1]?.tell({ type: "done", number: 3, result: false });
  assert.equal(await next, false);
});

test("a browser without workers is an error", async () => {
  const ceremonies = new Ceremonies(() => {
    throw new Error("no workers here");
  }, NEVER);
  const failed = await failureOf(ceremonies.holdsKey("ada"));
  assert.deepEqual([failed.kind, failed.problem.detail], ["worker_failed", "no workers here"]);
});

test("a worker that does not load, or falls silent, is an error and is ended", async () => {
  const slow = made({ load_ms: 1, silence_ms: 2 ** 30 });
  const loading = await failureOf(slow.ceremonies.holdsKey("ada"));
  assert.deepEqual([loading.kind, loading.problem.detail], ["worker_silent", "the worker did not load in time"]);
  assert.equal(slow.helpers[0]?.isTerminated, true);

  const silent = made({ load_ms: 2 ** 30, silence_ms: 1 });
  const asked = silent.ceremonies.signIn("ada", "x");
  silent.helpers[0]?.tell({ type: "ready" });
  assert.equal((await failureOf(asked)).problem.detail, "the worker does not answer");
  assert.equal(silent.helpers[0]?.isTerminated, true);
});

test("forgetting ends the worker with its key", async () => {
  const { ceremonies, helpers } = made();
  ceremonies.forget();
  const asked = ceremonies.holdsKey("ada");
  helpers[0]?.tell({ type: "done", number: 1, result: true });
  assert.equal(await asked, true);
  ceremonies.forget();
  assert.equal(helpers[0]?.isTerminated, true);
  const again = ceremonies.holdsKey("ada");
  helpers[1]?.tell({ type: "done", number: 2, result: false });
  assert.equal(await again, false);
});

test("forgetting lets what is under way go on, and drops the key there", async () => {
  const { ceremonies, helpers } = made();
  const asked = ceremonies.changePassword("ada", "x", "y");
  ceremonies.forget();
  assert.deepEqual(helpers[0]?.asked[1]?.task, { kind: "forget" });
  helpers[0]?.tell({ type: "done", number: 1, result: { token: "t" } });
  assert.deepEqual(await asked, { token: "t" });
  assert.equal(helpers[0]?.isTerminated, false);
  helpers[0]?.tell({ type: "done", number: 2, result: null });
});
