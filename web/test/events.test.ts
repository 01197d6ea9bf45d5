// A stream of events comes in pieces of any size.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../src/events";

const STREAM = [
  ": heartbeat\n\n",
  "id: 7\nevent: entry\ndata: {\"a\":\ndata: 1}\n\n",
  "event: connection\r\ndata:ok: yes\r\n\r\n",
  "data: plain\r\r",
  "id: 8\n\n",
  "data: not yet whole\n",
].join("");
const EVENTS = [
  { event: "entry", data: '{"a":\n1}' },
  { event: "connection", data: "ok: yes" },
  { event: "message", data: "plain" },
];

test("events are the same wherever the stream is cut", () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...parser.receive(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS, `pieces of ${size}`);
    assert.equal(parser.id, "8");
  }
});
