// Signing in, registering, changing a password, making a customer: what the browser and the bank say to each other.
//
// All of it is one conversation over one wire, since every proof is bound to the sealed channel behind that wire. A
// lost wire, or a bank that is switching, begins the ceremony anew with fresh proofs and the key that is already made.

import { bytesOfHex, hexOf, wipe } from "./bytes";
import { CeremonyError, localError } from "./errors";
import type { Problem, Role } from "./messages";
import * as schnorr from "./schnorr";
import type { Binding, KdfParameters, LoginKey } from "./schnorr";
import { type Wire, WireLost } from "./wire";

const TRIES_MS_MAX = 15_000;
const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 2_000;
const HASH_SIZE_BYTES = 32;
const ID_SIZE_BYTES = 16;

/** The world outside. */
export interface World {
  open(): Promise<Wire>;
  random(size: number): Uint8Array;
  /** Argon2id, as `schnorr.seedFromPassword`. */
  derive(password: Uint8Array, salt: Uint8Array, parameters: KdfParameters): Promise<Uint8Array>;
  now_ms(): number;
  pause(ms: number): Promise<void>;
  progress(words: string): void;
}

/** A token for the cookie, and the seed of the key that signs orders. */
export interface Entered {
  token: string;
  signingSeed: Uint8Array;
}

export interface NewPerson {
  id: string;
  username: string;
  name: string;
  roles: Role[];
}

type Said = Record<string, unknown>;
type Flow<T> = (talk: Talk) => Promise<T>;

/** The bank may have done it, and nobody said so. */
class Doubt extends Error {}

/** Sign in by all three moves; the password stays for its owner to wipe. */
export async function signIn(world: World, username: string, password: Uint8Array): Promise<Entered> {
  const derivation = new Derivation(world, password);
  try {
    return await converse(world, async (talk) => {
      const { token, key } = await login(world, talk, username, derivation.key);
      return { token, signingSeed: key.signingSeed };
    });
  } finally {
    derivation.wipe();
  }
}

/** Become a customer with an invitation code. */
export async function register(
  world: World,
  code: string,
  username: string,
  name: string,
  password: Uint8Array,
): Promise<Entered> {
  const fresh = await newKey(world, password);
  const token = await decided(world, username, fresh, async (talk) => {
    const key = material(world, fresh, { ...talk.channel, username });
    return text(await talk.decide({ type: "register", code, username, name, key }, "ticket"), "token");
  });
  return { token, signingSeed: fresh.key.signingSeed };
}

/** Prove the old password once more and replace it. The token is new: all older ones are refused from now on. */
export async function changePassword(
  world: World,
  username: string,
  old: Uint8Array,
  password: Uint8Array,
): Promise<Entered> {
  const fresh = await newKey(world, password);
  const derivation = new Derivation(world, old);
  try {
    const token = await decided(world, username, fresh, (talk) => rekey(world, talk, username, derivation.key, fresh));
    return { token, signingSeed: fresh.key.signingSeed };
  } finally {
    derivation.wipe();
  }
}

/** Make a customer with a first password; `approval` names what a second administrator must approve, or is empty. */
export async function createCustomer(world: World, person: NewPerson, password: Uint8Array): Promise<string> {
  // Id, salt and key are the same in each repeat, here or asked for by the page, so the bank sees the same act.
  const fresh = await newKey(world, password, schnorr.firstSalt(bytesOfHex(person.id, ID_SIZE_BYTES)));
  wipe(fresh.key.signingSeed);
  let wasSent = false;
  const approval = converse(world, async (talk) => {
    const key = material(world, fresh, { ...talk.channel, username: person.username });
    wasSent = true;
    return text(await talk.ask({ type: "create_user", ...person, key }, "done"), "approval");
  });
  return approval.catch((error: unknown) => {
    if (!wasSent || !isUnreachable(error)) throw error;
    const hint = "try again with the same form: it is done once only";
    throw localError("outcome_unknown", "the bank did not answer", { hint });
  });
}

// -- the moves -------------------------------------------------------------------------------------------------------

type Derive = (salt: Uint8Array, parameters: KdfParameters) => Promise<LoginKey>;

interface Fresh {
  key: LoginKey;
  salt: Uint8Array;
}

/** Derives at most once for the same salt, however often the conversation begins anew. */
class Derivation {
  readonly #world: World;
  readonly #password: Uint8Array;
  #from = "";
  #seed: Uint8Array = new Uint8Array();

