// The worker: passwords and keys live here, away from the page, and only proofs and signatures leave it.

import type { World } from "./ceremony";
import { CeremonyError, localError } from "./errors";
import { Keeper } from "./keeper";
import type { Asked, Told } from "./messages";
import { seedFromPassword } from "./schnorr";
import { openSocket } from "./wire";

/** The part of a worker's global scope that is used here; the page's own types are loaded, not a worker's. */
interface Scope {
  onmessage: ((event: MessageEvent<Asked>) => void) | null;
  postMessage(told: Told): void;
}

const scope = globalThis as unknown as Scope;
const keeper = new Keeper();
const address = `${globalThis.location.origin.replace(/^http/, "ws")}/api/ceremony`;

function worldOf(number: number): World {
  return {
    open: () => openSocket(address),
    random: (size) => crypto.getRandomValues(new Uint8Array(size)),
    derive: seedFromPassword,
    now_ms: () => performance.now(),
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    progress: (words) => scope.postMessage({ type: "progress", number, words }),
  };
}

async function answer({ number, task }: Asked): Promise<void> {
  try {
    scope.postMessage({ type: "done", number, result: await keeper.perform(task, worldOf(number)) });
  } catch (error) {
    const words = error instanceof Error ? error.message : "the cryptography failed";
    const { kind, problem } = error instanceof CeremonyError ? error : localError("worker_failed", words);
    scope.postMessage({ type: "failed", number, kind, problem });
  }
}

scope.onmessage = (event) => void answer(event.data);
scope.postMessage({ type: "ready" });
