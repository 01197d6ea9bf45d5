/** Payments between banks that are not decided everywhere: how old, who is missing, what may safely be done. */

import { useState } from "preact/hooks";
import { Amount, Button, ChoiceField, type Column, Empty, Facts, Notice, Page, sentence } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { serverNow } from "../../time";
import { Moment, None, Panel, ShortId, shortOf } from "../parts";
import { Rows } from "../rows";
import { Timeline } from "../timeline";
import type { Payment } from "../types";
import { hasRole, useWho } from "../who";
import { span } from "../words";

const EVERY_MS = 2_000;

/** What may safely be done: commit, abort, or nothing. */
const actOf = (payment: Payment): string => payment.act.split(":")[0]?.trim() ?? "";

const adviceOf = (payment: Payment): string => sentence(payment.act.replace(/^none\b/, "nothing") || "wait");

const STUCK_MS = 5_000;

/** Whether a payment has been under way for so long that somebody should look. */
export const isStuck = (payment: Payment): boolean => serverNow() - Date.parse(payment.time) > STUCK_MS;

const ageOf = (payment: Payment): string => span((serverNow() - Date.parse(payment.time)) / 1000);

export function Doubts() {
  const who = useWho();
  const shown = useLoaded(calls.doubts, [], { every_ms: EVERY_MS });
  const [open, setOpen] = useState<Payment | null>(null);
  const [ending, setEnding] = useState<Payment | null>(null);
  const columns: Column<Payment>[] = [
    {
      head: "Payment",
      isHead: true,
      cell: (payment) => (
        <button type="button" class="link-button row-link" onClick={() => setOpen(payment)}>
          <ShortId id={payment.id} />
        </button>
      ),
    },
    { head: "Age", cell: (payment) => <span class="nowrap">{ageOf(payment)}</span>, align: "end" },
    { head: "Amount", cell: (payment) => <Amount minor={payment.amount} currency={payment.currency} />, align: "end" },
    { head: "From", cell: (payment) => payment.payer },
    { head: "To", cell: (payment) => payment.payee },
    { head: "Missing", cell: (payment) => payment.missing.join(", ") || <None /> },
    { head: "Safe to do", cell: (payment) => <span class="advice">{adviceOf(payment)}</span> },
    ...(hasRole(who, "administrator")
      ? [
          {
            head: "Act",
            cell: (payment: Payment) => (
              <Button small onClick={() => setEnding(payment)}>
                End by hand
              </Button>
            ),
          },
        ]
      : []),
  ];
  return (
    <Page title="Payments in doubt"
      lead="Most of these end by themselves within seconds, as soon as the missing bank or the gateway answers. Money on hold stays on hold until then; none is lost."
    >
      <Panel
        name="Payments"
        hidden
        shown={shown}
        empty={(data) => (data.payments.length ? "" : "Every payment is decided everywhere.")}
      >
        {(data) => {
          const stuck = data.payments.filter(isStuck);
          const young = data.payments.length - stuck.length;
          return (
            <>
              {stuck.length === 0 && <Empty words="No payment is stuck." />}
              {stuck.length > 0 && (
                <Rows caption="Payments in doubt" columns={columns} rows={stuck} keyOf={(payment) => payment.id} />
              )}
              {young > 0 && <p class="quiet">{young} under way, begun in the last five seconds.</p>}
            </>
          );
        }}
      </Panel>
      {open && <Follow payment={open} />}
      {ending && <EndDialog payment={ending} onClose={() => setEnding(null)} onDone={shown.reload} />}
    </Page>
  );
}

function Follow({ payment }: { payment: Payment }) {
  const shown = useLoaded((signal) => calls.payment(payment.id, signal), [payment.id], { every_ms: EVERY_MS });
  return (
    <Panel name={`Payment …${shortOf(payment.id)}`} shown={shown}>
      {(data) => <Timeline payment={data} />}
    </Panel>
  );
}

function EndDialog({ payment, ...props }: { payment: Payment; onClose: () => void; onDone: () => void }) {
  const who = useWho();
  const safe = actOf(payment);
  const [act, setAct] = useState<"commit" | "abort">(safe === "commit" ? "commit" : "abort");
  const isGateway = who.kind === "gateway";
  const isGuess = act !== safe;
  return (
    <ActDialog
      {...props}
      title="End a payment by hand"
      act={act === "commit" ? "Ask to carry it out" : "Ask to give it up"}
      danger={isGuess}
      confirm={isGuess ? shortOf(payment.id) : ""}
      confirmWhat="the last eight signs of the payment's id"
      second
      run={(id) => calls.resolve(payment.id, { id, act })}
    >
      <Facts
        of={[
          ["Payment", <ShortId id={payment.id} />],
          ["Amount", <Amount minor={payment.amount} currency={payment.currency} />],
          ["From", payment.payer],
          ["To", payment.payee],
          ["Since", <Moment time={payment.time} />],
          ["Missing", payment.missing.join(", ") || "nobody"],
        ]}
      />
      <p><strong>Safe to do:</strong> {adviceOf(payment)}</p>
      {!isGateway && (
        <ChoiceField
          label="What shall become of it"
          value={act}
          options={[
            { value: "abort", label: "Give it up: the payer keeps the money" },
            { value: "commit", label: "Carry it out: the payee gets the money" },
          ]}
          onValue={setAct}
        />
      )}
      {isGuess && (
        <Notice tone="warning" title="This is not known to be safe.">
          Whoever ends a payment without the gateway's word guesses how it was decided elsewhere; if the
          guess is wrong, the books of two banks differ and people must settle it.
        </Notice>
      )}
    </ActDialog>
  );
}
