// Amounts as people type and read them: no digit is lost, and what could be misread is asked for again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AmountFault, decimalsOf, formatMoney, parseAmount } from "../src/money";

const TYPED: [string, string, bigint | AmountFault][] = [
  ["12", "EUR", 1200n],
  ["12.5", "EUR", 1250n],
  ["12,50", "EUR", 1250n],
  [" 1 234,56 ", "EUR", 123456n],
  ["1,234.56", "EUR", 123456n],
  ["1.234,56", "EUR", 123456n],
  ["1'234.56", "EUR", 123456n],
  ["1,234,567", "EUR", 123456700n],
  ["12.", "EUR", 1200n],
  ["0.01", "EUR", 1n],
  ["1234", "JPY", 1234n],
  ["1.234", "KWD", 1234n],
  ["9999999999999999.99", "EUR", 999999999999999999n],
  ["", "EUR", "empty"],
  ["1,234", "EUR", "ambiguous"],
  ["1.234", "JPY", "ambiguous"],
  ["12.345", "EUR", "ambiguous"],
  ["12.3456", "EUR", "decimals"],
  ["1.5", "JPY", "decimals"],
  ["0", "EUR", "zero"],
  ["0.00", "EUR", "zero"],
  ["10000000000000000", "EUR", "large"],
  ["-5", "EUR", "unreadable"],
  ["1e3", "EUR", "unreadable"],
  ["12,34,56", "EUR", "unreadable"],
  ["1,23.45", "EUR", "unreadable"],
  [".5", "EUR", "unreadable"],
  ["12 €", "EUR", "unreadable"],
];

test("what is typed is read, or refused with the reason", () => {
  for (const [text, currency, expected] of TYPED) assert.equal(parseAmount(text, currency), expected, text);
});

test("amounts keep all their digits and their sign", () => {
  const digits = (text: string): string => text.replace(/[^0-9−+]/g, "");
  assert.equal(digits(formatMoney("9007199254740993", "EUR")), "9007199254740993");
  assert.equal(digits(formatMoney(-5n, "EUR")), "−005");
  assert.equal(digits(formatMoney(5n, "EUR", { signed: true })), "+005");
  assert.equal(digits(formatMoney(0n, "EUR", { signed: true })), "000");
  assert.equal(digits(formatMoney(1234n, "JPY")), "1234");
});

test("what is written without a currency can be read again", () => {
  for (const minor of [1n, 99n, 100n, 123456n, 999999999999999999n]) {
    for (const currency of ["EUR", "JPY", "KWD"]) {
      const text = formatMoney(minor, currency, { plain: true });
      assert.equal(parseAmount(text, currency), minor, `${text} ${currency}`);
    }
  }
});

test("currencies have the decimals of ISO 4217", () => {
  assert.deepEqual(["EUR", "JPY", "KWD"].map(decimalsOf), [2, 0, 3]);
});
