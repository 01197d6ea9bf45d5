/** Times as people read them, and the bank's clock: a browser's own may be wrong. */

let ahead_ms = 0;

/** Learn the server's time from an answer's Date header. */
export function heardDate(header: string | null): void {
  const told = header === null ? Number.NaN : Date.parse(header);
  if (Number.isNaN(told)) return;
  const difference = told - Date.now();
  // the header has whole seconds, and the answer was on its way
  ahead_ms = Math.abs(difference) < 2000 ? 0 : difference;
}

/** The server's time in milliseconds since 1970. */
export const serverNow = (): number => Date.now() + ahead_ms;

type Style = "date" | "day" | "time" | "clock" | "both" | "month";

const STYLES: Record<Style, Intl.DateTimeFormatOptions> = {
  date: { day: "numeric", month: "long", year: "numeric" },
  day: { day: "numeric", month: "short" },
  month: { month: "long", year: "numeric" },
  time: { hour: "2-digit", minute: "2-digit" },
  clock: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  both: { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" },
};

/**
 * Write a time (ISO text or milliseconds) in the reader's language and zone: date 3 March 2026, day 3 Mar, month
 * March 2026, time 14:01, clock 14:01:55, both 3 Mar 2026, 14:01.
 *
 * Days without a time, such as 2026-03-03, stay that day everywhere.
 */
export function formatTime(time: string | number, style: Style): string {
  const isDay = typeof time === "string" && time.length === 10;
  const options = { ...STYLES[style], ...(isDay ? { timeZone: "UTC" } : {}) };
  return new Intl.DateTimeFormat(undefined, options).format(new Date(time));
}

/** Today by the server's clock as YYYY-MM-DD in UTC, since statements are cut by days of UTC; `days` later. */
export function isoDay(days = 0): string {
  return new Date(serverNow() + days * 86_400_000).toISOString().slice(0, 10);
}

/** Say how long something takes: "40 seconds", "3 minutes", "2 hours". */
export function formatSpan(seconds: number): string {
  const [size, unit] =
    seconds < 90
      ? [Math.max(1, Math.round(seconds)), "second"]
      : seconds < 5400
        ? [Math.round(seconds / 60), "minute"]
        : [Math.round(seconds / 3600), "hour"];
  return new Intl.NumberFormat(undefined, { style: "unit", unit: unit as string, unitDisplay: "long" }).format(
    size as number,
  );
}
