/** What happened lately on one's accounts, and what of it this browser has not shown yet. */

import { useEffect } from "preact/hooks";
import { api, ApiError, type Shapes } from "../api";
import { useEntries } from "../live";
import { present } from "../session";
import { createStore } from "../store";
import { localStorageOrNull } from "./orders";

export interface Item {
  account: number;
  currency: string;
  entry: Shapes["Entry"];
}

export interface News {
  whose: string;
  /** Newest first; undefined before the first answer. */
  items: Item[] | undefined;
  error: ApiError | undefined;
  /** For each account the position up to which everything was seen. */
  seen: Record<number, number>;
  /** The currency of each account. */
  currencies: Record<number, string>;
}

const SHOWN_MAX = 50;
const EACH_MAX = 25;
const GATHER_MS = 300;
const NOTHING: News = { whose: "", items: undefined, error: undefined, seen: {}, currencies: {} };

export const news = createStore<News>(NOTHING);

export const isUnread = (item: Item, seen: News["seen"]): boolean => item.entry.position > (seen[item.account] ?? 0);

/** How many are unread. */
export const unread = ({ items, seen }: News): number => (items ?? []).filter((item) => isUnread(item, seen)).length;

const key = (whose: string): string => `fortress.seen.${whose}`;

function readSeen(whose: string): Record<number, number> {
  try {
    const read: unknown = JSON.parse(localStorageOrNull()?.getItem(key(whose)) ?? "{}");
    return typeof read === "object" && read !== null ? (read as Record<number, number>) : {};
  } catch {
    return {};
  }
}

function writeSeen(whose: string, seen: Record<number, number>): void {
  try {
    localStorageOrNull()?.setItem(key(whose), JSON.stringify(seen));
  } catch {
    // Then the same entries are new again next time.
  }
}

/** Put two lists together: each entry once, the newest first. */
export function merged(one: Item[], other: Item[]): Item[] {
  const all = new Map([...one, ...other].map((item) => [`${item.account}/${item.entry.position}`, item]));
  const sorted = [...all.values()].sort((a, b) => b.entry.position - a.entry.position || a.account - b.account);
  return sorted.slice(0, SHOWN_MAX);
}

// What was there before this browser looked for the first time is no news.
function withNewAccounts(seen: Record<number, number>, accounts: number[], items: Item[]): Record<number, number> {
  const first = accounts.filter((number) => seen[number] === undefined);
  const isFirstLook = Object.keys(seen).length === 0;
  const newest = (number: number) =>
    isFirstLook ? (items.find((item) => item.account === number)?.entry.position ?? 0) : 0;
  return { ...seen, ...Object.fromEntries(first.map((number) => [number, newest(number)])) };
}

async function load(whose: string): Promise<void> {
  try {
    const { accounts } = await api.get("/api/accounts");
    const pages = await Promise.all(
      accounts.map(async ({ number }) => {
        const page = await api.get("/api/accounts/{number}/history", { path: { number }, query: { limit: EACH_MAX } });
        return page.entries.map((entry): Item => ({ account: number, currency: page.currency, entry }));
      }),
    );
    const now = news.get();
    if (now.whose !== whose) return;
    const items = merged(now.items ?? [], pages.flat());
    const seen = withNewAccounts(readSeen(whose), accounts.map(({ number }) => number), items);
    writeSeen(whose, seen);
    const currencies = Object.fromEntries(accounts.map((account) => [account.number, account.currency]));
    news.set({ whose, items, error: undefined, seen, currencies });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (news.get().whose === whose) news.set({ ...news.get(), error });
  }
}

/** Load what happened; whoever shows it calls this once. */
export function loadNews(): void {
  const { session } = present.get();
  if (!session || session.kind !== "bank") return;
  const whose = `${session.bank}.${session.username}`;
  if (news.get().whose !== whose) news.set({ ...NOTHING, whose, seen: readSeen(whose) });
  void load(whose);
}

/** Say that all of it was seen, here and in this browser's other tabs. */
export function markSeen(): void {
  const { whose, items, seen } = news.get();
  if (!items?.length) return;
  const next = { ...readSeen(whose), ...seen };
  for (const { account, entry } of items) next[account] = Math.max(next[account] ?? 0, entry.position);
  writeSeen(whose, next);
  news.set({ ...news.get(), seen: next });
}

// An entry that was told is put in; where some may have been missed, or the account is new, all is loaded.
function hear(event: Shapes["EntryEvent"] | null): void {
  const now = news.get();
  const currency = event ? now.currencies[event.account] : undefined;
  if (event && currency && now.items) {
    const items = merged([{ account: event.account, currency, entry: event.entry }], now.items);
    news.set({ ...now, items });
    return;
  }
  clearTimeout(gathering);
  gathering = setTimeout(loadNews, GATHER_MS);
}

let gathering: ReturnType<typeof setTimeout> | undefined;

/** Keep the news fresh while something shows them. */
export function useNews(): void {
  useEffect(() => {
    const { session } = present.get();
    const isTheirs = session !== null && news.get().whose === `${session.bank}.${session.username}`;
    if (!isTheirs || !news.get().items) loadNews();
  }, []);
  useEntries(hear);
  useEffect(() => {
    const follow = (event: StorageEvent) => {
      const now = news.get();
      if (event.key === key(now.whose)) news.set({ ...now, seen: readSeen(now.whose) });
    };
    addEventListener("storage", follow);
    return () => removeEventListener("storage", follow);
  }, []);
}
