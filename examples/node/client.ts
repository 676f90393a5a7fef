// A client of Parlance in TypeScript on Node.js: users and messages by unary calls, and an inbox (Subscribe) that survives
// restarts of the services. See ../README.md.

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { credentials } from "@grpc/grpc-js";
import { type Conversation, ConversationKind, type Member } from "./gen/parlance/message/v1/conversation.js";
import {
  ConversationServiceClient,
  CreateConversationRequest,
  ListConversationsRequest,
  type ListConversationsResponse,
  MarkReadRequest,
} from "./gen/parlance/message/v1/conversation_service.js";
import type { Event } from "./gen/parlance/message/v1/event.js";
import {
  ListEventsRequest,
  type ListEventsResponse,
  MessageServiceClient,
  SendMessageRequest,
  type SendMessageResponse,
  SendTypingRequest,
} from "./gen/parlance/message/v1/message_service.js";
import type { User } from "./gen/parlance/user/v1/user.js";
import { CreateUserRequest, GetUserRequest, UserServiceClient } from "./gen/parlance/user/v1/user_service.js";
import { call, FIRST_PAUSE, Inbox, isServiceError, type Item, LAST_PAUSE, reason, send } from "./session.js";

interface Clients {
  users: UserServiceClient;
  conversations: ConversationServiceClient;
  messages: MessageServiceClient;
}

/** A conversation of ann and ben. */
class Talk {
  readonly #clients: Clients;
  readonly #prefix: string;
  readonly #ann: string;
  readonly #ben: string;
  readonly #eve: string;
  readonly #room: string;
  readonly #inbox: Inbox;
  readonly #items: AsyncGenerator<Item, never, undefined>;
  /** The messages sent, in order. */
  readonly #texts: string[] = [];

  constructor(clients: Clients, prefix: string) {
    this.#clients = clients;
    this.#prefix = prefix;
    this.#ann = `${prefix}ann`;
    this.#ben = `${prefix}ben`;
    this.#eve = `${prefix}eve`;
    this.#room = `${prefix}room`;
    this.#inbox = new Inbox(clients.messages, this.#ben);
    this.#items = this.#inbox.items();
  }

