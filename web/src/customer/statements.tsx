/** Statements by month, to read and to print. */

import { api, type Shapes } from "../api";
import { Amount, Block, Button, Empty, Facts, LinkButton, SelectField, Table, When } from "../components";
import { useLoaded } from "../loaded";
import { go, type PageProps } from "../router";
import { present } from "../session";
import { useStore } from "../store";
import { formatTime, isoDay } from "../time";
import { type Entry, partyWords } from "./entries";
import { CustomerPage, type Mine, useMine } from "./page";
import { grouped, kindWord } from "./words";

type Account = Shapes["Account"];
type Statement = Shapes["Statement"];

const MONTHS_MAX = 120;
const PAGES_MAX = 200;

/** The months from an account's opening to now, newest first, as 2026-03. */
export function monthsSince(opened: string, today: string): string[] {
  const months: string[] = [];
  let [year = 0, month = 0] = today.split("-").map(Number);
  for (let left = MONTHS_MAX; left > 0; left--) {
    const name = `${year}-${String(month).padStart(2, "0")}`;
    months.push(name);
    if (name <= opened.slice(0, 7)) break;
    [year, month] = month === 1 ? [year - 1, 12] : [year, month - 1];
  }
  return months;
}

/** The first and the last day of a month; of the present one, today. */
export function daysOf(month: string, today: string): { begin: string; end: string } {
  const [year = 0, number = 1] = month.split("-").map(Number);
  const last = new Date(Date.UTC(year, number, 0)).toISOString().slice(0, 10);
  return { begin: `${month}-01`, end: last < today ? last : today };
}

export function Statements({ query }: PageProps) {
  const mine = useMine();
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), []);
  const all = accounts.data?.accounts ?? [];
  const account = all.find((each) => String(each.number) === query.get("account")) ?? all[0];
  const months = account ? monthsSince(account.opened, isoDay()) : [];
  const asked = query.get("month") ?? "";
  const month = months.includes(asked) ? asked : (months[0] ?? "");
  const show = (number: number, which: string) => go(`/statements?account=${number}&month=${which}`, { replace: true });
  return (
    <CustomerPage
      title="Statements"
      actions={
        account && (
          <Button icon="print" onClick={() => print()}>
            Print or save as PDF
          </Button>
        )
      }
    >
      <Block
        of={accounts}
        bare
        isEmpty={(data) => data.accounts.length === 0}
        empty={<Empty words="You have no account yet." action={<LinkButton href="/accounts/new" kind="primary">Open an account</LinkButton>} />}
      >
        {() =>
          account && (
            <>
              <div class="pair chooser no-print">
                <SelectField
                  label="Account"
                  value={String(account.number)}
                  onValue={(value) => show(Number(value), month)}
                  options={all.map((each) => ({ value: String(each.number), label: `${each.currency} account ${grouped(each.number)}` }))}
                />
                <SelectField
                  label="Month"
                  value={month}
                  onValue={(value) => show(account.number, value)}
                  options={months.map((each) => ({ value: each, label: formatTime(`${each}-01`, "month") }))}
                />
              </div>
              <Sheet account={account} month={month} mine={mine} />
            </>
          )
        }
      </Block>
    </CustomerPage>
  );
}

/** All pages of a statement as one; its sums are the bank's, over all of it. */
async function readStatement(number: number, month: string, signal: AbortSignal): Promise<Statement> {
  const span = daysOf(month, isoDay());
  const read = (cursor: number) =>
    api.get("/api/accounts/{number}/statement", { path: { number }, query: { ...span, cursor }, signal });
  let whole = await read(0);
  for (let pages = 1; whole.cursor !== 0 && pages < PAGES_MAX; pages++) {
    const page = await read(whole.cursor);
    whole = { ...whole, entries: [...whole.entries, ...page.entries], cursor: page.cursor };
  }
  return whole;
}

function Sheet({ account, month, mine }: { account: Account; month: string; mine: Mine }) {
  const statement = useLoaded((signal) => readStatement(account.number, month, signal), [account.number, month]);
  const owner = useStore(present).session?.name ?? "";
  const span = daysOf(month, isoDay());
  return (
    <Block of={statement} lines={8}>
      {(data) => (
        <article class="sheet">
          <header class="sheet-head">
            <h2>
              Bank {mine.bank}: statement for {formatTime(`${month}-01`, "month")}
            </h2>
            <Facts
              of={[
                ["Account", <span key="number" class="number">{grouped(account.number)}</span>],
                ["Owner", owner || account.owner],
                ["Days (UTC)", `${formatTime(span.begin, "date")} to ${formatTime(span.end, "date")}`],
              ]}
            />
          </header>
          <dl class="sums">
            <Sum name="Opening balance" minor={data.opening} currency={data.currency} />
            <Sum name="In" minor={data.credits} currency={data.currency} />
            <Sum name="Out" minor={data.debits} currency={data.currency} />
            <Sum name="Closing balance" minor={data.closing} currency={data.currency} isStrong />
          </dl>
          <Lines data={data} mine={mine} />
          {data.cursor !== 0 && <p class="warn">This statement is longer than a page can show. Download it under Activity.</p>}
          <footer class="sheet-foot">
            <p>
              Cut from the bank's journal at entry {data.head.tree_size}, signed by bank {data.head.bank} on {formatTime(data.head.time, "both")}. Root of the
              journal: <span class="code wrap">{data.head.root}</span>
            </p>
          </footer>
        </article>
      )}
    </Block>
  );
}

function Sum({ name, minor, currency, isStrong = false }: { name: string; minor: string; currency: string; isStrong?: boolean }) {
  return (
    <div class={isStrong ? "sum sum-strong" : "sum"}>
      <dt>{name}</dt>
      <dd>
        <Amount minor={minor} currency={currency} />
      </dd>
    </div>
  );
}

function Lines({ data, mine }: { data: Statement; mine: Mine }) {
  if (data.entries.length === 0) return <p class="muted">Nothing was booked in this time.</p>;
  return (
    <Table<Entry>
      caption="Entries"
      rows={data.entries}
      keyOf={(entry) => String(entry.position)}
      columns={[
        { head: "Day", cell: (entry) => <When time={entry.time} style="day" /> },
        { head: "Who", cell: (entry) => partyWords(entry, mine), isHead: true },
        { head: "What for", cell: (entry) => entry.reference || kindWord(entry.kind) },
        { head: "Amount", cell: (entry) => entry.amount !== "0" && <Amount minor={entry.amount} currency={data.currency} signed />, align: "end" },
        { head: "Balance", cell: (entry) => entry.balance !== null && <Amount minor={entry.balance} currency={data.currency} />, align: "end" },
      ]}
    />
  );
}
