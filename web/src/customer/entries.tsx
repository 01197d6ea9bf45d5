/** Entries of accounts as people read them: whom, why, how much; grouped by day where they are many. */

import { Amount, Icon, type IconName, When } from "../components";
import type { Shapes } from "../api";
import { formatTime, serverNow } from "../time";
import { knownPayees } from "./payees";
import { grouped, KINDS, kindWord, partyOf } from "./words";

export type Entry = Shapes["Entry"];

export interface Row {
  account: number;
  currency: string;
  entry: Entry;
  isUnread?: boolean;
}

interface Whose {
  bank: string;
  whose: string;
}

interface EntriesProps extends Whose {
  rows: readonly Row[];
  /** With a heading for each day. */
  byDay?: boolean;
  /** Say which account, where there are several. */
  withAccount?: boolean;
  label: string;
}

const isOut = (entry: Entry): boolean => entry.amount.startsWith("-");

function iconOf(entry: Entry): IconName {
  if (entry.kind.startsWith("hold")) return entry.kind === "hold" ? "pause" : "refresh";
  if (entry.amount === "0") return "info";
  return isOut(entry) ? "arrow_out" : "arrow_in";
}

/** On the other side of these is an account of the bank itself, whose number says nothing to a customer. */
const OF_THE_BANK = new Set(["deposit", "withdrawal", "fee"]);

/** Say whom an entry was to or from, by name where this browser knows one. */
export function partyWords(entry: Entry, { bank, whose }: Whose): string {
  if (!entry.counterparty || OF_THE_BANK.has(entry.kind)) return kindWord(entry.kind);
  const known = knownPayees(whose).find((each) => each.payee === entry.counterparty);
  if (known) return known.name;
  const party = partyOf(entry.counterparty, bank);
  const account = `account ${grouped(party.number)}${party.bank ? ` at bank ${party.bank}` : ""}`;
  return `${isOut(entry) ? "To" : "From"} ${account}`;
}

/** List entries, newest first; each leads to its payment. */
export function Entries({ rows, byDay = false, withAccount = false, label, ...whose }: EntriesProps) {
  if (!byDay) return <EntryList rows={rows} label={label} withAccount={withAccount} {...whose} />;
  return (
    <>
      {days(rows).map(([day, its]) => (
        <section key={day} class="entry-day">
          <h3>{day}</h3>
          <EntryList rows={its} label={`${label}, ${day}`} withAccount={withAccount} isWithinDay {...whose} />
        </section>
      ))}
    </>
  );
}

function days(rows: readonly Row[]): [string, Row[]][] {
  const found = new Map<string, Row[]>();
  for (const row of rows) {
    const day = dayWords(row.entry.time);
    found.set(day, [...(found.get(day) ?? []), row]);
  }
  return [...found];
}

function dayWords(time: string): string {
  const day = formatTime(time, "date");
  if (day === formatTime(serverNow(), "date")) return "Today";
  return day === formatTime(serverNow() - 86_400_000, "date") ? "Yesterday" : day;
}

interface ListProps extends Whose {
  rows: readonly Row[];
  label: string;
  withAccount: boolean;
  isWithinDay?: boolean;
}

function EntryList({ rows, label, withAccount, isWithinDay = false, ...whose }: ListProps) {
  return (
    <ul class="entries" role="list" aria-label={label}>
      {rows.map((row) => (
        <li key={`${row.account}/${row.entry.position}`} class={row.isUnread ? "entry entry-unread" : "entry"}>
          <EntryLine row={row} withAccount={withAccount} isWithinDay={isWithinDay} {...whose} />
        </li>
      ))}
    </ul>
  );
}

function Reserved({ entry, currency }: { entry: Entry; currency: string }) {
  return (
    <span class="muted">
      (<Amount minor={entry.amount.replace("-", "")} currency={currency} />)
    </span>
  );
}

function EntryLine({ row, withAccount, isWithinDay, ...whose }: { row: Row; withAccount: boolean; isWithinDay: boolean } & Whose) {
  const { entry, currency } = row;
  const words = partyWords(entry, whose);
  const isLeading = entry.kind in KINDS;
  // what only reserves money stands beside the payment itself, with the same names and sums: say which is which
  const isBooked = !entry.kind.startsWith("hold");
  const about = entry.reference || (entry.counterparty && isBooked ? kindWord(entry.kind) : "");
  const more = [!isBooked && entry.counterparty && kindWord(entry.kind), about, withAccount && `Account ${grouped(row.account)}`];
  return (
    <>
      <span class={`entry-mark ${isOut(entry) ? "entry-out" : "entry-in"}`}>
        <Icon name={iconOf(entry)} size={18} />
      </span>
      <span class="entry-words">
        {isLeading ? (
          <a class="entry-link" href={`/payments/${entry.id}`}>
            {words}
          </a>
        ) : (
          <span>{words}</span>
        )}
        <span class="entry-more">
          {row.isUnread && <strong class="entry-new">New</strong>}
          {more.filter(Boolean).map((each) => (
            <span key={String(each)}>{each}</span>
          ))}
        </span>
      </span>
      <span class="entry-sums">
        {entry.amount !== "0" && (isBooked ? <Amount minor={entry.amount} currency={currency} signed /> : <Reserved entry={entry} currency={currency} />)}
        <span class="entry-more">
          <When time={entry.time} style={isWithinDay ? "time" : "both"} />
        </span>
      </span>
    </>
  );
}
