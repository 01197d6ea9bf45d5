/** A gateway's banks, and where they stand with each other. */

import { useState } from "preact/hooks";
import { Amount, Button, type Column, Page, TextField } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { readAmount } from "../money";
import { Check, Moment, None, Panel, State } from "../parts";
import { Rows } from "../rows";
import type { BankPosition, BankRow } from "../types";
import { hasRole, useWho } from "../who";
import { bankState } from "../words";

const EVERY_MS = 2_000;

const BANK_COLUMNS: Column<BankRow>[] = [
  { head: "Bank", isHead: true, cell: (row) => <strong>{row.bank}</strong> },
  { head: "State", cell: (row) => <State told={bankState(row.state)} /> },
  { head: "Link", cell: (row) => <Check holds={row.is_connected} yes="Connected" no="Not connected" /> },
  { head: "Primary", cell: (row) => row.node || <None /> },
  { head: "Epoch", cell: (row) => (row.epoch ? String(row.epoch) : <None />), align: "end" },
  { head: "Addresses", cell: (row) => row.addresses.join(", ") || <None /> },
  { head: "Since", cell: (row) => (row.since ? <Moment time={row.since} /> : <None />) },
];

export function Banks() {
  const who = useWho();
  const mayAct = who.kind === "gateway" && hasRole(who, "administrator");
  const shown = useLoaded(calls.banks, [], { every_ms: EVERY_MS });
  const [changing, setChanging] = useState<BankRow | null>(null);
  const [isAdding, setAdding] = useState(false);
  const act: Column<BankRow> = {
    head: "Act",
    cell: (row) => (
      <Button small onClick={() => setChanging(row)}>
        {row.state === "suspended" ? "Resume" : "Suspend"}
      </Button>
    ),
  };
  return (
    <Page
        title="Banks"
        actions={
          mayAct && (
            <Button kind="primary" onClick={() => setAdding(true)}>
              Let a bank register
            </Button>
          )
        }
      lead="The banks between which this gateway carries payments."
    >
      <Panel name="Banks" hidden shown={shown} empty={(data) => (data.banks.length ? "" : "No bank has registered yet.")}>
        {(data) => <Rows caption="Banks" columns={mayAct ? [...BANK_COLUMNS, act] : BANK_COLUMNS} rows={data.banks} keyOf={(row) => row.bank} />}
      </Panel>
      {who.kind === "gateway" && <Positions />}
      {changing && <SuspendDialog row={changing} onClose={() => setChanging(null)} onDone={shown.reload} />}
      {isAdding && <AddDialog onClose={() => setAdding(false)} onDone={shown.reload} />}
    </Page>
  );
}

const BAR = 120;

/** How much of its cap a bank has used, in words and as a bar. */
function Use({ row }: { row: BankPosition }) {
  const [owed, cap] = [-BigInt(row.position) + BigInt(row.reserved), BigInt(row.cap)];
  const used = owed > 0n ? owed : 0n;
  if (cap === 0n) return <>{used > 0n ? "Over its cap of 0" : "May not owe"}</>;
  const percent = Number((used * 1000n) / cap) / 10;
  return (
    <span class="use">
      <svg width={BAR} height="8" viewBox={`0 0 ${BAR} 8`} aria-hidden="true" class={percent >= 90 ? "use-high" : ""}>
        <rect class="use-cap" width={BAR} height="8" rx="4" />
        <rect class="use-used" width={(Math.min(percent, 100) / 100) * BAR} height="8" rx="4" />
      </svg>
      <span>
        {percent.toLocaleString(undefined, { maximumFractionDigits: 1 })} %{percent >= 90 ? ", nearly used up" : ""}
      </span>
    </span>
  );
}

const POSITION_COLUMNS: Column<BankPosition>[] = [
  { head: "Bank", isHead: true, cell: (row) => <strong>{row.bank}</strong> },
  { head: "Position", cell: (row) => <Amount minor={row.position} currency={row.currency} signed />, align: "end" },
  { head: "Reserved", cell: (row) => <Amount minor={row.reserved} currency={row.currency} />, align: "end" },
  { head: "Cap", cell: (row) => <Amount minor={row.cap} currency={row.currency} />, align: "end" },
  { head: "Cap used", cell: (row) => <Use row={row} /> },
  { head: "Account", cell: (row) => String(row.account), align: "end" },
];

