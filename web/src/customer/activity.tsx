/** What happened on an account, newest first, with filters and a download. */

import { useEffect, useState } from "preact/hooks";
import { addressOf, api, ApiError, type Shapes } from "../api";
import { Amount, Block, Button, Dialog, Empty, Facts, Form, LinkButton, ProblemNotice, SelectField, Status, TextField } from "../components";
import { type Loaded, useLoaded } from "../loaded";
import { amountWords, formatMoney, parseAmount } from "../money";
import { go, type PageProps } from "../router";
import { formatTime, isoDay } from "../time";
import { CurveBlock } from "./curveBlock";
import { Entries, type Entry } from "./entries";
import { CustomerPage, type Mine, useMine } from "./page";
import { accountState, grouped, KINDS } from "./words";

type AccountShape = Shapes["Account"];
type Page = Shapes["EntryPage"];

const PAGE = 25;

// -- which account -------------------------------------------------------------------------------------------------

/** All accounts' activity, one account at a time. */
export function Activity({ query }: PageProps) {
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { live: true });
  const all = accounts.data?.accounts ?? [];
  const wanted = Number(query.get("account"));
  const account = all.find((each) => each.number === wanted) ?? all[0];
  return (
    <CustomerPage title="Activity" actions={account && <Download account={account} />}>
      <Block
        of={accounts}
        bare
        isEmpty={(data) => data.accounts.length === 0}
        empty={<Empty words="You have no account yet." action={<LinkButton href="/accounts/new" kind="primary">Open an account</LinkButton>} />}
      >
        {() => (
          <>
            {all.length > 1 && account && (
              <div class="chooser">
                <SelectField
                  label="Account"
                  value={String(account.number)}
                  onValue={(value) => go(`/activity?account=${value}`, { replace: true })}
                  options={all.map((each) => ({ value: String(each.number), label: `${each.currency} account ${grouped(each.number)}` }))}
                />
              </div>
            )}
            {account && <History key={account.number} account={account} query={query} base="/activity" />}
          </>
        )}
      </Block>
    </CustomerPage>
  );
}

/** One account: what is on it, how it went, what happened. */
export function Account({ params, query }: PageProps) {
  const number = Number(params["number"]);
  const isNumber = Number.isSafeInteger(number) && number > 0;
  const account = useLoaded((signal) => api.get("/api/accounts/{number}", { path: { number }, signal }), [number], {
    live: true,
    skip: !isNumber,
  });
  const data = account.data;
  const title = data ? `${data.currency} account` : "Account";
  return (
    <CustomerPage
      title={title}
      lead={<span class="number">{grouped(params["number"] ?? "")}</span>}
      back={{ href: "/", label: "Your accounts" }}
      actions={data && <Download account={data} />}
    >
      {isNumber ? (
        <Block of={account} title="Balance">
          {(it) => <Sums account={it} />}
        </Block>
      ) : (
        <Empty words="This is not an account number." action={<LinkButton href="/">Go to your accounts</LinkButton>} />
      )}
      {data && <CurveBlock number={data.number} />}
      {data && <History account={data} query={query} base={`/accounts/${data.number}`} />}
    </CustomerPage>
  );
}

function Sums({ account }: { account: AccountShape }) {
  const { currency } = account;
  const state = accountState(account.state);
  const money = (minor: string | null) => (minor === null ? "" : formatMoney(minor, currency));
  const left = (limit: string | null, rest: string | null) => (limit === null ? "" : `${money(limit)}, of which ${money(rest ?? limit)} are left`);
  return (
    <>
      <p>
        <Amount minor={account.balance} currency={currency} large />
      </p>
      <Facts
        of={[
          ["Available", money(account.available)],
          ["On hold", account.held !== "0" && money(account.held)],
          ["On its way to you", account.incoming !== "0" && money(account.incoming)],
          ["State", account.state !== "open" && <Status tone={state.tone}>{state.word}</Status>],
          ["Limit for one payment", money(account.limit_payment)],
          ["Limit for a day (UTC)", left(account.limit_day, account.left_day)],
          ["Limit for a month", left(account.limit_month, account.left_month)],
          ["Orders", account.signed_orders_only && "Only signed with your password's key"],
          ["Opened", formatTime(account.opened, "date")],
        ]}
      />
    </>
  );
}

