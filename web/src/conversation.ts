// What is known of one conversation, and what each entry of its log makes of it. No calls and no clock.
//
// Two things come from two sides and must agree. The lines: entries live from the stream, older ones by pages; every
// entry from `from` on is here. And the counts (unread, the preview): a listing says them as of one sequence, and what the
// stream tells after that is added.

import type { Conversation as Details, Member } from "../gen/parlance/message/v1/conversation_pb";
import { ConversationKind } from "../gen/parlance/message/v1/conversation_pb";
import type { ListConversationsResponse_Item as Item } from "../gen/parlance/message/v1/conversation_service_pb";
import type { Event } from "../gen/parlance/message/v1/event_pb";
import type { Message } from "../gen/parlance/message/v1/message_pb";
import { timestampMs } from "@bufbuild/protobuf/wkt";

/** Others' typing is shown for so long. */
export const TYPING_MS = 6_000;

/** More lines than this are not kept for a conversation that nobody looks at. */
const MOST_UNSEEN_LINES = 1_000;

/** One line of what is shown, in the order of `sequence`. */
export type Line =
  | { kind: "message"; sequence: number; timeMs: number; message: Message }
  | { kind: "notice"; sequence: number; timeMs: number; event: Event };

/** What the user has written and the service has not acknowledged. */
export interface Draft {
  requestId: string;
  text: string;
  timeMs: number;
  /** Why it was not taken; it is tried no more unless the user says so. */
  refused?: string;
}

/** What becomes of an entry. */
export type Verdict = "new" | "repeat" | "gap";

export class Conversation {
  kind = ConversationKind.UNSPECIFIED;
  title = "";
  creatorId = "";
  /** Of a direct one: the other. */
  peerId: string | undefined;
  activityMs = 0;

  /** The last entry that the stream has told: the cursor. Unknown until it was listed or told. */
  position: number | undefined;
  /** Every entry from this one on is in the lines. */
  from = Number.MAX_SAFE_INTEGER;
  /** The first entry that the service keeps. */
  oldest = 1;
  /** A page of older lines is on its way. */
  isLoading = false;

  unread = 0;
  lastRead = 0;
  last: Message | undefined;
  /** Unread and preview count everything up to here. */
  #counted = 0;

  drafts: Draft[] = [];
  /** Who is typing, and until when. */
  readonly typing = new Map<string, number>();
  /** How far the others have read; empty until the members were listed. */
  readonly readers = new Map<string, number>();
  memberIds: Set<string> | undefined;
  hasMoreMembers = false;

  readonly #messages = new Map<number, Message>();
  readonly #notices = new Map<number, Event>();
  #lines: Line[] | undefined;

  constructor(
    readonly id: string,
    private readonly me: string,
  ) {}

  /** In order, without a hole. */
  get lines(): readonly Line[] {
    this.#lines ??= this.#sorted();
    return this.#lines;
  }

  get hasOlder(): boolean {
    return this.from > this.oldest;
  }

  /** What a listing says. It may be older than what the stream has told since. */
  list(item: Item): void {
    const { conversation, membership, lastMessage } = item;
    if (conversation === undefined) return;
    this.describe(conversation);
    const head = Number(conversation.lastSequence);
    if (this.position === undefined) this.#begin(head);
    const lastRead = Number(membership?.lastReadSequence ?? 0n);
    if (head >= this.#counted && lastRead >= this.lastRead) {
      this.#counted = head;
      this.lastRead = lastRead;
      this.unread = Number(membership?.unreadCount ?? 0n);
    }
    this.activityMs = Math.max(this.activityMs, ms(conversation.lastMessageTime ?? conversation.createTime));
    if (lastMessage !== undefined) this.put(lastMessage);
  }

  describe(details: Details): void {
    this.kind = details.kind;
    this.title = details.title;
    this.creatorId = details.creatorId;
    if (details.kind === ConversationKind.DIRECT && details.creatorId !== this.me) this.peerId = details.creatorId;
  }

  /** An entry of the log. Of a conversation that is not known yet any entry is the first. */
  take(event: Event): Verdict {
    const sequence = Number(event.sequence);
    if (this.position === undefined) this.#begin(sequence - 1);
    const position = this.position ?? 0;
    if (sequence <= position) return "repeat";
    if (sequence > position + 1) return "gap";
    this.position = sequence;
    this.#keep(event);
    this.#apply(event, sequence);
    return "new";
  }

  /** Everything up to here is said to have been told; false if it was not. */
  caughtUp(sequence: number): boolean {
    if (this.position === undefined) this.#begin(sequence);
    return (this.position ?? 0) >= sequence;
  }

  /** What is before this is no longer kept. */
  truncated(oldest: number): void {
    this.oldest = Math.max(this.oldest, oldest);
    if (this.position === undefined || this.position < oldest - 1) this.restart(oldest - 1);
  }

  /** Forgets the lines: the log goes on after `position`, and nothing is known of what came before. */
  restart(position: number | undefined): void {
    this.#messages.clear();
    this.#notices.clear();
    this.#lines = undefined;
    this.position = position;
    this.from = position === undefined ? Number.MAX_SAFE_INTEGER : position + 1;
    this.#counted = 0;
    this.last = undefined;
  }

