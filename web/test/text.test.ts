import assert from "node:assert/strict";
import { test } from "node:test";

import { visible } from "../src/text";

test("a text is visible if it has a character that shows", () => {
  const invisible = ["", " \n", "\u2800", "\u200b", "\u200d\ufe0f", "\u00ad", "\u3164", "\uffa0", "\u{e0041}", "\u202e\u2800 ", "\u0007"];
  for (const text of invisible) assert.equal(visible(text), undefined, JSON.stringify(text));
  for (const text of ["x", "\u200bx", "👩‍👩‍👧", "❤\ufe0f", "שלום", "\u2801", "\u0600"]) assert.equal(visible(text), text, JSON.stringify(text));
});
