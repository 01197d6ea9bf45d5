/** Settlement windows of a gateway: what each bank paid and was paid, and whether the banks' own books agree. */

import { useState } from "preact/hooks";
import { Amount, Button, type Column, Page } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Moment, None, Panel, ShortId, State, Verdict } from "../parts";
import { Rows } from "../rows";
import type { Window, WindowRow } from "../types";
import { hasRole, useWho } from "../who";
import { agreement } from "../words";

const LIST_MS = 10_000;
const WINDOW_MS = 10_000;

const windowPath = (number: number): string => `/admin/windows/${number}`;
const nameOf = (window: Window): string => (window.number === 0 ? "Open window" : `Window ${window.number}`);

const LIST_COLUMNS: Column<Window>[] = [
  {
    head: "Window",
    isHead: true,
    cell: (window) => (
      <a href={windowPath(window.number)}>
        {nameOf(window)}
      </a>
    ),
  },
  { head: "After position", cell: (window) => window.after.toLocaleString(), align: "end" },
  { head: "Up to position", cell: (window) => (window.number === 0 ? "now" : window.to.toLocaleString()), align: "end" },
  { head: "Closed", cell: (window) => (window.closed ? <Moment time={window.closed} /> : "Open") },
];

export function Windows() {
  const who = useWho();
  const shown = useLoaded(calls.windows, [], { every_ms: LIST_MS });
  const [isClosing, setClosing] = useState(false);
  return (
    <Page
        title="Settlement"
        actions={
          hasRole(who, "administrator") && (
            <Button kind="primary" onClick={() => setClosing(true)}>
              Close the open window
            </Button>
          )
        }
      lead="Payments between banks add up in a window. When it closes, each bank settles what it comes to."
    >
      <Panel name="Windows" hidden shown={shown} empty={(data) => (data.windows.length ? "" : "There is no window yet. The first one opens with the first payment.")}>
        {(data) => <Rows caption="Settlement windows" columns={LIST_COLUMNS} rows={data.windows} keyOf={(window) => String(window.number)} />}
      </Panel>
      {isClosing && <CloseDialog onClose={() => setClosing(false)} onDone={shown.reload} />}
    </Page>
  );
}

function CloseDialog(props: { onClose: () => void; onDone: () => void }) {
  return (
    <ActDialog
      {...props}
      title="Close the open window"
      act="Close the window"
      run={(id) => calls.closeWindow(id)}
      done="The window is closed and a new one is open."
    >
      <p>
        The banks settle what it comes to, and a new window opens. It is refused while a bank has not yet carried out all of its payments;
        then nothing is changed and you can try again.
      </p>
    </ActDialog>
  );
}

const COLUMNS: Column<WindowRow>[] = [
  { head: "Bank", isHead: true, cell: (row) => <strong>{row.bank}</strong> },
  { head: "Payments", cell: (row) => row.payments.toLocaleString(), align: "end" },
  { head: "Paid", cell: (row) => <Amount minor={row.paid} currency={row.currency} />, align: "end" },
  { head: "Received", cell: (row) => <Amount minor={row.received} currency={row.currency} />, align: "end" },
  { head: "Net", cell: (row) => <Amount minor={row.net} currency={row.currency} signed />, align: "end" },
  { head: "Its own books", cell: (row) => <State told={agreement(row.agrees)} /> },
  { head: "Differs at", cell: (row) => (row.differs ? <ShortId id={row.differs} /> : <None />) },
];

function verdictOf(window: Window): ["ok" | "warning" | "danger", string] {
  const differing = window.rows.filter((row) => row.agrees === "no").map((row) => row.bank);
  if (differing.length) return ["danger", `The books of ${[...new Set(differing)].join(", ")} differ from the gateway's. Compare the payment named below at both.`];
  const unknown = window.rows.filter((row) => row.agrees !== "yes").map((row) => row.bank);
  if (unknown.length) return ["warning", `${[...new Set(unknown)].join(", ")} could not be asked. The other books agree.`];
  return ["ok", "The books of every bank agree with the gateway's, payment by payment."];
}

export function WindowPage({ number }: { number: number }) {
  const shown = useLoaded((signal) => calls.window(number, signal), [number], { every_ms: WINDOW_MS });
  return (
    <Page title={number === 0 ? "Open window" : `Window ${number}`} back={{ href: "/admin/windows", label: "Settlement" }}>
      <Panel name="Comparison" hidden shown={shown} empty={(data) => (data.rows.length ? "" : "Nothing was paid between banks in this window.")}>
        {(data) => {
          const [tone, words] = verdictOf(data);
          return (
            <>
              <Verdict tone={tone} title={words}>
                Payments decided after position {data.after.toLocaleString()} and up to {data.to.toLocaleString()}.{" "}
                {data.closed ? <>Closed <Moment time={data.closed} />.</> : "Still open."}
              </Verdict>
              <Rows caption="What each bank paid and was paid" columns={COLUMNS} rows={data.rows} keyOf={(row) => `${row.bank}-${row.currency}`} />
            </>
          );
        }}
      </Panel>
    </Page>
  );
}
