// Tests of the protocol against fake services that misbehave: they skip an entry, stay silent, end in the middle, refuse.
// The behaviour with the real services is tested in page.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb";
import { EventSchema } from "../gen/parlance/message/v1/event_pb";
import { type Options, Session } from "../src/session";
import {
  allCaughtUp, caughtUp, cursor, eventually, FakeServices as Services, heartbeat, type Item, message, refusal, shown,
} from "./fakes";

/** A session, until the test is done with it. */
async function session(services: Services, test: (session: Session) => Promise<void>, options: Partial<Options> = {}) {
  const session = new Session(services.all, "ada", { changed: () => undefined, random: () => 0, ...options });
  const running = session.run();
  try {
    await test(session);
  } finally {
    session.close();
    await running;
  }
}

test("a session starts at the listed position and resumes after a disconnect without duplicates", async () => {
  const services = new Services();
  services.scripts = [
    [message(11n), message(12n), refusal(Code.Unavailable, "DRAINING")],
    [message(12n), message(13n), caughtUp(13n), allCaughtUp, "hang"],
  ];
  await session(services, async (session) => {
    await eventually(() => assert.deepEqual(shown(session), [11, 12, 13]));
    await eventually(() => assert.equal(session.connection.state, "live"));
    assert.deepEqual(services.subscriptions.map(cursor), [[10n], [12n]]);
    assert.equal(session.get("c")?.unread, 3, "each counted once");
  });
});

test("a stream with a gap is closed and reopened", async () => {
  for (const hole of [message(12n), caughtUp(12n)]) {
    const services = new Services();
    services.scripts = [[hole, "hang"], [message(11n), message(12n), allCaughtUp, "hang"]];
    await session(services, async (session) => {
      await eventually(() => assert.deepEqual(shown(session), [11, 12]));
      assert.deepEqual(services.subscriptions.map(cursor), [[10n], [10n]]);
    });
  }
});

test("a silent stream is closed and reopened", async () => {
  const services = new Services();
  services.scripts = [[allCaughtUp, "hang"], [message(11n), "hang"]];
  const states: string[] = [];
  const options = { silenceMs: 50 };
  await session(services, async (session) => {
    await eventually(() => assert.deepEqual(shown(session), [11]));
    states.push(session.connection.state);
  }, options);
  assert.deepEqual(states, ["reconnecting"], "live again once everything was delivered, not before");
});

test("sends keep their request id across retries, and their order", async () => {
  const services = new Services();
  services.scripts = [[allCaughtUp, "hang"]];
  services.refusals = [refusal(Code.Unavailable, "DATABASE_UNAVAILABLE"), new ConnectError("fetch failed", Code.Unknown)];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "live"));
    const conversation = session.get("c");
    assert(conversation);
    session.send(conversation, "one");
    session.send(conversation, "two");
    await eventually(() => assert.deepEqual(conversation.drafts, []));
    const ids = services.sent.map((sent) => sent.split(" ")[0]);
    assert.deepEqual(services.sent.map((sent) => sent.split(" ")[1]), ["one", "one", "one", "two"]);
    assert.equal(new Set(ids).size, 2);
  });
});

test("a refused send shows the reason and is retried only on request", async () => {
  const services = new Services();
  services.scripts = [[allCaughtUp, "hang"]];
  services.refusals = [refusal(Code.PermissionDenied, "NOT_A_MEMBER")];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "live"));
    const conversation = session.get("c");
    assert(conversation);
    session.send(conversation, "one");
    await eventually(() => assert.equal(conversation.drafts[0]?.refused, "You are not a member of this conversation."));
    assert.equal(services.sent.length, 1);
    assert(conversation.drafts[0]);
    session.retry(conversation, conversation.drafts[0]);
    await eventually(() => assert.deepEqual(conversation.drafts, []));
    assert.equal(services.sent[0], services.sent[1], "with the same request id");
  });
});

