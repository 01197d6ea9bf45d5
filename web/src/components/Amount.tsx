/**
 * Money, in tabular figures.
 *
 *     <Amount minor={account.available} currency={account.currency} />
 *     <Amount minor={entry.amount} currency="EUR" signed />
 */

import { formatMoney, type Minor } from "../money";

interface AmountProps {
  minor: Minor;
  currency: string;
  /** With a plus for what came in; what went out has its minus always. */
  signed?: boolean;
  /** The one figure that matters on a page. */
  large?: boolean;
}

export function Amount({ minor, currency, signed = false, large = false }: AmountProps) {
  const isIn = signed && BigInt(minor) > 0n;
  return (
    <span class={`amount${large ? " amount-large" : ""}${isIn ? " amount-in" : ""}`}>
      {formatMoney(minor, currency, { signed })}
    </span>
  );
}
