/** What the nodes' last backups amount to. All times are the server's: the page's clock may be wrong. */

import type { Cluster, Node } from "./types";
import { span } from "./words";

/** A backup older than this is called old: two days, in seconds. */
export const OLD_S = 2 * 86_400;

export type BackupState = "fresh" | "old" | "none" | "unheard";

const ageOf = (time: string, now: string): number => Math.max(0, (Date.parse(now) - Date.parse(time)) / 1000);

/** How a node stands; `unheard`: it has not said anything since these pages were started. */
export function backupState(node: Node, now: string): BackupState {
  if (node.seen === null) return "unheard";
  if (node.backup === null) return "none";
  return ageOf(node.backup, now) > OLD_S ? "old" : "fresh";
}

/** Say how long ago something was, in minutes at the finest, as what changes each second is not read. */
export function agoWords(time: string, now: string): string {
  const minutes = Math.floor(ageOf(time, now) / 60);
  return minutes === 0 ? "just now" : `${span(minutes * 60)} ago`;
}

/** The node whose backup is the newest: any node's holds the whole bank. */
export function newestBackup(nodes: readonly Node[]): (Node & { backup: string }) | undefined {
  const backedUp = nodes.filter((node): node is Node & { backup: string } => node.backup !== null);
  return backedUp.sort((a, b) => Date.parse(b.backup) - Date.parse(a.backup))[0];
}

/** How many entries the bank has made since a node's backup, as far as any node knows. */
export function entriesSince(node: Node, nodes: readonly Node[]): number {
  return Math.max(0, ...nodes.map((each) => each.position - node.backup_position));
}

/** Whether a backup should be made: none is known that is new; null while no node has been heard. */
export function isBackupDue(cluster: Cluster): boolean | null {
  if (cluster.nodes.every((node) => node.seen === null)) return null;
  return !cluster.nodes.some((node) => backupState(node, cluster.time) === "fresh");
}

/** Whether it is certain that there is none: all nodes say so. */
export const isWithoutBackup = (cluster: Cluster): boolean =>
  cluster.nodes.every((node) => backupState(node, cluster.time) === "none");