function sums(rows: BankPosition[]): [string, bigint][] {
  const found = new Map<string, bigint>();
  for (const row of rows) found.set(row.currency, (found.get(row.currency) ?? 0n) + BigInt(row.position));
  return [...found];
}

function Positions() {
  const shown = useLoaded(calls.positions, [], { every_ms: EVERY_MS });
  return (
    <Panel name="Positions" shown={shown} empty={(data) => (data.positions.length ? "" : "No bank has a position yet.")}>
      {(data) => (
        <>
          <p class="quiet">Below zero a bank owes the others; down to its cap it may pay. At position {data.position.toLocaleString()} of the ledger.</p>
          <Rows caption="Positions" columns={POSITION_COLUMNS} rows={data.positions} keyOf={(row) => `${row.bank}-${row.currency}`} />
          <ul class="checks" role="list">
            {sums(data.positions).map(([currency, sum]) => (
              <li key={currency}>
                <Check holds={sum === 0n} yes={`All positions in ${currency} come to zero`} no={`The positions in ${currency} do not come to zero`} />
              </li>
            ))}
          </ul>
        </>
      )}
    </Panel>
  );
}

function SuspendDialog({ row, ...props }: { row: BankRow; onClose: () => void; onDone: () => void }) {
  const resume = row.state === "suspended";
  return (
    <ActDialog
      {...props}
      title={resume ? `Take payments of bank ${row.bank} again` : `Suspend bank ${row.bank}`}
      act={resume ? "Take payments again" : `Suspend ${row.bank}`}
      danger={!resume}
      confirm={resume ? "" : row.bank}
      run={(id) => calls.suspend(row.bank, { id, resume })}
      done={resume ? `Bank ${row.bank} pays and is paid again.` : `Payments from and to bank ${row.bank} are refused.`}
    >
      <p>
        {resume
          ? "Payments from and to this bank are taken again from now on."
          : "From now on payments from and to this bank are refused, for all of its customers. What was decided already is still carried out."}
      </p>
    </ActDialog>
  );
}

function AddDialog(props: { onClose: () => void; onDone: () => void }) {
  const [bank, setBank] = useState("");
  const [currency, setCurrency] = useState("EUR");
  const [cap, setCap] = useState("");
  const [authority, setAuthority] = useState("");
  const isBank = /^[a-z][a-z0-9-]{0,31}$/.test(bank);
  const isCurrency = /^[A-Z]{3}$/.test(currency);
  const minor = isCurrency ? readAmount(cap, currency) : null;
  const isCap = minor !== null && BigInt(minor) >= 0n;
  return (
    <ActDialog
      {...props}
      title="Let a bank register"
      act="Ask to let it register"
      second
      ready={isBank && isCurrency && isCap}
      run={(id) => calls.addBank({ id, bank, currency, cap: minor ?? "0", authority: authority.trim() })}
    >
      <TextField
        label="Bank"
        value={bank}
        onValue={(value) => setBank(value.toLowerCase())}
        hint="Its id, as its own settings name it. A bank that is known gets another currency."
        error={bank && !isBank ? "Small letters, digits and dashes; it begins with a letter." : ""}
        maxLength={32}
      />
      <TextField label="Currency" value={currency} onValue={(value) => setCurrency(value.toUpperCase())} maxLength={3} />
      <TextField
        label="Cap"
        value={cap}
        onValue={setCap}
        hint="How much it may owe the others at most."
        error={cap && !isCap ? "Write an amount such as 100000." : ""}
        inputMode="decimal"
        maxLength={24}
      />
      <TextField rows={6}
        label="Certificate of its authority"
        value={authority}
        onValue={setAuthority}
        hint="The PEM text of the bank's file certs/ca.crt; needed the first time."
        maxLength={16_384}
      />
    </ActDialog>
  );
}
