/** What one administrator asked for and a second one must decide. */

import { useState } from "preact/hooks";
import { Button, Page, When } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Panel, ShortId } from "../parts";
import type { Approval } from "../types";
import { plain } from "../words";

const EVERY_MS = 3_000;

interface Deciding {
  approval: Approval;
  decline: boolean;
}

const OPERATIONS: Record<string, string> = {
  set_role: "Change roles",
  set_limits: "Change limits",
  erase: "Erase a person",
  create_user: "Create staff",
  add_bank: "Let a bank register",
  resolve_payment: "End a payment by hand",
};

export function Approvals() {
  const shown = useLoaded(calls.approvals, [], { every_ms: EVERY_MS });
  const [deciding, setDeciding] = useState<Deciding | null>(null);
  return (
    <Page title="Approvals"
      lead="What touches limits, roles or people takes two administrators: one asks, another decides."
    >
      <Panel name="Requests" hidden bare shown={shown} empty={(data) => (data.approvals.length ? "" : "Nothing waits for a second administrator.")}>
        {(data) => (
          <ul class="cards requests" role="list">
            {data.approvals.map((approval) => (
              <li key={approval.id}>
                <Request approval={approval} onDecide={(decline) => setDeciding({ approval, decline })} />
              </li>
            ))}
          </ul>
        )}
      </Panel>
      {deciding && <DecideDialog {...deciding} onClose={() => setDeciding(null)} onDone={shown.reload} />}
    </Page>
  );
}

function Request({ approval, onDecide }: { approval: Approval; onDecide: (decline: boolean) => void }) {
  return (
    <article class="card request">
      <p class="request-kind">{OPERATIONS[approval.operation] ?? plain(approval.operation)}</p>
      <h2 class="request-what">{approval.summary.charAt(0).toUpperCase() + approval.summary.slice(1)}</h2>
      <p class="quiet">
        Asked by <strong>{approval.mine ? "you" : approval.asked_by}</strong>, <When time={approval.asked} />. Request{" "}
        <ShortId id={approval.id} />
      </p>
      {approval.mine ? (
        <div class="request-acts">
          <p class="request-mine">You asked for this. Another administrator must decide.</p>
          <Button onClick={() => onDecide(true)}>
            Withdraw
          </Button>
        </div>
      ) : (
        <div class="request-acts">
          <Button kind="primary" onClick={() => onDecide(false)}>
            Approve
          </Button>
          <Button onClick={() => onDecide(true)}>
            Decline
          </Button>
        </div>
      )}
    </article>
  );
}

function DecideDialog({ approval, decline, onClose, onDone }: Deciding & { onClose: () => void; onDone: () => void }) {
  const verb = !decline ? "Approve" : approval.mine ? "Withdraw" : "Decline";
  const done = !decline ? "It is approved and done." : approval.mine ? "You took it back. Nothing was changed." : "It is declined. Nothing was changed.";
  return (
    <ActDialog
      title={`${verb} this request`}
      act={verb}
      onClose={onClose}
      onDone={onDone}
      run={() => calls.decide(approval.id, decline)}
      done={done}
    >
      <p class="request-what">{approval.summary}</p>
      <p class="quiet">
        Asked by {approval.mine ? "you" : approval.asked_by}, <When time={approval.asked} />.{" "}
        {!decline && "It is done at once when you approve."}
      </p>
    </ActDialog>
  );
}
