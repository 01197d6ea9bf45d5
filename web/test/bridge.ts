// Lets another program be the world of the worker's code: lines of JSON come in on standard input and go out on
// standard output. It gives tasks and carries the messages of the wire; see tests/web/test_worker.py.

import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";
import { utf8 } from "../src/worker/bytes";
import type { World } from "../src/worker/ceremony";
import { CeremonyError } from "../src/worker/errors";
import { Keeper } from "../src/worker/keeper";
import type { Task } from "../src/worker/messages";
import { seedFromPassword } from "../src/worker/schnorr";
import { WireLost } from "../src/worker/wire";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function next(): Promise<Record<string, unknown> | null> {
  const { value, done } = await lines.next();
  return done ? null : (JSON.parse(value) as Record<string, unknown>);
}

function tell(said: object): void {
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

/** What the other side says to a question: a text, or that the wire is lost. */
async function answerTo(question: object): Promise<string> {
  tell(question);
  const said = await next();
  if (typeof said?.["text"] !== "string") throw new WireLost("closed");
  return said["text"];
}

const world: World = {
  open: async () => {
    await answerTo({ do: "open" });
    return {
      send: (text) => tell({ do: "send", text }),
      receive: () => answerTo({ do: "receive" }),
      close: () => tell({ do: "close" }),
    };
  },
  random: (size) => webcrypto.getRandomValues(new Uint8Array(size)),
  derive: seedFromPassword,
  now_ms: () => performance.now(),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  progress: (words) => tell({ do: "progress", words }),
};

/** Passwords come as text and are made the bytes that the page makes of them. */
function taskOf(said: Record<string, unknown>): Task {
  const entries = Object.entries(said).map(([name, value]) =>
    name === "password" || name === "old" ? [name, utf8(String(value).normalize("NFC"))] : [name, value],
  );
  return Object.fromEntries(entries) as Task;
}

const keeper = new Keeper();
for (let said = await next(); said; said = await next()) {
  try {
    tell({ do: "done", result: await keeper.perform(taskOf(said), world) });
  } catch (error) {
    if (!(error instanceof CeremonyError)) throw error;
    tell({ do: "failed", kind: error.kind, problem: error.problem });
  }
}
