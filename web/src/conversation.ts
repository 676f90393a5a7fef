// The state of one conversation, updated by the entries of its log. Pure: no calls, no clock.
//
// Lines and counts each come from two sources that must agree. Lines: new entries come from the stream, older ones from
// pages; every entry from `from` on is present. Counts (unread, the preview): a listing has them as of one sequence, and
// later entries from the stream are added.

import type { Conversation as Details, Member } from "../gen/parlance/message/v1/conversation_pb";
import { ConversationKind } from "../gen/parlance/message/v1/conversation_pb";
import type { ListConversationsResponse_Item as Item } from "../gen/parlance/message/v1/conversation_service_pb";
import type { Event } from "../gen/parlance/message/v1/event_pb";
import type { Message } from "../gen/parlance/message/v1/message_pb";
import { timestampMs } from "@bufbuild/protobuf/wkt";

/** The time that a user is shown as typing. */
export const TYPING_MS = 6_000;

/** The last millisecond of `Date`, and the first one, negative; less a day, since the local midnight is a time, too. */
const MAX_DATE_MS = 8.64e15 - 86_400_000;

/** The most lines kept of a conversation that is not open. */
const MAX_HIDDEN_LINES = 1_000;

/** A line of the view, in the order of `sequence`. */
export type Line =
  | { kind: "message"; sequence: number; timeMs: number; message: Message }
  | { kind: "notice"; sequence: number; timeMs: number; event: Event };

/** A message that the service has not acknowledged yet. */
export interface Draft {
  requestId: string;
  text: string;
  timeMs: number;
  /** The reason of a refusal. A refused draft is retried only at the user's request. */
  refused?: string;
}

/** The result of comparing an incoming entry with the position. */
export type Verdict = "new" | "duplicate" | "gap";

export class Conversation {
  kind = ConversationKind.UNSPECIFIED;
  title = "";
  creatorId = "";
  /** The other user of a direct conversation. */
  peerId: string | undefined;
  activityMs = 0;

  /** The cursor: the last sequence received from the stream. Unknown until the conversation was listed or streamed. */
  position: number | undefined;
  /** The sequence from which on every entry is in the lines. */
  from = Number.MAX_SAFE_INTEGER;
  /** The sequence of the oldest entry kept by the service. */
  oldest = 1;
  /** True while a page of older lines is loading. */
  isLoading = false;

  unread = 0;
  lastRead = 0;
  last: Message | undefined;
  /** The sequence up to which unread count and preview are complete. */
  #counted = 0;

  drafts: Draft[] = [];
  /** The users who are typing, with the time at which that expires. */
  readonly typing = new Map<string, number>();
  /** The read marks of the other members; empty until the members were listed. */
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

  /** The lines in order, without gaps. */
  get lines(): readonly Line[] {
    this.#lines ??= this.#sorted();
    return this.#lines;
  }

  get hasOlder(): boolean {
    return this.from > this.oldest;
  }

  /** True if entries after the position are known to exist. */
  get isBehind(): boolean {
    return (this.position ?? 0) < this.#counted;
  }

  /** True if a stream that starts after the read mark starts at the position. */
  get isRead(): boolean {
    return this.position === this.lastRead && !this.isBehind;
  }

  /** Applies an item of a listing, which may be older than the entries streamed since. */
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

  /** Applies an entry of the log. Any entry of an unknown conversation is its first. */
  take(event: Event): Verdict {
    const sequence = Number(event.sequence);
    if (this.position === undefined) this.#begin(sequence - 1);
    const position = this.position ?? 0;
    if (sequence <= position) return "duplicate";
    if (sequence > position + 1) return "gap";
    this.position = sequence;
    this.#keep(event);
    this.#apply(event, sequence);
    return "new";
  }

  /** Checks a `caught_up` mark. Returns false if entries before it are missing. */
  caughtUp(sequence: number): boolean {
    if (this.position === undefined) this.#begin(sequence);
    return (this.position ?? 0) >= sequence;
  }

  /** Skips the entries before `oldest`, which are no longer kept. */
  truncated(oldest: number): void {
    this.oldest = Math.max(this.oldest, oldest);
    if (this.position === undefined || this.position < oldest - 1) this.restart(oldest - 1);
  }

  /** Drops all lines and continues the log after `position`. */
  restart(position: number | undefined): void {
    this.#messages.clear();
    this.#notices.clear();
    this.#lines = undefined;
    this.position = position;
    this.from = position === undefined ? Number.MAX_SAFE_INTEGER : position + 1;
    this.#counted = 0;
    this.last = undefined;
  }

  /** Adds the lines from `start` up to the present ones: a page of messages, and the other entries between them. */
  prepend(start: number, messages: readonly Message[], events: readonly Event[]): void {
    for (const event of events) {
      if (Number(event.sequence) < this.from) this.#keep(event);
    }
    for (const message of messages) this.put(message);
    this.from = Math.min(this.from, start);
    this.#lines = undefined;
  }

  /** Adds a message from a call or an event. Of two copies, the one changed last is kept. */
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

  /** Advances the user's read mark. Returns false if the unread count is then unknown and a listing is needed. */
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

  /** Adds an entry to the lines, if it has a line. */
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
        // A change of role, or a kind newer than this client.
        break;
    }
  }

  /** Applies an entry to everything but the lines. */
  #apply(event: Event, sequence: number): void {
    const isCounted = sequence <= this.#counted;
    this.#counted = Math.max(this.#counted, sequence);
    const { kind } = event;
    switch (kind.case) {
      case "messageSent":
        this.activityMs = Math.max(this.activityMs, ms(kind.value.createTime));
        this.typing.delete(event.actorId);
        // Sending advances the sender's own read mark.
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

  /** Drops the lines of a closed conversation if there are very many; they can be loaded again. */
  trim(): void {
    if (this.position !== undefined && this.#messages.size + this.#notices.size > MAX_HIDDEN_LINES) {
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

/** Returns a time in milliseconds. One that `Date` cannot hold, and no calendar shows, becomes the nearest that it can. */
function ms(time: Message["createTime"]): number {
  return time === undefined ? 0 : Math.max(-MAX_DATE_MS, Math.min(timestampMs(time), MAX_DATE_MS));
}
