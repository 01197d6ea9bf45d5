/** Money: minor units as bigint or as the API's text; never a number with a fraction. */

export type Minor = bigint | string;

const GROUPS = /[\s'’]/gu;
const MAX_MINOR = 10n ** 18n;

/** How many decimals a currency has (ISO 4217), such as 2 for EUR, 0 for JPY. */
export function decimalsOf(currency: string): number {
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
  } catch {
    return 2;
  }
}

/**
 * Write an amount as people here do, such as €1,234.50.
 *
 * @param options.signed write a plus, too.
 * @param options.plain without the currency, such as for a field.
 */
export function formatMoney(minor: Minor, currency: string, options: { signed?: boolean; plain?: boolean } = {}): string {
  const value = BigInt(minor);
  const decimals = decimalsOf(currency);
  const style = options.plain ? {} : { style: "currency" as const, currency };
  const format = new Intl.NumberFormat(undefined, {
    ...style,
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
    useGrouping: !options.plain,
  });
  const size = value < 0n ? -value : value;
  const unit = 10n ** BigInt(decimals);
  const fraction = (size % unit).toString().padStart(decimals, "0");
  // the whole part goes through Intl as bigint, so no digit is lost; the fraction is put in by hand
  const text = format
    .formatToParts(size / unit)
    .map((part) => (part.type === "fraction" ? fraction : part.value))
    .join("");
  const sign = value < 0n ? "−" : options.signed && value > 0n ? "+" : "";
  return sign + text;
}

export type AmountFault = "empty" | "unreadable" | "ambiguous" | "decimals" | "zero" | "large";

/** Read what a person typed; minor units, or what is wrong. Comma and point are both taken, guesses are not made. */
export function parseAmount(text: string, currency: string): bigint | AmountFault {
  const bare = text.replace(GROUPS, "");
  if (bare === "") return "empty";
  if (!/^[0-9][0-9.,]*$/.test(bare)) return "unreadable";
  const split = splitDecimals(bare, decimalsOf(currency));
  if (typeof split === "string") return split;
  const decimals = decimalsOf(currency);
  if (split.fraction.length > decimals) return "decimals";
  const minor = BigInt(split.whole + split.fraction.padEnd(decimals, "0"));
  if (minor === 0n) return "zero";
  return minor >= MAX_MINOR ? "large" : minor;
}

function splitDecimals(bare: string, decimals: number): { whole: string; fraction: string } | AmountFault {
  const marks = [...bare.matchAll(/[.,]/g)];
  const last = marks.at(-1);
  if (!last) return { whole: bare, fraction: "" };
  const fraction = bare.slice(last.index + 1);
  const kinds = new Set(marks.map((mark) => mark[0]));
  if (marks.length === 1) {
    // 1,234 is a thousand to some and one and a bit to others
    if (fraction.length === 3 && decimals !== 3) return "ambiguous";
    return { whole: bare.slice(0, last.index), fraction };
  }
  const grouped = /^[0-9]{1,3}([.,])[0-9]{3}(\1[0-9]{3})*$/;
  if (kinds.size === 1) {
    return grouped.test(bare) ? { whole: bare.replace(/[.,]/g, ""), fraction: "" } : "unreadable";
  }
  const whole = bare.slice(0, last.index);
  return grouped.test(whole) && !whole.includes(last[0])
    ? { whole: whole.replace(/[.,]/g, ""), fraction }
    : "unreadable";
}

const FAULTS: Record<AmountFault, (currency: string) => string> = {
  empty: () => "Type an amount.",
  unreadable: () => "Type digits, such as 12.50.",
  ambiguous: () => "Type it without a separator of thousands, or with decimals, so that it cannot be misread.",
  decimals: (currency) =>
    decimalsOf(currency) === 0
      ? `${currency} has no decimals.`
      : `${currency} has ${decimalsOf(currency)} decimals, not more.`,
  zero: () => "Type more than zero.",
  large: () => "That is more than any account can hold.",
};

/** Say what is wrong with an amount. */
export const amountWords = (fault: AmountFault, currency: string): string => FAULTS[fault](currency);