  /** The lines from `start` on, up to those that are here: a page of messages and whatever else was between them. */
  prepend(start: number, messages: readonly Message[], events: readonly Event[]): void {
    for (const event of events) {
      if (Number(event.sequence) < this.from) this.#keep(event);
    }
    for (const message of messages) this.put(message);
    this.from = Math.min(this.from, start);
    this.#lines = undefined;
  }

  /** A message, as a call or an event has it: of two copies the one that was changed last is kept. */
  put(message: Message): void {
    const sequence = Number(message.sequence);
    const known = this.#messages.get(sequence);
    if (known === undefined || known.changeSequence < message.changeSequence) {
      this.#messages.set(sequence, message);
      this.#lines = undefined;
    }
    if (this.last === undefined || this.last.sequence < message.sequence
      || (this.last.sequence === message.sequence && this.last.changeSequence < message.changeSequence)) {
      this.last = message;
    }
    if (message.senderId === this.me) {
      this.drafts = this.drafts.filter((draft) => draft.requestId !== message.requestId);
    } else if (this.kind === ConversationKind.DIRECT) {
      this.peerId = message.senderId;
    }
  }

  /** The user has read up to here. False if the count is not certain then, and a listing is needed. */
  read(sequence: number): boolean {
    if (sequence <= this.lastRead) return true;
    this.lastRead = sequence;
    if (sequence >= Number(this.last?.sequence ?? 0n)) {
      this.unread = 0;
      return true;
    }
    if (this.from > sequence + 1) return false;
    const after = this.lines.filter((line) => line.kind === "message" && line.sequence > sequence);
    this.unread = after.filter((line) => line.kind === "message" && line.message.senderId !== this.me).length;
    return true;
  }

  readBy(userId: string, sequence: number): void {
    this.readers.set(userId, Math.max(this.readers.get(userId) ?? 0, sequence));
  }

  listMembers(members: readonly Member[], hasMore: boolean): void {
    this.memberIds = new Set(members.map((member) => member.userId));
    this.hasMoreMembers = hasMore;
    for (const member of members) {
      if (member.userId === this.me) continue;
      this.readBy(member.userId, Number(member.lastReadSequence));
      if (this.kind === ConversationKind.DIRECT) this.peerId = member.userId;
    }
  }

  typists(nowMs: number): string[] {
    return [...this.typing].filter(([, until]) => until > nowMs).map(([userId]) => userId);
  }

  #begin(position: number): void {
    this.position = position;
    this.from = Math.min(this.from, position + 1);
  }

  /** Puts an entry among the lines, if it makes one. */
  #keep(event: Event): void {
    const { kind } = event;
    switch (kind.case) {
      case "messageSent":
      case "messageEdited":
      case "messageDeleted":
        this.put(kind.value);
        break;
      case "memberJoined":
      case "memberLeft":
      case "conversationUpdated":
        this.#notices.set(Number(event.sequence), event);
        this.#lines = undefined;
        break;
      default:
        // A role, or a kind that was made after this page.
        break;
    }
  }

  /** What an entry changes beside the lines. */
  #apply(event: Event, sequence: number): void {
    const isCounted = sequence <= this.#counted;
    this.#counted = Math.max(this.#counted, sequence);
    const { kind } = event;
    switch (kind.case) {
      case "messageSent":
        this.activityMs = Math.max(this.activityMs, ms(kind.value.createTime));
        this.typing.delete(event.actorId);
        // Sending moves the own mark.
        if (event.actorId === this.me) this.lastRead = Math.max(this.lastRead, sequence);
        else if (this.readers.has(event.actorId)) this.readBy(event.actorId, sequence);
        if (!isCounted) this.unread = event.actorId === this.me ? 0 : this.unread + 1;
        break;
      case "memberJoined":
        this.memberIds?.add(kind.value.userId);
        if (kind.value.userId !== this.me) this.readBy(kind.value.userId, sequence);
        break;
      case "memberLeft":
        this.memberIds?.delete(kind.value.userId);
        this.readers.delete(kind.value.userId);
        this.typing.delete(kind.value.userId);
        break;
      case "conversationUpdated":
        this.title = kind.value.title;
        break;
      default:
        break;
    }
  }

  /** Nobody looks at it: of very many lines none is kept, they can be read again. */
  trim(): void {
    if (this.position !== undefined && this.#messages.size + this.#notices.size > MOST_UNSEEN_LINES) {
      this.#messages.clear();
      this.#notices.clear();
      this.#lines = undefined;
      this.from = this.position + 1;
    }
  }

  #sorted(): Line[] {
    const lines: Line[] = [];
    for (const [sequence, message] of this.#messages) {
      if (sequence >= this.from) lines.push({ kind: "message", sequence, timeMs: ms(message.createTime), message });
    }
    for (const [sequence, event] of this.#notices) {
      if (sequence >= this.from) lines.push({ kind: "notice", sequence, timeMs: ms(event.eventTime), event });
    }
    return lines.sort((a, b) => a.sequence - b.sequence);
  }
}

function ms(time: Message["createTime"]): number {
  return time === undefined ? 0 : timestampMs(time);
}
