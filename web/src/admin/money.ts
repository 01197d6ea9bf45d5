/** Amounts as staff types them: as customers do, and below zero or zero where that makes sense. */

import { formatMoney, parseAmount } from "../money";

const MINUS = /^\s*[-−]/;

/** Read an amount: minor units as text, or null for what is none. */
export function readAmount(text: string, currency: string): string | null {
  const isNegative = MINUS.test(text);
  const minor = parseAmount(text.replace(MINUS, ""), currency);
  if (minor === "zero") return "0";
  if (typeof minor !== "bigint") return null;
  return String(isNegative ? -minor : minor);
}

/** Write an amount for a field, which `readAmount` reads. */
export const amountText = (minor: string, currency: string): string => formatMoney(minor, currency, { plain: true });
