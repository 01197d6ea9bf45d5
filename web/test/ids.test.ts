// Ids are made before anything is sent.

import assert from "node:assert/strict";
import { test } from "node:test";
import { newId } from "../src/ids";

test("an id is a UUID of version 7 that begins with the time, and never the same twice", () => {
  const now = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
  const ids = Array.from({ length: 1000 }, () => newId(now));
  for (const id of ids) assert.match(id, /^[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  assert.equal(Number.parseInt(ids[0]?.slice(0, 12) ?? "", 16), now);
  assert.equal(new Set(ids).size, ids.length);
});