// -- filters -------------------------------------------------------------------------------------------------------

interface Wanted {
  text: string;
  kind: string;
  begin: string;
  end: string;
  least: string;
  most: string;
}

const NAMES = ["text", "kind", "begin", "end", "least", "most"] as const satisfies (keyof Wanted)[];

function wantedOf(query: URLSearchParams): Wanted {
  const [text = "", kind = "", begin = "", end = "", least = "", most = ""] = NAMES.map((name) => query.get(name) ?? "");
  return { text, kind, begin, end, least, most };
}

const isAnything = (wanted: Wanted): boolean => NAMES.some((name) => wanted[name] !== "");

function minorOf(typed: string, currency: string): string {
  const parsed = parseAmount(typed, currency);
  return typeof parsed === "bigint" ? parsed.toString() : "0";
}

interface HistoryProps {
  account: AccountShape;
  query: URLSearchParams;
  /** Where the filters are kept: in the address, so that a page can be reloaded and told to others. */
  base: string;
}

function History({ account, query, base }: HistoryProps) {
  const mine = useMine();
  const wanted = wantedOf(query);
  const { number, currency } = account;
  const asked = {
    limit: PAGE,
    text: wanted.text,
    kinds: wanted.kind,
    begin: wanted.begin,
    end: wanted.end,
    amount_min: minorOf(wanted.least, currency),
    amount_max: minorOf(wanted.most, currency),
  };
  const first = useLoaded(
    (signal) => api.get("/api/accounts/{number}/history", { path: { number }, query: asked, signal }),
    [number, query.toString()],
    { live: true },
  );
  const show = (next: Wanted | null) => {
    const kept = new URLSearchParams(base === "/activity" ? { account: String(number) } : {});
    for (const name of NAMES) if (next?.[name]) kept.set(name, next[name]);
    const text = kept.toString();
    go(text ? `${base}?${text}` : base, { replace: true });
  };
  const isFiltered = isAnything(wanted);
  return (
    <Block
      of={first}
      title={base === "/activity" ? "Entries" : "Activity"}
      lines={6}
      actions={<Filters key={query.toString()} wanted={wanted} currency={currency} onShow={show} />}
      isEmpty={(page) => page.entries.length === 0 && page.cursor === 0}
      empty={
        isFiltered ? (
          <Empty words="Nothing fits these filters." action={<Button onClick={() => show(null)}>Clear the filters</Button>} />
        ) : (
          <Empty words="Nothing has happened on this account yet." action={<LinkButton href="/send">Send money</LinkButton>} />
        )
      }
    >
      {(page) => <Pages key={query.toString()} first={page} loaded={first} account={number} asked={asked} mine={mine} />}
    </Block>
  );
}

interface PagesProps {
  first: Page;
  loaded: Loaded<Page>;
  account: number;
  asked: object;
  mine: Mine;
}

/** The first page, which is live, and as many older ones as were asked for. */
function Pages({ first, account, asked, mine }: PagesProps) {
  const [older, setOlder] = useState<{ entries: Entry[]; cursor: number } | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const cursor = older ? older.cursor : first.cursor;
  const more = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      const query = { ...asked, cursor };
      const page = await api.get("/api/accounts/{number}/history", { path: { number: account }, query });
      // What slid off the first page meanwhile is among the older ones.
      const before = older ? older.entries : first.entries;
      setOlder({ entries: [...before, ...page.entries], cursor: page.cursor });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  const all = new Map([...first.entries, ...(older?.entries ?? [])].map((entry) => [entry.position, entry]));
  const rows = [...all.values()].sort((one, other) => other.position - one.position);
  return (
    <>
      <Entries rows={rows.map((entry) => ({ account, currency: first.currency, entry }))} byDay label="Entries" {...mine} />
      {failure && <ProblemNotice error={failure} title="Older entries could not be loaded." assurance="Your money is not affected." />}
      {cursor !== 0 && (
        <p>
          <Button busy={isBusy} busyWords="Loading…" onClick={() => void more()}>
            Show older entries
          </Button>
        </p>
      )}
    </>
  );
}

