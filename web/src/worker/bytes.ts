// Bytes: hexadecimal, joining, wiping.

const HEX = /^([0-9a-f]{2})*$/;

/** Write bytes in lower-case hexadecimal. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Read lower-case hexadecimal; throws a RangeError for anything else, and for another size than is asked for. */
export function bytesOfHex(text: string, size: number): Uint8Array {
  if (text.length !== 2 * size || !HEX.test(text)) throw new RangeError(`${size} bytes in hexadecimal are expected`);
  return Uint8Array.from({ length: size }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** Put parts one after another. */
export function joined(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The UTF-8 bytes of a text. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Overwrite secrets with zeros. What a browser copied by itself, such as the text of a field, is out of reach. */
export function wipe(...secrets: Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0);
}
