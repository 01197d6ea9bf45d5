/** What happened to the nodes: takeovers and what they cost, nodes coming and going. */

import { type Column, Page, sentence } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Moment, None, Panel } from "../parts";
import { Rows } from "../rows";
import type { Event } from "../types";

const EVERY_MS = 3_000;

/** The sentence without the node's name before it, which has a column. */
function whatHappened(event: Event): string {
  const words = event.words.startsWith(`${event.node} `) ? event.words.slice(event.node.length + 1) : event.words;
  return sentence(words);
}

const COLUMNS: Column<Event>[] = [
  { head: "When", cell: (event) => <Moment time={event.time} /> },
  { head: "Node", cell: (event) => event.node || <None /> },
  { head: "What happened", cell: whatHappened },
  {
    head: "Outage",
    cell: (event) => (event.outage_s === null ? <None /> : `${event.outage_s.toLocaleString(undefined, { maximumFractionDigits: 2 })} s`),
    align: "end",
  },
];

/** The newest first, whatever the order in which they were told. */
export function EventRows({ events, most = events.length }: { events: Event[]; most?: number }) {
  const newest = [...events].sort((a, b) => Date.parse(b.time) - Date.parse(a.time)).slice(0, most);
  return <Rows caption="Events" columns={COLUMNS} rows={newest} keyOf={(event) => `${event.time}-${event.node}-${event.event}`} />;
}

export function Events() {
  const shown = useLoaded(calls.events, [], { every_ms: EVERY_MS });
  return (
    <Page title="Events"
      lead="What happened to the nodes, the newest first. Each node tells by its own clock."
    >
      <Panel name="Events" hidden shown={shown} empty={(data) => (data.events.length ? "" : "Nothing happened to the nodes yet.")}>
        {(data) => <EventRows events={data.events} />}
      </Panel>
    </Page>
  );
}