test("a draft is removed when its message arrives on the stream", async () => {
  const services = new Services();
  services.scripts = [[allCaughtUp, "hang"], [allCaughtUp, "hang"]];
  // The answer is lost, the message is not.
  services.refusals = Array.from({ length: 1_000 }, () => refusal(Code.Unavailable, "DATABASE_UNAVAILABLE"));
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "live"));
    const conversation = session.get("c");
    assert(conversation);
    session.send(conversation, "11");
    const requestId = conversation.drafts[0]?.requestId ?? "";
    await eventually(() => assert(services.sent.length > 0));
    const own = message(11n, "ada", requestId).item;
    assert(own?.case === "event");
    assert.equal(conversation.take(create(EventSchema, own.value)), "new");
    assert.deepEqual(conversation.drafts, []);
    await eventually(() => assert.deepEqual(shown(session), [11]));
  });
});

test("a closed conversation is removed; one with a cursor ahead of the head is re-read", async () => {
  const closed = (reason: string): Item => {
    const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { domain: "parlance", reason }))];
    return { item: { case: "closed", value: { conversationId: "c", status: { code: Code.FailedPrecondition, details } } } };
  };
  const services = new Services();
  services.scripts = [[closed("NOT_A_MEMBER"), allCaughtUp, "hang"]];
  const left: string[] = [];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "live"));
    assert.equal(session.get("c"), undefined);
  }, { left: (conversation, failure) => left.push(`${conversation.id} ${failure.reason}`) });
  assert.deepEqual(left, ["c NOT_A_MEMBER"]);

  const restored = new Services();
  restored.scripts = [[message(11n), closed("SEQUENCE_AHEAD"), "hang"], [message(4n), allCaughtUp, "hang"]];
  const options: Partial<Options> = { changed: () => (restored.head = 3n) };
  await session(restored, async (session) => {
    await eventually(() => assert.deepEqual(shown(session), [4]));
    assert.deepEqual(restored.subscriptions.map(cursor), [[10n], [3n]]);
  }, options);
});

test("the epoch of the positions is returned with them", async () => {
  const broken = refusal(Code.Unavailable, "DATABASE_UNAVAILABLE");
  const services = new Services();
  // The second stream ends before its cursors are known to be of its epoch.
  services.scripts = [[heartbeat("one"), message(11n), broken], [broken], [heartbeat("two"), broken], [allCaughtUp, "hang"]];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "live"));
    assert.deepEqual(services.subscriptions.map(({ epoch }) => epoch), ["", "one", "one", "two"]);
  });
});

test("a refused session shows the reason and is not retried", async () => {
  const services = new Services();
  services.scripts = [[refusal(Code.FailedPrecondition, "USER_DEACTIVATED")]];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.connection.state, "ended"));
    assert.equal(services.subscriptions.length, 1);
  });
});

test("messages are marked as read once", async () => {
  const services = new Services();
  services.unread = 2n;
  services.lastRead = 8n;
  services.scripts = [[allCaughtUp, message(11n), "hang"]];
  await session(services, async (session) => {
    await eventually(() => assert.equal(session.get("c")?.unread, 3));
    const conversation = session.get("c");
    assert(conversation);
    await Promise.all([session.seen(conversation), session.seen(conversation)]);
    await session.seen(conversation);
    assert.deepEqual(services.marked, [11n]);
    assert.equal(conversation.unread, 0);
  });
});

test("a user in very many conversations sends the cursors that are needed", async () => {
  const services = new Services();
  services.others = 10_001;
  services.scripts = [[message(12n), "hang"], [message(11n), message(12n), allCaughtUp, "hang"]];
  // The read mark was moved after the listing, so the first stream starts behind the position.
  const options: Partial<Options> = { changed: () => (services.head = services.subscriptions.length > 0 ? 12n : 10n) };
  await session(services, async (session) => {
    await eventually(() => assert.deepEqual(shown(session), [11, 12]));
    assert.deepEqual(services.subscriptions.map(cursor), [[], [10n]]);
    assert.equal(session.conversations.length, 10_002);
  }, options);
});
