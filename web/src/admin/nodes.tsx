/** The nodes as cards, as their pair last heard of them. */

import type { ComponentChildren } from "preact";
import { Facts } from "../components";
import { agoWords } from "./backups";
import { State } from "./parts";
import type { Node } from "./types";
import { nodeRole, nodeState, span } from "./words";

const NOW_S = 2;

/** Say when a node was last heard of, seen from the time of the report, as the page's clock may be wrong. */
export function seenWords(seen: string | null, reported: string): string {
  if (seen === null) return "never";
  const age = (Date.parse(reported) - Date.parse(seen)) / 1000;
  return age <= NOW_S ? "now" : `${span(age)} ago`;
}

export function NodeCards({ nodes, reported }: { nodes: Node[]; reported: string }) {
  return (
    <ul class="cards nodes" role="list">
      {nodes.map((node) => (
        <li key={node.node || node.address}>
          <NodeCard node={node} reported={reported} />
        </li>
      ))}
    </ul>
  );
}

export function NodeCard({ node, reported, children }: { node: Node; reported: string; children?: ComponentChildren }) {
  const known = node.version !== "";
  return (
    <article class={`card node node-${node.role || "unknown"}`}>
      <header class="node-head">
        <h3>{node.node || node.address}</h3>
        <span class="node-role">{nodeRole(node.role)}</span>
      </header>
      <State told={nodeState(node.state)} />
      <Facts
        of={[
          ["Term", String(node.term)],
          ["Seq", node.position.toLocaleString()],
          ["Behind", node.behind === 0 ? "0" : `${node.behind.toLocaleString()} records`],
          ["Seen", seenWords(node.seen, reported)],
        ]}
      />
      <details class="node-more">
        <summary>More of {node.node || node.address}</summary>
        <Facts
          of={[
            ["Address", node.address],
            ["Records", node.lsn.toLocaleString()],
            ["Copies", known ? String(node.copies) : "–"],
            ["Connections", known ? node.connections.toLocaleString() : "–"],
            ["Requests done", known ? node.tasks_processed.toLocaleString() : "–"],
            ["Up for", known ? span(node.uptime_s) : "–"],
            ["Last backup", node.backup !== null ? agoWords(node.backup, reported) : known ? "None yet" : "–"],
            ["Version", node.version || "–"],
          ]}
        />
      </details>
      {children}
    </article>
  );
}