  constructor(world: World, password: Uint8Array) {
    this.#world = world;
    this.#password = password;
  }

  readonly key: Derive = async (salt, parameters) => {
    const from = `${hexOf(salt)}/${parameters.memory_kib}/${parameters.iterations}/${parameters.lanes}`;
    if (this.#from !== from) {
      schnorr.checkDerivation(salt, parameters);
      this.#world.progress("Making the key from your password");
      const seed = await this.#world.derive(this.#password, salt, parameters);
      this.wipe();
      [this.#from, this.#seed] = [from, seed];
    }
    return schnorr.loginKey(this.#seed.slice());
  };

  wipe(): void {
    wipe(this.#seed);
    this.#from = "";
  }
}

async function newKey(
  world: World,
  password: Uint8Array,
  salt = world.random(schnorr.SALT_SIZE_BYTES),
): Promise<Fresh> {
  world.progress("Making the key from the new password");
  return { salt, key: schnorr.loginKey(await world.derive(password, salt, schnorr.KDF_PARAMETERS)) };
}

function commit(world: World): schnorr.Commitment {
  return schnorr.commit(world.random(schnorr.ENTROPY_SIZE_BYTES));
}

function material(world: World, { key, salt }: Fresh, binding: Binding): Said {
  const commitment = commit(world);
  const c = schnorr.keyProofChallenge(binding, key, commitment);
  return {
    salt: hexOf(salt),
    ...schnorr.KDF_PARAMETERS,
    public: hexOf(key.public),
    signing: hexOf(key.signing),
    commitment: hexOf(commitment.point),
    proof: hexOf(schnorr.prove(key.secret, commitment.r, c)),
  };
}

async function login(
  world: World,
  talk: Talk,
  username: string,
  derive: Derive,
): Promise<{ token: string; key: LoginKey }> {
  const commitment = commit(world);
  const begin = { type: "login_begin", username, commitment: hexOf(commitment.point) };
  const { nonce, key } = await challenged(talk, begin, derive);
  world.progress("Proving it to the bank");
  const c = schnorr.loginChallenge({ ...talk.channel, username }, key, commitment, nonce);
  const finish = { type: "login_finish", proof: hexOf(schnorr.prove(key.secret, commitment.r, c)) };
  return { token: text(await talk.ask(finish, "ticket"), "token"), key };
}

async function rekey(world: World, talk: Talk, username: string, derive: Derive, fresh: Fresh): Promise<string> {
  const binding = { ...talk.channel, username };
  const { nonce, key } = await challenged(talk, { type: "change_key_begin" }, derive);
  const commitment = commit(world);
  const proof = schnorr.prove(key.secret, commitment.r, schnorr.loginChallenge(binding, key, commitment, nonce));
  wipe(key.signingSeed);
  world.progress("Proving it to the bank");
  const change = { key: material(world, fresh, binding), commitment: hexOf(commitment.point), proof: hexOf(proof) };
  await talk.decide({ type: "change_key", ...change }, "done");
  // It is done, so whatever happens to the new token, the way on is a login with the new key.
  return text(await talk.next("ticket").catch(unclear), "token");
}

async function challenged(
  talk: Talk,
  begin: Said,
  derive: Derive,
): Promise<{ nonce: Uint8Array; key: LoginKey }> {
  const said = await talk.ask(begin, "challenge");
  const salt = bytes(said, "salt", schnorr.SALT_SIZE_BYTES);
  const parameters = {
    memory_kib: number(said, "memory_kib"),
    iterations: number(said, "iterations"),
    lanes: number(said, "lanes"),
  };
  const nonce = bytes(said, "nonce", HASH_SIZE_BYTES);
  return { nonce, key: await derive(salt, parameters) };
}

// -- tries -----------------------------------------------------------------------------------------------------------

/** Hold a conversation that may be begun anew as long as nothing was decided. */
async function converse<T>(world: World, flow: Flow<T>): Promise<T> {
  const end_ms = world.now_ms() + TRIES_MS_MAX;
  for (let wait_ms = WAIT_MS_MIN; ; wait_ms = Math.min(2 * wait_ms, WAIT_MS_MAX)) {
    try {
      return await conversation(world, flow);
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (world.now_ms() + wait_ms > end_ms) throw ended(error);
      world.progress("The bank does not answer; trying again");
      await world.pause(wait_ms);
    }
  }
}

async function conversation<T>(world: World, flow: Flow<T>): Promise<T> {
  world.progress("Connecting to the bank");
  const wire = await world.open();
  try {
    return await flow(await Talk.begin(wire));
  } finally {
    wire.close();
  }
}

/** Hold a conversation whose last word counts once only; where it was lost, signing in with the new key tells. */
async function decided(world: World, username: string, fresh: Fresh, flow: Flow<string>): Promise<string> {
  try {
    return await converse(world, flow);
  } catch (error) {
    if (!(error instanceof Doubt)) throw error;
  }
  world.progress("Asking whether it was done");
  const ours = hexOf(fresh.salt);
  const derive: Derive = async (salt) => {
    if (hexOf(salt) !== ours) throw localError("outcome_unknown", "the bank did not answer, and knows another password");
    return fresh.key;
  };
  try {
    return (await converse(world, (talk) => login(world, talk, username, derive))).token;
  } catch (error) {
    if (!(error instanceof CeremonyError)) throw error;
    throw error.kind === "outcome_unknown" ? error : localError("outcome_unknown", error.problem.detail);
  }
}

/** Whether trying again may help and cannot harm: 503 means that nothing was decided, and 504 is only said of what is
 * repeatable here, since what is not goes through `Talk.decide`. */
function isPassing(error: unknown): boolean {
  return error instanceof WireLost || [503, 504].includes(statusOf(error));
}

function statusOf(error: unknown): number {
  return error instanceof CeremonyError ? error.problem.status : 0;
}

function isUnreachable(error: unknown): boolean {
  return error instanceof CeremonyError && error.kind === "unreachable";
}

function ended(error: unknown): unknown {
  return error instanceof WireLost ? localError("unreachable", error.message) : error;
}

function unclear(): never {
  throw new Doubt();
}

/** What the bank itself says is clear; so is 503. All else went wrong on the way there or back. */
function doubtful(error: unknown): never {
  if (error instanceof WireLost || (statusOf(error) >= 500 && statusOf(error) !== 503)) throw new Doubt();
  throw error;
}

// -- messages --------------------------------------------------------------------------------------------------------

/** A conversation that has begun: the bank and the channel are known. */
class Talk {
  readonly #wire: Wire;
  readonly channel: { bank: string; channel: Uint8Array };

  private constructor(wire: Wire, channel: { bank: string; channel: Uint8Array }) {
    this.#wire = wire;
    this.channel = channel;
  }

  static async begin(wire: Wire): Promise<Talk> {
    const said = await heard(wire, "channel");
    return new Talk(wire, { bank: text(said, "bank"), channel: bytes(said, "channel", HASH_SIZE_BYTES) });
  }

  next(type: string): Promise<Said> {
    return heard(this.#wire, type);
  }

  ask(message: Said, type: string): Promise<Said> {
    this.#wire.send(JSON.stringify(message));
    return this.next(type);
  }

  /** Ask for what must not be asked for twice. */
  decide(message: Said, type: string): Promise<Said> {
    return this.ask(message, type).catch(doubtful);
  }
}

async function heard(wire: Wire, type: string): Promise<Said> {
  const message = messageOf(await wire.receive());
  if (message["type"] === type) return message;
  if (message["type"] === "problem") throw new CeremonyError("problem", problemOf(message));
  throw new WireLost("the bank's pages said something else than expected");
}

function messageOf(line: string): Said {
  try {
    const said: unknown = JSON.parse(line);
    if (typeof said === "object" && said !== null) return said as Said;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new WireLost("the bank's pages said what is no message");
}

function problemOf(said: Said): Problem {
  return {
    type: "about:blank",
    title: text(said, "title"),
    status: number(said, "status"),
    detail: text(said, "detail"),
    code: text(said, "code"),
    retry: text(said, "retry"),
    hint: text(said, "hint"),
    status_name: typeof said["status_name"] === "string" ? said["status_name"] : "",
    facts: (said["facts"] ?? {}) as Problem["facts"],
  };
}

function text(said: Said, name: string): string {
  const value = said[name];
  if (typeof value !== "string") throw new WireLost(`the bank's pages said no ${name}`);
  return value;
}

function number(said: Said, name: string): number {
  const value = said[name];
  if (typeof value !== "number") throw new WireLost(`the bank's pages said no ${name}`);
  return value;
}

function bytes(said: Said, name: string, size: number): Uint8Array {
  try {
    return bytesOfHex(text(said, name), size);
  } catch (error) {
    throw error instanceof RangeError ? new WireLost(`the bank's pages said no ${name}`) : error;
  }
}
