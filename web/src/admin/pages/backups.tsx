/** When each node was last backed up, and what has been entered since. */

import { type Column, Page, When } from "../../components";
import { agoWords, backupState, entriesSince, isWithoutBackup, newestBackup } from "../backups";
import { useCluster } from "../cluster";
import { None, Panel, State, Verdict } from "../parts";
import { Rows } from "../rows";
import type { Cluster, Node } from "../types";
import { backupStateWords } from "../words";

const entries = (count: number): string => `${count.toLocaleString()} ${count === 1 ? "entry" : "entries"}`;

/** How a backup is made. */
function HowTo() {
  return (
    <p>
      On a node's machine, run <code class="command">fortress backup create FOLDER --to BACKUPS</code> with the node's
      folder and a folder for backups, best on another disk. The node goes on serving meanwhile.
    </p>
  );
}

/** How well the bank is backed up. */
function Newest({ cluster }: { cluster: Cluster }) {
  const newest = newestBackup(cluster.nodes);
  if (!newest) {
    return (
      <Verdict tone="warning" title="No backup is known.">
        <p>Not every node has been heard yet.</p>
        <HowTo />
      </Verdict>
    );
  }
  const since = entriesSince(newest, cluster.nodes);
  const reach = `It reaches up to position ${newest.backup_position.toLocaleString()}. `;
  const left = since === 0 ? "Nothing has been entered since." : `Not in it: ${entries(since)} made since.`;
  if (backupState(newest, cluster.time) === "fresh") {
    const when = agoWords(newest.backup, cluster.time);
    return (
      <Verdict tone="ok" title={`The newest backup was made ${when}.`}>
        <p>{reach + left}</p>
      </Verdict>
    );
  }
  return (
    <Verdict tone="warning" title="The newest backup is older than two days.">
      <p>{reach + left}</p>
      <HowTo />
    </Verdict>
  );
}

function columnsOf({ nodes, time }: Cluster): Column<Node>[] {
  return [
    { head: "Node", isHead: true, cell: (node) => <strong>{node.node || node.address}</strong> },
    {
      head: "Last backup",
      cell: ({ backup }) =>
        backup === null ? (
          <None />
        ) : (
          <span class="backup-when">
            <When time={backup} />
            <span class="quiet">{agoWords(backup, time)}</span>
          </span>
        ),
    },
    {
      head: "Up to position",
      cell: (node) => (node.backup === null ? <None /> : node.backup_position.toLocaleString()),
      align: "end",
    },
    {
      head: "Since then",
      cell: (node) => (node.backup === null ? <None /> : entries(entriesSince(node, nodes))),
      align: "end",
    },
    { head: "Status", cell: (node) => <State told={backupStateWords(backupState(node, time))} /> },
  ];
}

export function Backups() {
  const shown = useCluster();
  return (
    <Page title="Backups"
      lead="A backup of any node holds all that was entered up to its position. The node's key is not in it and is kept elsewhere."
    >
      <Panel
        name="Last backup of each node"
        shown={shown}
        empty={(data) => (isWithoutBackup(data) ? "No backup has been made yet." : "")}
        action={<HowTo />}
      >
        {(data) => (
          <>
            <Newest cluster={data} />
            <Rows caption="Last backups by node" columns={columnsOf(data)} rows={data.nodes} keyOf={(node) => node.address} />
          </>
        )}
      </Panel>
    </Page>
  );
}
