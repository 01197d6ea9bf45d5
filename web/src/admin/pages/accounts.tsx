/** All accounts of the bank, a page at a time; or one, by its number. */

import { useState } from "preact/hooks";
import { Amount, type Column, Page } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { NameSearch, Pager } from "../controls";
import { Panel, State } from "../parts";
import { Rows } from "../rows";
import type { Account } from "../types";
import { accountState, plain } from "../words";

const PAGE_ROWS = 50;

export const accountPath = (number: number | string): string => `/admin/accounts/${number}`;

const NUMBER: Column<Account> = {
  head: "Account",
  isHead: true,
  cell: (account) => (
    <a href={accountPath(account.number)}>
      {account.number}
    </a>
  ),
};
const OWNER: Column<Account> = {
  head: "Owner",
  cell: (account) => account.owner || plain(account.kind),
};
const REST: Column<Account>[] = [
  { head: "State", cell: (account) => <State told={accountState(account.state)} /> },
  { head: "Balance", cell: (account) => <Amount minor={account.balance} currency={account.currency} />, align: "end" },
  { head: "Available", cell: (account) => <Amount minor={account.available} currency={account.currency} />, align: "end" },
  { head: "On hold", cell: (account) => <Amount minor={account.held} currency={account.currency} />, align: "end" },
];

/** Accounts of one customer, or with `owners` of all. */
export function AccountRows({ accounts, owners = false }: { accounts: Account[]; owners?: boolean }) {
  const columns = owners ? [NUMBER, OWNER, ...REST] : [NUMBER, ...REST];
  return <Rows caption="Accounts" columns={columns} rows={accounts} keyOf={(account) => String(account.number)} />;
}

export function Accounts() {
  const [trail, setTrail] = useState<number[]>([0]);
  const after = trail.at(-1) ?? 0;
  const shown = useLoaded((signal) => calls.accountsOf("", after, PAGE_ROWS, signal), [after]);
  return (
    <Page title="Accounts">
      <NameSearch label="Open an account by number" button="Open account" to={accountPath} digits />
      <Panel name="Accounts" hidden shown={shown} empty={(data) => (data.accounts.length ? "" : "There are no accounts yet. Open one on a customer's page.")}>
        {(data) => (
          <>
            <AccountRows accounts={data.accounts} owners />
            <Pager
              page={trail.length}
              back={trail.length > 1 ? () => setTrail(trail.slice(0, -1)) : null}
              forth={data.next_after ? () => setTrail([...trail, data.next_after ?? 0]) : null}
            />
          </>
        )}
      </Panel>
    </Page>
  );
}
