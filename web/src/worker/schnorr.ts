// The login: a Schnorr proof of knowledge on edwards25519, and what seeds it. The other side, with the theory, is
// fortress/protocol/schnorr.py; tests/vectors/login.json holds both to the same bytes.

import { ed25519 } from "@noble/curves/ed25519";
import { hkdf } from "@noble/hashes/hkdf";
import { sha256, sha512 } from "@noble/hashes/sha2";
import { argon2id } from "hash-wasm";
import { joined, utf8, wipe } from "./bytes";
import { localError } from "./errors";

const SIZE_BYTES = 32;
export const SALT_SIZE_BYTES = 16;
export const ENTROPY_SIZE_BYTES = 64;
const GROUP_ORDER = ed25519.CURVE.n;

const SECRET_LABEL = utf8("fortress schnorr secret v1");
const ORDER_SIGNING_LABEL = utf8("fortress order signing v1");
const LOGIN_LABEL = utf8("fortress login v1");
const REGISTER_LABEL = utf8("fortress register v1");
const KEY_PROOF_LABEL = utf8("fortress key proof v1");
const FIRST_SALT_LABEL = utf8("fortress first password salt v1");

/** What the bank asks of Argon2id. */
export interface KdfParameters {
  memory_kib: number;
  iterations: number;
  lanes: number;
}

export const KDF_PARAMETERS: KdfParameters = { memory_kib: 65_536, iterations: 3, lanes: 4 };
const KDF_PARAMETERS_MIN: KdfParameters = { memory_kib: 65_536, iterations: 3, lanes: 1 };
const KDF_PARAMETERS_MAX: KdfParameters = { memory_kib: 1_048_576, iterations: 16, lanes: 16 };

/** What a proof is bound to. */
export interface Binding {
  channel: Uint8Array;
  bank: string;
  username: string;
}

/** The first move: r stays here and serves one proof only. */
export interface Commitment {
  r: bigint;
  point: Uint8Array;
}

/** A login key in memory, made from its 32-byte seed, which is wiped. */
export interface LoginKey {
  secret: bigint;
  public: Uint8Array;
  signingSeed: Uint8Array;
  signing: Uint8Array;
}

/** Refuse parameters that are weaker than is safe or heavier than is reasonable, before anything is derived. */
export function checkDerivation(salt: Uint8Array, parameters: KdfParameters): void {
  if (salt.length !== SALT_SIZE_BYTES) {
    throw localError("derivation_refused", `the salt has ${SALT_SIZE_BYTES} bytes, not ${salt.length}`);
  }
  for (const name of ["memory_kib", "iterations", "lanes"] as const) {
    const [least, value, most] = [KDF_PARAMETERS_MIN[name], parameters[name], KDF_PARAMETERS_MAX[name]];
    if (!Number.isInteger(value) || value < least || value > most) {
      const facts = { parameter: name, min: least, max: most };
      throw localError("derivation_refused", `${name} is ${value}, outside ${least} to ${most}`, { facts });
    }
  }
}

/** Derive a person's seed by Argon2id; the password is in Unicode form NFC as UTF-8, and stays for its owner to wipe. */
export async function seedFromPassword(
  password: Uint8Array,
  salt: Uint8Array,
  parameters: KdfParameters,
): Promise<Uint8Array> {
  checkDerivation(salt, parameters);
  return argon2id({
    password,
    salt,
    memorySize: parameters.memory_kib,
    iterations: parameters.iterations,
    parallelism: parameters.lanes,
    hashLength: SIZE_BYTES,
    outputType: "binary",
  });
}

/** Give the salt of a customer's first password, the same whenever the act with this id is repeated. A salt must be
 * unique, which the id is; the bank tells it to anybody who begins a login. */
export function firstSalt(id: Uint8Array): Uint8Array {
  return sha256(joined(FIRST_SALT_LABEL, id)).slice(0, SALT_SIZE_BYTES);
}

/** Make the login key of a seed, and wipe the seed. */
export function loginKey(seed: Uint8Array): LoginKey {
  requireSize("seed", seed, SIZE_BYTES);
  const labelled = joined(SECRET_LABEL, seed);
  const digest = sha512(labelled);
  const secret = reduced(digest);
  const signingSeed = hkdf(sha256, seed, undefined, ORDER_SIGNING_LABEL, SIZE_BYTES);
  wipe(labelled, digest, seed);
  return { secret, public: multiplied(secret), signingSeed, signing: ed25519.getPublicKey(signingSeed) };
}

/** Make the first move from 64 fresh random bytes, which are wiped. */
export function commit(entropy: Uint8Array): Commitment {
  requireSize("entropy", entropy, ENTROPY_SIZE_BYTES);
  const r = reduced(entropy);
  wipe(entropy);
  if (r === 0n) throw new RangeError("the entropy for a commitment is not random");
  return { r, point: multiplied(r) };
}

/** Compute the challenge of a login. */
export function loginChallenge(binding: Binding, key: LoginKey, commitment: Commitment, nonce: Uint8Array): bigint {
  return challenge(LOGIN_LABEL, binding, key.public, commitment.point, nonce);
}

/** Compute the challenge of the proof that comes with a new key; the channel stands in for the bank's nonce. */
export function keyProofChallenge(binding: Binding, key: LoginKey, commitment: Commitment): bigint {
  const nonce = sha256(joined(KEY_PROOF_LABEL, binding.channel));
  return challenge(REGISTER_LABEL, binding, key.public, commitment.point, nonce);
}

/** Make the last move, s = r + c*x mod l. */
export function prove(secret: bigint, r: bigint, c: bigint): Uint8Array {
  return scalarBytes((r + c * secret) % GROUP_ORDER);
}

/** A scalar as 32 bytes, little-endian. */
export function scalarBytes(scalar: bigint): Uint8Array {
  return Uint8Array.from({ length: SIZE_BYTES }, (_, at) => Number((scalar >> BigInt(8 * at)) & 0xffn));
}

function challenge(
  label: Uint8Array,
  { channel, bank, username }: Binding,
  publicKey: Uint8Array,
  commitment: Uint8Array,
  nonce: Uint8Array,
): bigint {
  requireSize("hash", channel, SIZE_BYTES);
  requireSize("nonce", nonce, SIZE_BYTES);
  const parts = [label, channel, sized(utf8(bank)), sized(utf8(username)), publicKey, commitment, nonce];
  return reduced(sha512(joined(...parts)));
}

function sized(text: Uint8Array): Uint8Array {
  if (text.length > 0xffff) throw new RangeError("a name in a challenge is too long");
  return joined(Uint8Array.of(text.length >> 8, text.length & 0xff), text);
}

function multiplied(scalar: bigint): Uint8Array {
  return ed25519.Point.BASE.multiply(scalar).toBytes();
}

function reduced(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let at = bytes.length - 1; at >= 0; at--) value = (value << 8n) | BigInt(bytes[at] ?? 0);
  return value % GROUP_ORDER;
}

function requireSize(name: string, value: Uint8Array, size: number): void {
  if (value.length !== size) throw new RangeError(`the ${name} has ${size} bytes, not ${value.length}`);
}
