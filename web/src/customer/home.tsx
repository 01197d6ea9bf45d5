/** Home: what one has, how it went, what happened last. */

import { useState } from "preact/hooks";
import { api, type Shapes } from "../api";
import { Amount, Block, Empty, Icon, LinkButton, Status } from "../components";
import { useLoaded } from "../loaded";
import { present } from "../session";
import { useStore } from "../store";
import { CurveBlock } from "./curveBlock";
import { Entries, type Row } from "./entries";
import { CustomerPage, type Mine, useMine } from "./page";
import { accountState, grouped } from "./words";

type Account = Shapes["Account"];

const LATEST = 6;

export function Home() {
  const mine = useMine();
  const name = useStore(present).session?.name;
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { live: true });
  const all = accounts.data?.accounts ?? [];
  return (
    <CustomerPage
      title={name ? `Hello, ${name.split(" ")[0]}` : "Your accounts"}
      actions={
        <>
          <LinkButton href="/accounts/new" icon="plus">
            Open an account
          </LinkButton>
          <LinkButton href="/send" kind="primary" icon="send">
            Send money
          </LinkButton>
        </>
      }
    >
      <Block
        of={accounts}
        bare
        title="Your accounts"
        lines={4}
        isEmpty={(it) => it.accounts.length === 0}
        empty={
          <div class="card">
            <Empty
              words="You have no account yet. One is opened in a moment."
              action={<LinkButton href="/accounts/new" kind="primary">Open your first account</LinkButton>}
            />
          </div>
        }
      >
        {(it) => (
          <ul class="accounts" role="list">
            {it.accounts.map((account) => (
              <li key={account.number}>
                <AccountCard account={account} />
              </li>
            ))}
          </ul>
        )}
      </Block>
      {all.length > 0 && <Curves accounts={all} />}
      {all.length > 0 && <Latest accounts={all} mine={mine} />}
    </CustomerPage>
  );
}

function AccountCard({ account }: { account: Account }) {
  const { currency, held, incoming } = account;
  const state = accountState(account.state);
  return (
    <article class="card account-card">
      <p class="account-name">
        <a class="account-link" href={`/accounts/${account.number}`}>
          {currency} account
        </a>
        <span class="muted number">{grouped(account.number)}</span>
      </p>
      <p>
        <Amount minor={account.balance} currency={currency} large />
      </p>
      <p class="account-more">
        <span>
          Available <Amount minor={account.available} currency={currency} />
        </span>
        {held !== "0" && (
          <span>
            On hold <Amount minor={held} currency={currency} />
          </span>
        )}
        {incoming !== "0" && (
          <span>
            On its way <Amount minor={incoming} currency={currency} />
          </span>
        )}
      </p>
      {account.state !== "open" && <Status tone={state.tone}>{state.word}</Status>}
    </article>
  );
}

function Curves({ accounts }: { accounts: Account[] }) {
  const [chosen, setChosen] = useState(0);
  const number = accounts.some((each) => each.number === chosen) ? chosen : (accounts[0]?.number ?? 0);
  const chooser = accounts.length > 1 && (
    <span class="curve-chooser">
      <select aria-label="Account whose balance is drawn" value={String(number)} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
        {accounts.map((each) => (
          <option key={each.number} value={String(each.number)}>
            {each.currency} account {grouped(each.number)}
          </option>
        ))}
      </select>
      <Icon name="chevron_down" size={16} />
    </span>
  );
  return <CurveBlock number={number} chooser={chooser} />;
}

function Latest({ accounts, mine }: { accounts: Account[]; mine: Mine }) {
  const numbers = accounts.map((each) => each.number);
  const latest = useLoaded((signal) => readLatest(numbers, signal), [numbers.join()], { live: true });
  return (
    <Block
      of={latest}
      title="Latest payments"
      lines={6}
      actions={<LinkButton href="/activity" kind="quiet" small>Show all activity</LinkButton>}
      isEmpty={(rows) => rows.length === 0}
      empty={<Empty words="Nothing has happened on your accounts yet." action={<LinkButton href="/send">Send money</LinkButton>} />}
    >
      {(rows) => <Entries rows={rows} label="Latest payments" withAccount={accounts.length > 1} {...mine} />}
    </Block>
  );
}

async function readLatest(numbers: number[], signal: AbortSignal): Promise<Row[]> {
  const pages = await Promise.all(
    numbers.map(async (number) => {
      const query = { limit: LATEST };
      const page = await api.get("/api/accounts/{number}/history", { path: { number }, query, signal });
      return page.entries.map((entry): Row => ({ account: number, currency: page.currency, entry }));
    }),
  );
  return pages.flat().sort((one, other) => other.entry.position - one.entry.position).slice(0, LATEST);
}
