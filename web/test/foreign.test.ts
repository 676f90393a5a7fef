// Tests with answers that no service of ours gives: the page must put them into words all the same.

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb";
import { ListConversationsResponse_ItemSchema } from "../gen/parlance/message/v1/conversation_service_pb";
import { MessageSchema } from "../gen/parlance/message/v1/message_pb";
import { Conversation } from "../src/conversation";
import { failureOf } from "../src/failure";
import { day, timeOfDay, when } from "../src/view/wording";

test("times that no calendar has are shown", () => {
  for (const seconds of [2n ** 63n - 1n, 8_640_000_000_000n, -8_640_000_000_000n, -(2n ** 63n)]) {
    const conversation = new Conversation("c", "ada");
    const lastMessageTime = { seconds, nanos: 999_999_999 };
    conversation.list(create(ListConversationsResponse_ItemSchema, { conversation: { lastMessageTime } }));
    conversation.put(create(MessageSchema, { sequence: 1n, createTime: lastMessageTime }));
    for (const { timeMs } of conversation.lines) assert(day(timeMs) !== "" && timeOfDay(timeMs) !== "");
    assert.equal(conversation.lines.length, 1);
    assert.equal(typeof when(conversation.activityMs), "string");
  }
});

test("a reason that is named like a property of every object is one that is not known", () => {
  for (const reason of ["constructor", "toString", "__proto__"]) {
    const info = { desc: ErrorInfoSchema, value: { domain: "parlance", reason } };
    const { words } = failureOf(new ConnectError("no luck", Code.Unavailable, undefined, [info]));
    assert.equal(words, "No luck.");
  }
});