  /** Creates two users and their conversation. With request ids it is idempotent. */
  async begin(): Promise<void> {
    const { users, conversations } = this.#clients;
    for (const id of [this.#ann, this.#ben]) {
      const request = CreateUserRequest.create({ userId: id, username: id, requestId: id });
      await call<User>((answer) => users.createUser(request, answer));
    }
    const request = GetUserRequest.create({ userId: this.#ann });
    const user = await call<User>((answer) => users.getUser(request, answer));
    say(`${this.#short(user.userId)} is called ${this.#short(user.username)}`);
    const group = CreateConversationRequest.create({
      conversationId: this.#room,
      kind: ConversationKind.CONVERSATION_KIND_GROUP,
      creatorId: this.#ann,
      memberIds: [this.#ben],
      requestId: this.#room,
    });
    await call<Conversation>((answer) => conversations.createConversation(group, answer));
  }

  /** Sends by unary calls: refused, accepted and repeated. */
  async sendUnary(): Promise<void> {
    const { messages } = this.#clients;
    const letMeIn = this.#message(this.#eve, "Let me in!");
    try {
      await call<SendMessageResponse>((answer) => messages.sendMessage(letMeIn, answer));
    } catch (error) {
      if (!isServiceError(error)) throw error;
      say(`eve is refused: ${reason(error)}`);
    }

    const first = await this.#send(this.#ann, "Hello!");
    expect(!first.duplicate, "this was run before: give another --prefix");
    say(`ann sent ${first.message?.sequence}`);
    const second = await send(messages, this.#message(this.#ann, "Hello!"));
    expect(second.duplicate, "the same message was stored again");
    say(`ann sent ${second.message?.sequence} again: a duplicate`);
  }

  /** Reads the log from its beginning, sends, and marks messages as read. */
  async readAndSend(): Promise<void> {
    const { conversations, messages } = this.#clients;
    await this.#show(3);
    for (;;) {
      const item = (await this.#items.next()).value;
      if (item.$case !== "caughtUp" || item.value.conversationId !== this.#room) continue;
      say(`ben is caught up at ${item.value.sequence}`);
      break;
    }

    const typing = SendTypingRequest.create({ conversationId: this.#room, actorId: this.#ben });
    await call((answer) => messages.sendTyping(typing, answer));
    say("ben is typing");
    for (const text of ["one", "two", "three"]) {
      // One after the other: concurrent calls are stored in any order.
      const stored = await this.#send(this.#ben, text);
      say(`ben sent ${stored.message?.sequence}`);
    }
    await this.#show(3);

    const mark = MarkReadRequest.create({ conversationId: this.#room, actorId: this.#ben, sequence: 6n });
    const read = await call<Member>((answer) => conversations.markRead(mark, answer));
    say(`ben has read up to ${read.lastReadSequence}`);
    const request = ListConversationsRequest.create({ actorId: this.#ann });
    const inbox = await call<ListConversationsResponse>((answer) => conversations.listConversations(request, answer));
    say(`ann has ${inbox.items[0]?.membership?.unreadCount} unread`);
  }

  /** Sends messages and reads them back, until the inbox was connected once more. */
  async throughRestart(round: number): Promise<void> {
    say("restart the services: ben keeps sending");
    const before = this.#inbox.connections;
    let count = 0;
    let repeated = 0;
    while (this.#inbox.connections === before) {
      const text = `${++count} of round ${round}`;
      const { message, duplicate } = await this.#send(this.#ben, text);
      const { sequence, kind } = await this.#nextEntry();
      expect(
        sequence === message?.sequence && kind?.$case === "messageSent" && kind.value.text === text,
        `${text} was stored as ${message?.sequence}, and then came ${sequence}`,
      );
      if (duplicate) repeated++;
      await sleep(5);
    }
    console.error(`round ${round}: ${count} messages, of which ${repeated} had been stored by a try without an answer`);
    say("restarted: all of it is stored once and came once, in order");
  }

  /** Compares the stored log with the messages sent. */
  async checkLog(): Promise<void> {
    await this.#items.return(undefined as never);
    const texts: string[] = [];
    let after = 0n;
    let last: bigint | undefined;
    while (after !== last) {
      const request = ListEventsRequest.create({
        conversationId: this.#room,
        actorId: this.#ann,
        afterSequence: after,
        pageSize: 1_000,
      });
      const page = await call<ListEventsResponse>((answer) => this.#clients.messages.listEvents(request, answer));
      for (const { sequence, kind } of page.events) {
        expect(sequence === ++after, `entry ${after} is missing`);
        if (kind?.$case === "messageSent") texts.push(kind.value.text);
      }
      last = page.lastSequence;
    }
    expect(
      texts.join("\n") === this.#texts.join("\n"),
      `${this.#texts.length} messages were sent, and the log has ${texts.length}, or others`,
    );
    say("the log has it all, without a hole");
  }

  #send(senderId: string, text: string): Promise<SendMessageResponse> {
    this.#texts.push(text);
    return send(this.#clients.messages, this.#message(senderId, text));
  }

  /** Uses one request id for all attempts; an application should generate a UUID with the message. */
  #message(senderId: string, text: string): SendMessageRequest {
    const requestId = text.replaceAll(" ", "-");
    return SendMessageRequest.create({ conversationId: this.#room, senderId, text, requestId });
  }

  async #show(count: number): Promise<void> {
    for (let shown = 0; shown < count; shown++) {
      const event = await this.#nextEntry();
      say(`ben has ${event.sequence}: ${this.#describe(event)}`);
    }
  }

  /** Skips ephemerals, which may be lost, and marks. */
  async #nextEntry(): Promise<Event> {
    for (;;) {
      const item = (await this.#items.next()).value;
      if (item.$case === "event" && item.value.sequence > 0n) return item.value;
    }
  }

  /** Formats an entry for a person. */
  #describe({ kind }: Event): string {
    switch (kind?.$case) {
      case "messageSent":
        return `${this.#short(kind.value.senderId)}: ${kind.value.text}`;
      case "memberJoined":
        return `${this.#short(kind.value.userId)} joined`;
      case "memberLeft":
        return `${this.#short(kind.value.userId)} left`;
      default:
        return "an event that this program does not print";
    }
  }

  /** Returns an id without the prefix. */
  #short(userId: string): string {
    return userId.startsWith(this.#prefix) ? userId.slice(this.#prefix.length) : userId;
  }
}

function say(text: string): void {
  console.log(text);
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

const USAGE = `Usage: npm start -- [OPTIONS]

  --user-service ADDRESS     address of user-service (USER_SERVICE, else 127.0.0.1:50051)
  --message-service ADDRESS  address of message-service (MESSAGE_SERVICE, else 127.0.0.1:50052)
  --prefix TEXT              prefix of all ids; a second run needs another one (node-)
  --restarts COUNT           number of restarts of the services to wait for (0)`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      help: { type: "boolean", default: false },
      "user-service": { type: "string", default: process.env["USER_SERVICE"] ?? "127.0.0.1:50051" },
      "message-service": { type: "string", default: process.env["MESSAGE_SERVICE"] ?? "127.0.0.1:50052" },
      prefix: { type: "string", default: "node-" },
      restarts: { type: "string", default: "0" },
    },
  });
  if (values.help) {
    say(USAGE);
    return;
  }
  // Limits the time of the whole program.
  setTimeout(() => {
    console.error("this takes too long");
    process.exit(1);
  }, 300_000).unref();

  // Not encrypted: for services on the same machine. Without the options, gRPC reconnects only after up to two minutes.
  const options = {
    "grpc.initial_reconnect_backoff_ms": FIRST_PAUSE,
    "grpc.max_reconnect_backoff_ms": LAST_PAUSE,
  };
  const clients = {
    users: new UserServiceClient(values["user-service"], credentials.createInsecure(), options),
    conversations: new ConversationServiceClient(values["message-service"], credentials.createInsecure(), options),
    messages: new MessageServiceClient(values["message-service"], credentials.createInsecure(), options),
  };
  try {
    const talk = new Talk(clients, values.prefix);
    await talk.begin();
    await talk.sendUnary();
    await talk.readAndSend();
    for (let round = 1; round <= Number(values.restarts); round++) await talk.throughRestart(round);
    await talk.checkLog();
  } finally {
    for (const client of Object.values(clients)) client.close();
  }
}

await main();
