// Fake services that misbehave, and fake Web Locks.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport, type ServiceImpl } from "@connectrpc/connect";

import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb";
import { ConversationKind } from "../gen/parlance/message/v1/conversation_pb";
import { ConversationService } from "../gen/parlance/message/v1/conversation_service_pb";
import { EventSchema } from "../gen/parlance/message/v1/event_pb";
import { MessageSchema } from "../gen/parlance/message/v1/message_pb";
import { MessageService, type SubscribeRequest, SubscribeResponseSchema } from "../gen/parlance/message/v1/message_service_pb";
import { UserService } from "../gen/parlance/user/v1/user_service_pb";
import type { Session } from "../src/session";

export type Item = MessageInitShape<typeof SubscribeResponseSchema>;

/** Fake services with one conversation, `c`, whose head is 10, and one script of items for each subscription. */
export class FakeServices {
  readonly subscriptions: SubscribeRequest[] = [];
  readonly sent: string[] = [];
  readonly marked: bigint[] = [];
  /**
   * The items of each subscription; `hang` keeps it open, else it ends; `wait` waits for `proceed`. The last script is used
   * for all that follow.
   */
  scripts: (Item | "hang" | "wait" | ConnectError)[][] = [["hang"]];
  /** The errors that sends are answered with before they succeed. */
  refusals: ConnectError[] = [];
  head = 10n;
  unread = 0n;
  lastRead = 10n;
  /** The number of further conversations, which are read to their end. */
  others = 0;

  #proceed: () => void = () => undefined;

  /** Continues the scripts that wait. */
  proceed(): void {
    this.#proceed();
  }

  get all() {
    const transport = createRouterTransport(({ service }) => {
      service(UserService, {});
      service(ConversationService, this.#conversations);
      service(MessageService, this.#messages);
    });
    return {
      users: createClient(UserService, transport),
      conversations: createClient(ConversationService, transport),
      messages: createClient(MessageService, transport),
    };
  }

  get #conversations(): Partial<ServiceImpl<typeof ConversationService>> {
    return {
      listConversations: () => ({
        items: [
          ...Array.from({ length: this.others }, (_, at) => ({
            conversation: { conversationId: `other-${at}`, kind: ConversationKind.GROUP, lastSequence: 1n },
            membership: { lastReadSequence: 1n },
          })),
          {
            conversation: { conversationId: "c", kind: ConversationKind.GROUP, title: "C", lastSequence: this.head },
            membership: { conversationId: "c", userId: "ada", lastReadSequence: this.lastRead, unreadCount: this.unread },
          },
        ],
      }),
      markRead: ({ sequence }) => {
        this.marked.push(sequence);
        return { lastReadSequence: sequence };
      },
    };
  }

  get #messages(): Partial<ServiceImpl<typeof MessageService>> {
    const services = this;
    return {
      async *subscribe(request, { signal }) {
        const script = services.scripts[Math.min(services.subscriptions.length, services.scripts.length - 1)] ?? [];
        services.subscriptions.push(request);
        for (const item of script) {
          if (item instanceof ConnectError) throw item;
          if (item === "wait") await new Promise<void>((resolve) => (services.#proceed = resolve));
          else if (item === "hang") await new Promise((resolve) => signal.addEventListener("abort", resolve));
          else yield create(SubscribeResponseSchema, item);
        }
      },
      sendMessage: ({ requestId, text, senderId, conversationId }) => {
        services.sent.push(`${requestId} ${text}`);
        const refusal = services.refusals.shift();
        if (refusal !== undefined) throw refusal;
        return { message: { conversationId, senderId, requestId, text, sequence: 11n, changeSequence: 11n } };
      },
    };
  }
}

export function message(sequence: bigint, senderId = "bob", requestId = ""): Item {
  const value = create(MessageSchema, { conversationId: "c", sequence, senderId, text: `${sequence}`, changeSequence: sequence, requestId });
  const event = create(EventSchema, { conversationId: "c", sequence, actorId: senderId, kind: { case: "messageSent", value } });
  return { item: { case: "event", value: event } };
}

export function caughtUp(sequence: bigint): Item {
  return { item: { case: "caughtUp", value: { conversationId: "c", sequence } } };
}

export function heartbeat(epoch: string): Item {
  return { item: { case: "heartbeat", value: { epoch } } };
}

export const allCaughtUp: Item = { item: { case: "caughtUp", value: {} } };

export function refusal(code: Code, reason: string): ConnectError {
  return new ConnectError("no", code, undefined, [{ desc: ErrorInfoSchema, value: { domain: "parlance", reason } }]);
}

export function shown(session: Session): number[] {
  return session.get("c")?.lines.map((line) => line.sequence) ?? [];
}

export const cursor = (request: SubscribeRequest | undefined) => request?.cursors.map(({ afterSequence }) => afterSequence);

type Held = (lock: Lock | null) => Promise<void>;

/** The locks of one browser, without the order of requests that Web Locks promise across names. */
export class FakeLocks {
  readonly #held = new Map<string, (reason: Error) => void>();
  readonly #queue = new Map<string, (() => void)[]>();

  async request(name: string, { ifAvailable, steal, signal }: LockOptions, held: Held): Promise<void> {
    if (ifAvailable && this.#held.has(name)) return held(null);
    if (steal) this.#held.get(name)?.(new Error("stolen"));
    else if (this.#held.has(name)) await this.#turn(name, signal);
    const stolen = new Promise<never>((_, reject) => this.#held.set(name, reject));
    const mine = this.#held.get(name);
    try {
      await Promise.race([held({ name, mode: "exclusive" }), stolen]);
    } finally {
      if (this.#held.get(name) === mine) {
        this.#held.delete(name);
        this.#queue.get(name)?.shift()?.();
      }
    }
  }

  #turn(name: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.#queue.get(name) ?? [];
      this.#queue.set(name, queue);
      queue.push(resolve);
      signal?.addEventListener("abort", () => {
        if (queue.includes(resolve)) queue.splice(queue.indexOf(resolve), 1);
        reject(new Error("withdrawn"));
      });
    });
  }
}

export { eventually } from "./harness";
