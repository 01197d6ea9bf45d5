// How well a bank is backed up, from what its nodes say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { agoWords, backupState, entriesSince, isBackupDue, isWithoutBackup, newestBackup } from "../src/admin/backups";
import type { Cluster, Node } from "../src/admin/types";

const NOW = "2026-06-30T12:00:00Z";

const NODE: Node = {
  address: "127.0.0.1:1", node: "node-1", role: "primary", state: "ok", term: 1, lsn: 9, position: 40, behind: 0,
  copies: 2, connections: 0, tasks_processed: 0, uptime_s: 1, version: "1", seen: NOW, backup: null, backup_position: 0,
};
const FRESH: Node = { ...NODE, backup: "2026-06-28T12:00:00Z", backup_position: 30 };
const OLD: Node = { ...NODE, backup: "2026-06-28T11:59:59Z", backup_position: 20 };
const UNHEARD: Node = { ...NODE, seen: null, position: 0 };

const clusterOf = (...nodes: Node[]): Cluster => ({ headline: "", severity: "ok", advice: "", nodes, time: NOW });

test("a backup is old after two days", () => {
  assert.deepEqual([FRESH, OLD, NODE, UNHEARD].map((node) => backupState(node, NOW)), ["fresh", "old", "none", "unheard"]);
});

test("a time is told in minutes, also where clocks differ", () => {
  assert.equal(agoWords("2026-06-30T11:59:01Z", NOW), "just now");
  assert.equal(agoWords("2026-06-30T12:05:00Z", NOW), "just now");
  assert.equal(agoWords("2026-06-30T10:57:55Z", NOW), "1 h 2 min ago");
});

test("the newest backup counts, and what any node has entered since", () => {
  assert.equal(newestBackup([NODE, UNHEARD]), undefined);
  assert.equal(newestBackup([OLD, NODE, FRESH])?.backup_position, 30);
  assert.equal(entriesSince(FRESH, [FRESH, { ...OLD, position: 42 }]), 12);
  assert.equal(entriesSince({ ...FRESH, position: 0 }, [UNHEARD]), 0);
});

const DUE: [Node[], boolean | null, boolean][] = [
  [[NODE, NODE], true, true],
  [[NODE, UNHEARD], true, false],
  [[OLD, NODE], true, false],
  [[NODE, FRESH], false, false],
  [[OLD, FRESH], false, false],
  [[UNHEARD, UNHEARD], null, false],
];

test("one is due unless any node has a new one, and before any node is heard nothing is claimed", () => {
  for (const [nodes, isDue, isWithout] of DUE) {
    assert.equal(isBackupDue(clusterOf(...nodes)), isDue);
    assert.equal(isWithoutBackup(clusterOf(...nodes)), isWithout);
  }
});
