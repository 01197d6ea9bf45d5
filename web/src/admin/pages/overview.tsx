/** How the bank is: one sentence, the nodes, how fast it is, what happened last and what waits for somebody. */

import { Page } from "../../components";
import { type Loaded, useLoaded } from "../../loaded";
import { isBackupDue } from "../backups";
import { useCluster } from "../cluster";
import { calls } from "../calls";
import { isStuck } from "./doubts";
import { EventRows } from "./events";
import { NodeCards } from "../nodes";
import { Headline, Panel } from "../parts";
import { Rates } from "../rates";
import type { Cluster } from "../types";
import { hasRole, useWho } from "../who";

const SAMPLES_MS = 2_000;
const WAITING_MS = 10_000;
const EVENTS_SHOWN = 5;

interface WaitingProps {
  /** Null while it is not known. */
  count: number | null;
  one: string;
  many: string;
  to: string;
}

function Waiting({ count, one, many, to }: WaitingProps) {
  return (
    <li class={count ? "todo-some" : "todo-none"}>
      <a href={to}>
        <span class="todo-count">{count ?? "–"}</span> <span>{count === 1 ? one : many}</span>
      </a>
    </li>
  );
}

function ToDo({ cluster }: { cluster: Loaded<Cluster> }) {
  const who = useWho();
  const mayApprove = hasRole(who, "administrator");
  const approvals = useLoaded(calls.approvals, [], { every_ms: WAITING_MS, skip: !mayApprove });
  const doubts = useLoaded(calls.doubts, [], { every_ms: WAITING_MS });
  const due = cluster.data ? isBackupDue(cluster.data) : null;
  const others = approvals.data?.approvals.filter((approval) => !approval.mine).length;
  return (
    <ul class="todo" role="list">
      {mayApprove && (
        <Waiting count={others ?? null} one="request waits for you" many="requests wait for you" to="/admin/approvals" />
      )}
      <Waiting count={doubts.data?.payments.filter(isStuck).length ?? null} one="payment in doubt" many="payments in doubt" to="/admin/doubts" />
      <Waiting count={due === null ? null : Number(due)} one="backup is due" many="backups are due" to="/admin/backups" />
    </ul>
  );
}

export function Overview() {
  const cluster = useCluster();
  const samples = useLoaded(calls.samples, [], { every_ms: SAMPLES_MS });
  const events = useLoaded(calls.events, [], { every_ms: WAITING_MS });
  return (
    <Page title="Overview">
      <Panel name="How the bank is" hidden bare lines={1} shown={cluster}>
        {(data) => <Headline cluster={data} />}
      </Panel>
      <ToDo cluster={cluster} />
      <Panel name="Nodes" shown={cluster} bare empty={(data) => (data.nodes.length ? "" : "No node has been heard of yet.")}>
        {(data) => <NodeCards nodes={data.nodes} reported={data.time} />}
      </Panel>
      <Panel name="Last ten minutes" bare shown={samples} empty={(data) => (data.samples.length ? "" : "Nothing was measured yet. It begins when this page is open.")}>
        {(data) => <Rates samples={data.samples} events={events.data?.events ?? []} />}
      </Panel>
      <Panel
        name="What happened last"
        shown={events}
        empty={(data) => (data.events.length ? "" : "Nothing happened to the nodes yet.")}
        after={<a href="/admin/events">All events</a>}
      >
        {(data) => <EventRows events={data.events} most={EVENTS_SHOWN} />}
      </Panel>
    </Page>
  );
}
