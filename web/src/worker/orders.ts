// Payment orders that a customer signs; what is signed is written down in fortress/protocol/orders.py.

import { ed25519 } from "@noble/curves/ed25519";
import { bytesOfHex, joined, utf8 } from "./bytes";
import type { SignableOrder } from "./messages";

const PAYMENT_LABEL = utf8("fortress payment v1");
const ID_SIZE_BYTES = 16;
const INTEGER = /^(0|[1-9][0-9]{0,18})$/;
const MINOR_MAX = 2n ** 63n - 1n;

/** Give the bytes that the payer signs: a msgpack array, each part in its shortest form. */
export function statement(order: SignableOrder): Uint8Array {
  const parts = [
    packedBytes(PAYMENT_LABEL),
    packedText(order.bank),
    packedBytes(bytesOfHex(order.id, ID_SIZE_BYTES)),
    packedNumber(wholeNumber(order.debit)),
    packedText(order.payee),
    packedNumber(integer(order.amount)),
    packedText(order.currency),
    packedText(order.reference),
    packedNumber(integer(order.not_after)),
  ];
  return joined(Uint8Array.of(0x90 | parts.length), ...parts);
}

/** Sign with the key's 32-byte seed; 64 bytes come back. */
export function signOrder(order: SignableOrder, signingSeed: Uint8Array): Uint8Array {
  return ed25519.sign(statement(order), signingSeed);
}

function wholeNumber(value: number): bigint {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError("an account number is a whole number");
  return BigInt(value);
}

function integer(text: string): bigint {
  const value = INTEGER.test(text) ? BigInt(text) : -1n;
  if (value < 0n || value > MINOR_MAX) throw new RangeError("a number in an order is out of range");
  return value;
}

function packedBytes(bytes: Uint8Array): Uint8Array {
  return joined(Uint8Array.of(0xc4, bytes.length), bytes); // all of them are shorter than 256
}

function packedText(text: string): Uint8Array {
  const bytes = utf8(text);
  const size = bytes.length;
  if (size < 32) return joined(Uint8Array.of(0xa0 | size), bytes);
  if (size < 0x100) return joined(Uint8Array.of(0xd9, size), bytes);
  if (size < 0x10000) return joined(Uint8Array.of(0xda, size >> 8, size & 0xff), bytes);
  throw new RangeError("a text in an order is too long");
}

function packedNumber(value: bigint): Uint8Array {
  if (value < 0x80n) return Uint8Array.of(Number(value));
  const sizes = [1, 2, 4, 8] as const;
  const at = sizes.findIndex((size) => value < 1n << BigInt(8 * size));
  const size = sizes[at] ?? 8;
  const bytes = Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * (size - 1 - i))) & 0xffn));
  return Uint8Array.of(0xcc + at, ...bytes);
}
