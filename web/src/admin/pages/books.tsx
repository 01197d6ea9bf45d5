/** The trial balance: what double entry promises, checked by addition. */

import { Amount, type Column, Page } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Check, Panel, Verdict } from "../parts";
import { Rows } from "../rows";
import type { Books as BooksData, BooksRow } from "../types";

const EVERY_MS = 5_000;

const balances = (row: BooksRow): boolean => row.sum === "0" && row.debits === row.credits && row.held === row.holds;

const COLUMNS: Column<BooksRow>[] = [
  { head: "Currency", isHead: true, cell: (row) => <strong>{row.currency}</strong> },
  { head: "Accounts", cell: (row) => row.accounts.toLocaleString(), align: "end" },
  { head: "Debits", cell: (row) => <Amount minor={row.debits} currency={row.currency} />, align: "end" },
  { head: "Credits", cell: (row) => <Amount minor={row.credits} currency={row.currency} />, align: "end" },
  { head: "Sum", cell: (row) => <Amount minor={row.sum} currency={row.currency} />, align: "end" },
  { head: "On hold", cell: (row) => <Amount minor={row.held} currency={row.currency} />, align: "end" },
  { head: "Open holds", cell: (row) => <Amount minor={row.holds} currency={row.currency} />, align: "end" },
  {
    head: "Check",
    cell: (row) => <Check holds={balances(row)} yes="Balanced" no="Does not balance" />,
  },
];

function Balance({ books }: { books: BooksData }) {
  const wrong = books.rows.filter((row) => !balances(row)).map((row) => row.currency);
  const where = `Added up over all accounts, at position ${books.position.toLocaleString()} of the journal.`;
  if (wrong.length === 0) {
    return (
      <Verdict tone="ok" title="The books balance: in every currency the sum is 0, and what is on hold is what the open holds add up to.">
        {where}
      </Verdict>
    );
  }
  return (
    <Verdict tone="danger" title={`The books do not balance in ${wrong.join(", ")}.`}>
      Stop taking payments and verify the journal: <code>fortress audit verify</code>. {where}
    </Verdict>
  );
}

export function Books() {
  const shown = useLoaded(calls.books, [], { every_ms: EVERY_MS });
  return (
    <Page title="Books"
      lead="Each entry takes from one account what it gives to another, so all accounts of a currency come to zero. What accounts have on hold is there as holds, one by one."
    >
      <Panel name="Trial balance" shown={shown} empty={(data) => (data.rows.length ? "" : "There are no accounts yet.")}>
        {(data) => (
          <>
            <Balance books={data} />
            <Rows caption="Trial balance by currency" columns={COLUMNS} rows={data.rows} keyOf={(row) => row.currency} />
          </>
        )}
      </Panel>
    </Page>
  );
}
