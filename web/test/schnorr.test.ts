// The login's arithmetic, the password rules and the signed orders give what the bank's side gives for the same input.

import assert from "node:assert/strict";
import { test } from "node:test";
import rows from "../../tests/vectors/login.json";
import { bytesOfHex, hexOf, utf8 } from "../src/worker/bytes";
import { CeremonyError } from "../src/worker/errors";
import type { SignableOrder } from "../src/worker/messages";
import { signOrder, statement } from "../src/worker/orders";
import { checkPassword } from "../src/worker/passwords";
import * as schnorr from "../src/worker/schnorr";

interface Row extends schnorr.KdfParameters {
  password: string;
  salt: string;
  entropy: string;
  channel: string;
  bank: string;
  username: string;
  nonce: string;
  seed: string;
  public: string;
  commitment: string;
  challenge: string;
  proof: string;
  key_challenge: string;
  key_proof: string;
  signing: string;
  order: SignableOrder;
  statement: string;
  signature: string;
}

interface Vectors {
  logins: Row[];
  passwords: { password: string; reason: string }[];
  derivations: (schnorr.KdfParameters & { salt_size: number; reason: string })[];
}

const vectors: Vectors = rows;

function refusal(kind: string, act: () => void): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof CeremonyError);
    assert.equal(error.kind, kind);
    return error.problem.detail;
  }
  return "";
}

for (const [at, row] of vectors.logins.entries()) {
  test(`a login is computed as at the bank, row ${at}`, async () => {
    const password = utf8(row.password.normalize("NFC"));
    const seed = await schnorr.seedFromPassword(password, bytesOfHex(row.salt, 16), row);
    assert.equal(hexOf(seed), row.seed);
    const key = schnorr.loginKey(seed);
    assert.equal(hexOf(key.public), row.public);
    assert.equal(hexOf(key.signing), row.signing);
    const entropy = bytesOfHex(row.entropy, 64);
    const commitment = schnorr.commit(entropy);
    assert.equal(hexOf(commitment.point), row.commitment);
    const binding = { channel: bytesOfHex(row.channel, 32), bank: row.bank, username: row.username };
    const c = schnorr.loginChallenge(binding, key, commitment, bytesOfHex(row.nonce, 32));
    assert.equal(hexOf(schnorr.scalarBytes(c)), row.challenge);
    assert.equal(hexOf(schnorr.prove(key.secret, commitment.r, c)), row.proof);
    const keyC = schnorr.keyProofChallenge(binding, key, commitment);
    assert.equal(hexOf(schnorr.scalarBytes(keyC)), row.key_challenge);
    assert.equal(hexOf(schnorr.prove(key.secret, commitment.r, keyC)), row.key_proof);
    assert.equal(hexOf(statement(row.order)), row.statement);
    assert.equal(hexOf(signOrder(row.order, key.signingSeed)), row.signature);
    assert.ok([...seed, ...entropy].every((byte) => byte === 0), "seed and entropy are wiped after use");
  });
}

test("new passwords are refused as at the bank's own client, for the same reasons", () => {
  for (const { password, reason } of vectors.passwords) {
    assert.equal(refusal("password_weak", () => checkPassword(password)), reason, password);
  }
});

test("unsafe or unreasonable key derivation is refused before anything is derived", async () => {
  for (const { salt_size, reason, ...parameters } of vectors.derivations) {
    const salt = new Uint8Array(salt_size);
    assert.equal(refusal("derivation_refused", () => schnorr.checkDerivation(salt, parameters)), reason);
    if (reason) await assert.rejects(schnorr.seedFromPassword(utf8("x"), salt, parameters), CeremonyError);
  }
  const fraction = { memory_kib: 65_536.5, iterations: 3, lanes: 4 };
  assert.notEqual(refusal("derivation_refused", () => schnorr.checkDerivation(new Uint8Array(16), fraction)), "");
});

test("a commitment needs 64 bytes that are random", () => {
  assert.throws(() => schnorr.commit(new Uint8Array(64)), RangeError);
  assert.throws(() => schnorr.commit(new Uint8Array(32).fill(7)), RangeError);
});

test("a challenge is bound to a whole channel hash and nonce only", () => {
  const key = schnorr.loginKey(new Uint8Array(32).fill(1));
  const commitment = schnorr.commit(new Uint8Array(64).fill(2));
  const whole = { channel: new Uint8Array(32), bank: "a", username: "ada" };
  const short = { ...whole, channel: new Uint8Array(31) };
  assert.throws(() => schnorr.loginChallenge(short, key, commitment, new Uint8Array(32)), RangeError);
  assert.throws(() => schnorr.loginChallenge(whole, key, commitment, new Uint8Array(31)), RangeError);
});

test("an order that is none is not signed", () => {
  const [row] = vectors.logins;
  assert.ok(row);
  const wrong: Partial<SignableOrder>[] = [
    { amount: "1.5" },
    { amount: "-1" },
    { amount: "01" },
    { amount: "9223372036854775808" },
    { not_after: "" },
    { debit: 0 },
    { debit: 1.5 },
    { debit: 2 ** 53 },
    { id: "00" },
    { id: row.order.id.toUpperCase().replace(/[0-9]/g, "A") },
    { reference: "r".repeat(65_536) },
  ];
  for (const change of wrong) assert.throws(() => statement({ ...row.order, ...change }), RangeError);
});

test("hexadecimal is read in lower case and whole bytes only", () => {
  assert.equal(hexOf(bytesOfHex("00ff10", 3)), "00ff10");
  for (const text of ["00FF10", "00ff1", "00ff1g", "00ff1000"]) assert.throws(() => bytesOfHex(text, 3), RangeError);
});
