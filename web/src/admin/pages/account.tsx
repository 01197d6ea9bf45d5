/** One account as staff sees it: what it holds, what it allows, its newest entries. */

import { useState } from "preact/hooks";
import { Amount, Button, ChoiceField, type Column, Facts, Page, When } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Moment, None, Panel, State } from "../parts";
import { Rows } from "../rows";
import type { Account as AccountData, Entry } from "../types";
import { hasRole, useWho } from "../who";
import { accountState, kindWord, plain } from "../words";
import { customerPath } from "./customers";
import { LimitsDialog } from "./limits";

const EVERY_MS = 3_000;
type Doing = "freeze" | "unfreeze" | "close" | "reopen" | "limits" | null;

export function Account({ number }: { number: number }) {
  const who = useWho();
  const [doing, setDoing] = useState<Doing>(null);
  const shown = useLoaded((signal) => calls.account(number, signal), [number], { every_ms: EVERY_MS });
  const account = shown.data?.account;
  const props = { onClose: () => setDoing(null), onDone: shown.reload };
  return (
    <Page
        title={`Account ${number}`}
        back={{ href: "/admin/accounts", label: "Accounts" }}
        actions={account && hasRole(who, "administrator") && <Acts account={account} onAct={setDoing} />}
    >
      <Panel name="Account" hidden shown={shown}>
        {(data) => <Sheet account={data.account} />}
      </Panel>
      <Panel
        name="Newest entries"
        shown={shown}
        empty={(data) => (data.entries.length ? "" : "Nothing has moved on this account yet.")}
      >
        {(data) => <EntryRows entries={data.entries} currency={data.account.currency} />}
      </Panel>
      {account && doing === "freeze" && <FreezeDialog account={account} {...props} />}
      {account && doing === "limits" && <LimitsDialog account={account} {...props} />}
      {account && (doing === "unfreeze" || doing === "close" || doing === "reopen") && (
        <StateDialog account={account} act={doing} {...props} />
      )}
    </Page>
  );
}

function Acts({ account, onAct }: { account: AccountData; onAct: (doing: Doing) => void }) {
  if (account.state === "closed") {
    return (
      <Button onClick={() => onAct("reopen")}>
        Reopen
      </Button>
    );
  }
  const isFrozen = account.state !== "open";
  return (
    <>
      <Button onClick={() => onAct("limits")}>
        Change limits
      </Button>
      {isFrozen ? (
        <Button onClick={() => onAct("unfreeze")}>
          Unfreeze
        </Button>
      ) : (
        <Button onClick={() => onAct("freeze")}>
          Freeze
        </Button>
      )}
      <Button kind="danger" onClick={() => onAct("close")}>
        Close
      </Button>
    </>
  );
}

function Sheet({ account }: { account: AccountData }) {
  const money = (minor: string | null) =>
    minor === null ? "No limit" : <Amount minor={minor} currency={account.currency} />;
  return (
    <>
      <div class="balance-line">
        <Amount minor={account.balance} currency={account.currency} large />
        <State told={accountState(account.state)} />
      </div>
      <div class="facts-wide">
        <Facts
          of={[
          ["Owner", account.owner ? <a href={customerPath(account.owner)}>{account.owner}</a> : plain(account.kind)],
          ["Available", money(account.available)],
          ["On hold", money(account.held)],
          ["On its way in", money(account.incoming)],
          ["Lowest balance", account.floor === null ? "None" : money(account.floor)],
          ["Limit for one payment", money(account.limit_payment)],
          ["Limit for a day", <Left limit={account.limit_day} left={account.left_day} currency={account.currency} />],
          ["Limit for a month", <Left limit={account.limit_month} left={account.left_month} currency={account.currency} />],
          ["Payment orders", account.signed_orders_only ? "Only signed ones" : "Signed or not"],
          ["Kind", plain(account.kind)],
          ["Opened", <When time={account.opened} />],
          ]}
        />
      </div>
    </>
  );
}

function Left({ limit, left, currency }: { limit: string | null; left: string | null; currency: string }) {
  if (limit === null) return <>No limit</>;
  return (
    <>
      <Amount minor={limit} currency={currency} />
      {left !== null && (
        <span class="quiet">
          {" "}
          (<Amount minor={left} currency={currency} /> left)
        </span>
      )}
    </>
  );
}

function EntryRows({ entries, currency }: { entries: Entry[]; currency: string }) {
  const columns: Column<Entry>[] = [
    { head: "When", cell: (entry) => <Moment time={entry.time} /> },
    { head: "What", cell: (entry) => kindWord(entry.kind) },
    { head: "With", cell: (entry) => entry.counterparty || <None /> },
    { head: "Reference", cell: (entry) => entry.reference || <None /> },
    { head: "Amount", cell: (entry) => <Amount minor={entry.amount} currency={currency} signed />, align: "end" },
    {
      head: "Balance after",
      cell: (entry) => (entry.balance === null ? <None /> : <Amount minor={entry.balance} currency={currency} />),
      align: "end",
    },
  ];
  return <Rows caption="Newest entries" columns={columns} rows={entries} keyOf={(entry) => String(entry.position)} />;
}

interface DialogProps {
  account: AccountData;
  onClose: () => void;
  onDone: () => void;
}

function FreezeDialog({ account, ...props }: DialogProps) {
  const [how, setHow] = useState("all");
  const debitsOnly = how === "debits";
  return (
    <ActDialog
      {...props}
      title={`Freeze account ${account.number}`}
      act="Freeze the account"
      run={() => calls.freeze(account.number, debitsOnly)}
      done={debitsOnly ? "Nothing can be paid out of this account." : "Nothing moves on this account."}
    >
      <p>What is reserved already is still carried out. It lasts until somebody unfreezes the account.</p>
      <ChoiceField
        label="What is refused"
        value={how}
        options={[
          { value: "all", label: "Everything, in and out" },
          { value: "debits", label: "Payments out only" },
        ]}
        onValue={setHow}
      />
    </ActDialog>
  );
}

const ACTS = {
  unfreeze: {
    title: "Unfreeze",
    act: "Unfreeze the account",
    words: "Money can move on it again.",
    done: "The account is open again.",
    danger: false,
  },
  close: {
    title: "Close",
    act: "Close the account",
    words: "It must be empty, with nothing reserved. Its entries stay, and it can be reopened.",
    done: "The account is closed.",
    danger: true,
  },
  reopen: {
    title: "Reopen",
    act: "Reopen the account",
    words: "It takes and sends money again, under the same number.",
    done: "The account is open again.",
    danger: false,
  },
} as const;

function StateDialog({ account, act, ...props }: DialogProps & { act: keyof typeof ACTS }) {
  const words = ACTS[act];
  return (
    <ActDialog
      {...props}
      title={`${words.title} account ${account.number}`}
      act={words.act}
      danger={words.danger}
      run={() => calls[act](account.number)}
      done={words.done}
    >
      <p>{words.words}</p>
    </ActDialog>
  );
}
