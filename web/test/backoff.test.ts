import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff";

test("pauses grow to a limit and restart after a success", () => {
  const backoff = new Backoff(() => 1);
  const pauses = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
  backoff.reset();
  assert.equal(backoff.next(), 100);
  assert.equal(new Backoff(() => 0).next(1_000), 1_000, "at least what was asked for");
  assert.equal(new Backoff(() => 0).next(3_600_000), 5_000, "not for ever");
});