function Filters({ wanted, currency, onShow }: { wanted: Wanted; currency: string; onShow: (next: Wanted | null) => void }) {
  const [isOpen, setOpen] = useState(false);
  const [it, setIt] = useState(wanted);
  const [errors, setErrors] = useState<Partial<Record<keyof Wanted, string>>>({});
  const count = NAMES.filter((name) => wanted[name] !== "").length;
  const set = (name: keyof Wanted) => (value: string) => setIt({ ...it, [name]: value });
  const show = () => {
    const found = faultsOf(it, currency);
    setErrors(found);
    if (Object.keys(found).length === 0) onShow(it);
  };
  useEffect(() => setIt(wanted), [isOpen]);
  return (
    <>
      {count > 0 && (
        <Button small kind="quiet" onClick={() => onShow(null)}>
          Clear filters
        </Button>
      )}
      <Button small icon="filter" pressed={count > 0} onClick={() => setOpen(true)}>
        {count > 0 ? `Filters (${count})` : "Filter"}
      </Button>
      {isOpen && (
        <Dialog title="Filter entries" onClose={() => setOpen(false)} actions={<Button kind="primary" onClick={show}>Show entries</Button>}>
          <Form onSubmit={show} label="Filter entries">
            <TextField label="Text in the reference" value={it.text} onValue={set("text")} maxLength={140} />
            <SelectField
              label="Kind"
              value={it.kind}
              onValue={set("kind")}
              options={[{ value: "", label: "All kinds" }, ...Object.entries(KINDS).map(([value, label]) => ({ value, label }))]}
            />
            <div class="pair">
              <TextField label="From day" type="date" value={it.begin} onValue={set("begin")} max={isoDay()} error={errors.begin ?? ""} />
              <TextField label="To day" type="date" value={it.end} onValue={set("end")} max={isoDay()} error={errors.end ?? ""} />
            </div>
            <div class="pair">
              <TextField label="At least" value={it.least} onValue={set("least")} inputMode="decimal" suffix={currency} error={errors.least ?? ""} />
              <TextField label="At most" value={it.most} onValue={set("most")} inputMode="decimal" suffix={currency} error={errors.most ?? ""} />
            </div>
            <button type="submit" class="hidden" tabIndex={-1}>
              Show entries
            </button>
          </Form>
        </Dialog>
      )}
    </>
  );
}

function faultsOf(it: Wanted, currency: string): Partial<Record<keyof Wanted, string>> {
  const found: Partial<Record<keyof Wanted, string>> = {};
  for (const name of ["least", "most"] as const) {
    const parsed = it[name] === "" ? 0n : parseAmount(it[name], currency);
    if (typeof parsed === "string") found[name] = amountWords(parsed, currency);
  }
  if (it.begin && it.end && it.begin > it.end) found.end = "This day is before the first one.";
  return found;
}

// -- download ------------------------------------------------------------------------------------------------------

function Download({ account }: { account: AccountShape }) {
  const [isOpen, setOpen] = useState(false);
  const [begin, setBegin] = useState(isoDay(-30));
  const [end, setEnd] = useState(isoDay());
  const isWrong = !begin || !end || begin > end;
  const link = (format: "csv" | "ndjson") =>
    addressOf("/api/accounts/{number}/export", { number: account.number }, { begin, end, format });
  return (
    <>
      <Button icon="download" onClick={() => setOpen(true)}>
        Download
      </Button>
      {isOpen && (
        <Dialog
          title="Download entries"
          onClose={() => setOpen(false)}
          cancel="Close"
          actions={
            !isWrong && (
              <>
                <LinkButton href={link("ndjson")} download icon="download">
                  NDJSON
                </LinkButton>
                <LinkButton href={link("csv")} download kind="primary" icon="download">
                  CSV
                </LinkButton>
              </>
            )
          }
        >
          <p class="muted">CSV opens in a spreadsheet; NDJSON is for programs. Days are days of UTC.</p>
          <div class="pair">
            <TextField label="From day" type="date" value={begin} onValue={setBegin} max={isoDay()} />
            <TextField
              label="To day"
              type="date"
              value={end}
              onValue={setEnd}
              max={isoDay()}
              error={isWrong ? "Choose two days, the earlier one first." : ""}
            />
          </div>
        </Dialog>
      )}
    </>
  );
}
