// The fuzz target of the page: decodes what services may answer, lets a session handle it, and puts it into words as the view
// does. A law that is broken throws. Without an engine that sees which code an input reaches, inputs are built from the
// descriptors (wire.ts).
//
//     node build/fuzz.mjs RUNS SECONDS [SEED [PATH]]      ends after so many inputs, or so much time; 0 is no limit

import assert from "node:assert/strict";

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";

import { StatusSchema } from "../gen/google/rpc/status_pb";
import { ListConversationsResponseSchema, ListMembersResponseSchema } from "../gen/parlance/message/v1/conversation_service_pb";
import { ListEventsResponseSchema, ListMessagesResponseSchema, SubscribeResponseSchema } from "../gen/parlance/message/v1/message_service_pb";
import { BatchGetUsersResponseSchema } from "../gen/parlance/user/v1/user_service_pb";
import type { Conversation } from "../src/conversation";
import { errorOf, failureOf } from "../src/failure";
import { People } from "../src/people";
import type { Services } from "../src/services";
import { Session } from "../src/session";
import { day, isSameDay, notice, previewOf, subtitleOf, timeOfDay, titleOf, when } from "../src/view/wording";
import { encoded } from "./wire";

const ME = "ada";
const never = () => new Promise(() => undefined);

/** Encoded answers of the services, by call. */
const answers = fc.record({
  items: fc.array(encoded(SubscribeResponseSchema), { maxLength: 10 }),
  listings: fc.array(encoded(ListConversationsResponseSchema), { minLength: 1, maxLength: 2 }),
  messages: fc.array(encoded(ListMessagesResponseSchema), { maxLength: 2 }),
  events: fc.array(encoded(ListEventsResponseSchema), { maxLength: 1 }),
  members: fc.array(encoded(ListMembersResponseSchema), { maxLength: 2 }),
  users: fc.array(encoded(BatchGetUsersResponseSchema), { maxLength: 1 }),
  status: encoded(StatusSchema),
});

type Answers = typeof answers extends fc.Arbitrary<infer T> ? T : never;

/** Services that give these answers, and then none. */
function servicesOf({ items, listings, messages, events, members, users, status }: Answers, ended: () => void): Services {
  const next = <Desc extends DescMessage>(schema: Desc, encodings: Uint8Array[]) => {
    const rest = [...encodings];
    return async () => decode(schema, rest.shift()) ?? never();
  };
  const pages = [...listings];
  // The session waits for the first listing before it subscribes.
  const listed = async () => ({ items: decode(ListConversationsResponseSchema, pages.shift())?.items ?? [], nextPageToken: "" });
  async function* subscribe() {
    for (const item of items) {
      const decoded = decode(SubscribeResponseSchema, item);
      if (decoded !== undefined) yield decoded;
    }
    throw errorOf(decode(StatusSchema, status));
  }
  return {
    users: { batchGetUsers: next(BatchGetUsersResponseSchema, users) },
    conversations: {
      listConversations: listed,
      listMembers: next(ListMembersResponseSchema, members),
    },
    messages: {
      listMessages: next(ListMessagesResponseSchema, messages),
      listEvents: next(ListEventsResponseSchema, events),
      async *subscribe() {
        try {
          yield* subscribe();
        } finally {
          ended();
        }
      },
    },
  } as unknown as Services;
}

/** Decodes an answer. The library refuses some, and then the call fails. */
function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array | undefined): MessageShape<Desc> | undefined {
  try {
    return bytes && fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}

async function run(answers: Answers): Promise<void> {
  const services = servicesOf(answers, () => session.close());
  const left = (_: Conversation, failure: ReturnType<typeof failureOf>) => check(failure);
  const session: Session = new Session(services, ME, { changed: () => undefined, left, random: () => 0 });
  await session.run();
  check(failureOf(errorOf(decode(StatusSchema, answers.status))));
  const people = new People(services.users, () => undefined);
  const failures: unknown[] = [];
  for (const conversation of session.conversations) {
    session.open(conversation).catch((error: unknown) => failures.push(error));
    // The answers are there already.
    for (let turn = 0; turn < 4; turn += 1) await Promise.resolve();
    show(conversation, people);
  }
  for (const failure of failures) throw failure;
}

function check({ words, reason, retryDelayMs }: ReturnType<typeof failureOf>): void {
  assert(typeof words === "string" && words !== "", `the words of ${reason} are ${String(words)}`);
  assert(!Number.isNaN(retryDelayMs));
}

/** Puts a conversation into words. */
function show(conversation: Conversation, people: People): void {
  const { lines, unread, lastRead, position } = conversation;
  for (const number of [unread, lastRead, position ?? 0]) assert(Number.isFinite(number), `a count is ${number}`);
  for (const text of [titleOf(conversation, people), subtitleOf(conversation), previewOf(conversation, people, ME)]) {
    assert(typeof text === "string", "a text");
  }
  when(conversation.activityMs);
  let before: number | undefined;
  for (const line of lines) {
    assert(line.sequence >= (before ?? conversation.from), "lines are in order");
    before = line.sequence;
    isSameDay(line.timeMs, conversation.activityMs);
    day(line.timeMs);
    timeOfDay(line.timeMs);
    if (line.kind === "notice") assert(typeof notice([line.event], people, ME) === "string", "a notice");
  }
}

async function main([runs = "0", seconds = "0", seed, path]: string[]): Promise<void> {
  // Every input ends in an error, whose stack takes longer than the rest; a repeat shows it.
  if (path === undefined) Error.stackTraceLimit = 0;
  const result = await fc.check(fc.asyncProperty(answers, run), {
    numRuns: Number(runs) || 2 ** 31 - 1,
    ...(Number(seconds) > 0 ? { interruptAfterTimeLimit: Number(seconds) * 1_000 } : {}),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  });
  if (result.failed && result.counterexample !== null) {
    console.log(`${fc.stringify(result.counterexample)}\n${String(result.errorInstance)}`);
    if (result.errorInstance instanceof Error) console.log(result.errorInstance.stack);
    console.log(`to repeat: node --enable-source-maps web/build/fuzz.mjs 1 0 ${result.seed} ${result.counterexamplePath}`);
  }
  console.log(`inputs: ${result.numRuns}`);
  process.exit(result.failed && result.counterexample !== null ? 1 : 0);
}

void main(process.argv.slice(2));
