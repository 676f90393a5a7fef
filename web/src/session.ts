// A session of one user: the protocol, without the view. Uses `Subscribe`, one stream from the service for all
// conversations, and unary calls for everything else.
//
// - One tab of a user has the stream; it passes each item on to the others (see tabs.ts).
// - Each conversation is received in order, without gaps and duplicates, proved by its sequences. A stream that skips an
//   entry or is silent for too long is abandoned, and the next one starts at the cursors.
// - A message keeps its `request_id` over all attempts, so it is stored once; messages to one conversation keep their order.

import { Code, ConnectError } from "@connectrpc/connect";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { ConversationKind, type Member } from "../gen/parlance/message/v1/conversation_pb";
import type { Closed, Event } from "../gen/parlance/message/v1/event_pb";
import type { Message } from "../gen/parlance/message/v1/message_pb";
import { SubscribeResponseSchema, SubscribeStart, type SubscribeResponse } from "../gen/parlance/message/v1/message_service_pb";
import { Backoff } from "./backoff";
import { Conversation, TYPING_MS, type Draft } from "./conversation";
import { errorOf, failureOf, type Failure } from "./failure";
import { requestId, type Services } from "./services";
import type { Note, Tabs } from "./tabs";

/** The silence after which a stream is considered lost; the service sends a heartbeat every 30 s at the latest. */
const SILENCE_MS = 45_000;
/** The silence of the leading tab, in proportion, after which another tab takes over. A hidden tab's timers are late. */
const LEADER_PATIENCE = 2;
/** The time by which another tab's request to connect now comes after the leader's own attempt is due. */
const LATE_MS = 250;
/** The interval of typing notifications: the service merges those within two seconds. */
const TYPING_INTERVAL_MS = 2_200;
const PAGE = 50;
const MAX_BETWEEN = 1_000;
const MAX_MEMBERS = 1_000;
/** The most cursors of one stream. */
const MAX_CURSORS = 10_000;

/** The state of the connection to the service. */
export type ConnectionState =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting" }
  /** Other users occupy the connections that the browser allows. */
  | { state: "crowded" }
  | { state: "ended"; words: string };

export interface Options {
  /** Called when the view may have changed. */
  changed: () => void;
  /** Called when the user is no longer in a conversation. */
  left?: (conversation: Conversation, failure: Failure) => void;
  /** The tabs of this user; without it, the session has a stream of its own. */
  tabs?: Tabs | undefined;
  silenceMs?: number;
  random?: () => number;
}

export class Session {
  connection: ConnectionState = { state: "connecting" };
  readonly #conversations = new Map<string, Conversation>();
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  readonly #sleepers = new Set<() => void>();
  /** The time of the last typing notification by conversation. */
  readonly #typingSentAt = new Map<string, number>();
  /** The conversations with sends, or a read mark, in progress. */
  readonly #sending = new Set<string>();
  readonly #marking = new Set<string>();
  #refreshing: Promise<void> | undefined;
  /** The epoch of the log that the positions are in; empty until it is known. */
  #epoch = "";
  /** The retry delay that a draining service requests. */
  #retryDelayMs = 0;
  /** The number of attempts to connect, and what ends the present one. */
  #attempts = 0;
  #giveUp: () => void = () => undefined;

  constructor(
    private readonly services: Services,
    readonly me: string,
    private readonly options: Options,
  ) {
    this.#backoff = new Backoff(options.random);
    const { tabs } = options;
    if (tabs === undefined) return;
    tabs.onRole = () => this.#giveUp();
    tabs.onHello = () => this.#greet(tabs);
    tabs.onWake = (attempt) => {
      if (attempt === undefined || attempt === this.#attempts) this.#endPauses();
    };
  }

  /** The conversations, newest activity first. */
  get conversations(): Conversation[] {
    const described = [...this.#conversations.values()].filter(({ kind }) => kind !== ConversationKind.UNSPECIFIED);
    return described.sort((a, b) => b.activityMs - a.activityMs || (a.id < b.id ? -1 : 1));
  }

  get(id: string): Conversation | undefined {
    return this.#conversations.get(id);
  }

  /** Connects and reconnects until `close`, or until the user may not have a session. Resolves then. */
  async run(): Promise<void> {
    const { tabs } = this.options;
    await tabs?.ready;
    while (!this.#isClosed) {
      const led = tabs?.leads;
      this.#attempts += 1;
      const failure = failureOf(await this.#follow().catch((error: unknown) => error));
      if (this.#isClosed) return;
      if (failure.endsSession) {
        this.#set({ state: "ended", words: failure.words });
        tabs?.close();
        return;
      }
      this.#disconnected();
      if (tabs?.leads === led) await this.#retryLater(Math.max(failure.retryDelayMs, this.#retryDelayMs));
    }
  }

  close(): void {
    this.#closing.abort();
    this.options.tabs?.close();
    this.#endPauses();
  }

  /** Ends all pauses before retries: the network is back, or the page is visible again. */
  wake(): void {
    this.options.tabs?.post({ kind: "wake" });
    this.#endPauses();
  }

  /** Continues after a time in which the page received nothing from the other tabs. */
  resume(): void {
    this.options.tabs?.takeOver();
  }

  /** Loads what the view of a conversation needs when it is opened. */
  async open(conversation: Conversation): Promise<void> {
    const loading = [conversation.lines.length < PAGE ? this.older(conversation) : undefined, this.#members(conversation)];
    await Promise.all(loading).catch((error: unknown) => {
      // If the user has left it meanwhile, that was announced, and the failure is no news.
      if (this.#conversations.get(conversation.id) === conversation) throw error;
    });
  }

  /** Loads the page of older lines. */
  async older(conversation: Conversation): Promise<void> {
    if (conversation.isLoading || !conversation.hasOlder || conversation.position === undefined) return;
    conversation.isLoading = true;
    this.options.changed();
    const { id: conversationId, from: before } = conversation;
    const names = { conversationId, actorId: this.me };
    try {
      const page = await this.services.messages.listMessages({
        ...names,
        pageSize: PAGE,
        beforeSequence: BigInt(before),
      });
      const oldest = page.messages.at(-1);
      const start = page.nextPageToken !== "" && oldest ? Number(oldest.sequence) : Number(page.oldestSequence);
      // Sequences are dense: fewer messages than sequences mean that there are other entries in between.
      const isMore = before - start > page.messages.length;
      const between = isMore
        ? await this.services.messages.listEvents({
            ...names,
            afterSequence: BigInt(start - 1),
            pageSize: Math.min(before - start, MAX_BETWEEN),
          })
        : undefined;
      if (conversation.from === before) conversation.prepend(start, page.messages, between?.events ?? []);
      conversation.oldest = Number(page.oldestSequence);
    } finally {
      conversation.isLoading = false;
      this.options.changed();
    }
  }

  /** Sends a message as soon as possible. */
  send(conversation: Conversation, text: string): void {
    conversation.drafts = [...conversation.drafts, { requestId: requestId(), text, timeMs: Date.now() }];
    this.options.changed();
    void this.#sendAll(conversation);
  }

  /** Retries a refused message unchanged. */
  retry(conversation: Conversation, draft: Draft): void {
    delete draft.refused;
    this.options.changed();
    void this.#sendAll(conversation);
  }

  discard(conversation: Conversation, draft: Draft): void {
    conversation.drafts = conversation.drafts.filter((other) => other !== draft);
    this.options.changed();
  }

  /** Notifies the other members that the user is typing. May be lost. */
  typing(conversation: Conversation): void {
    const now = Date.now();
    if (now - (this.#typingSentAt.get(conversation.id) ?? 0) < TYPING_INTERVAL_MS || this.connection.state !== "live") return;
    this.#typingSentAt.set(conversation.id, now);
    this.services.messages.sendTyping({ conversationId: conversation.id, actorId: this.me }).catch(() => undefined);
  }

  /** Marks everything received of this conversation as read. */
  async seen(conversation: Conversation): Promise<void> {
    const { id, position } = conversation;
    const isRead = position === undefined || (conversation.lastRead >= position && conversation.unread === 0);
    if (isRead || this.#marking.has(id) || this.connection.state !== "live") return;
    this.#marking.add(id);
    try {
      const mark = { conversationId: id, actorId: this.me, sequence: BigInt(position) };
      const member = await this.services.conversations.markRead(mark);
      this.#read(conversation, Number(member.lastReadSequence));
      this.options.changed();
    } catch {
      // Retried with the next entry.
    } finally {
      this.#marking.delete(id);
    }
  }

  async edit(message: Message, text: string): Promise<void> {
    const { conversationId, sequence } = message;
    this.#put(await this.services.messages.editMessage({ conversationId, sequence, actorId: this.me, text }));
  }

  async delete(message: Message): Promise<void> {
    const { conversationId, sequence } = message;
    this.#put(await this.services.messages.deleteMessage({ conversationId, sequence, actorId: this.me }));
  }

  /** Returns the direct conversation with another user, always the same one. */
  async direct(userId: string): Promise<string> {
    return this.#create({ kind: ConversationKind.DIRECT, memberIds: [userId] });
  }

  async group(title: string, memberIds: string[]): Promise<string> {
    return this.#create({ kind: ConversationKind.GROUP, title, memberIds });
  }

  /** Joins a channel, which is created if missing. */
  async channel(conversationId: string, title: string): Promise<string> {
    if (this.#conversations.has(conversationId)) return conversationId;
    try {
      return await this.#create({ kind: ConversationKind.CHANNEL, conversationId, title });
    } catch (error) {
      if (failureOf(error).reason !== "CONVERSATION_ID_TAKEN") throw error;
      const join = { conversationId, actorId: this.me, userIds: [this.me] };
      await this.services.conversations.addMembers(join).catch((other: unknown) => {
        throw failureOf(other).reason === "CONVERSATION_NOT_FOUND" ? error : other;
      });
      await this.#refresh();
      return conversationId;
    }
  }

  async leave(conversation: Conversation): Promise<void> {
    const { id: conversationId } = conversation;
    await this.services.conversations.removeMember({ conversationId, actorId: this.me, userId: this.me });
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  get #isFollower(): boolean {
    return this.options.tabs?.leads === false;
  }

  #set(connection: ConnectionState): void {
    this.connection = connection;
    this.options.changed();
  }

  #disconnected(): void {
    this.#set({ state: this.connection.state === "connecting" ? "connecting" : "reconnecting" });
  }

  async #retryLater(requestedMs: number): Promise<void> {
    const { tabs } = this.options;
    const retryMs = this.#backoff.next(requestedMs);
    if (tabs?.leads) tabs.post({ kind: "lost", retryMs, attempt: this.#attempts });
    await this.#pause(retryMs);
  }

  #endPauses(): void {
    for (const sleeper of [...this.#sleepers]) sleeper();
  }

  /** Follows the stream of this tab, or what the leading tab passes on, until its end, which is always an error. */
  async #follow(): Promise<never> {
    this.#retryDelayMs = 0;
    const { tabs, silenceMs = SILENCE_MS } = this.options;
    const attempt = new AbortController();
    const giveUp = () => attempt.abort();
    this.#giveUp = giveUp;
    this.#closing.signal.addEventListener("abort", giveUp);
    let silence: ReturnType<typeof setTimeout> | undefined;
    const limit = (ms: number, giveUp: () => void) => () => {
      clearTimeout(silence);
      silence = setTimeout(giveUp, ms);
    };
    try {
      if (tabs === undefined || tabs.leads) return await this.#stream(attempt.signal, limit(silenceMs, giveUp));
      return await this.#listen(tabs, attempt.signal, limit(LEADER_PATIENCE * silenceMs, () => tabs.takeOver()));
    } finally {
      clearTimeout(silence);
      this.#closing.signal.removeEventListener("abort", giveUp);
      giveUp();
    }
  }

  /** Follows one stream from the service. */
  async #stream(signal: AbortSignal, heard: () => void): Promise<never> {
    const { tabs } = this.options;
    await tabs?.connection(signal, () => this.#crowded());
    tabs?.post({ kind: "began" });
    await this.#refresh();
    // The limit on silence applies from the request on, also to a service that does not answer at all.
    heard();
    const request = { actorId: this.me, cursors: this.#cursors(), start: SubscribeStart.READ_MARK, epoch: this.#epoch };
    // Zero means no timeout.
    for await (const item of this.services.messages.subscribe(request, { signal, timeoutMs: 0 })) {
      heard();
      if (tabs !== undefined) pass(tabs, item);
      this.#take(item);
    }
    throw new ConnectError("the stream has ended", Code.Unavailable);
  }

  /**
   * Returns the positions to resume from. If they are too many, those of conversations that are read to their end are left
   * out: the stream starts after the read mark there. If that was moved since the listing, an entry is missing, and the next
   * stream starts with the position.
   */
  #cursors(): { conversationId: string; afterSequence: bigint }[] {
    let known = [...this.#conversations.values()].filter((conversation) => conversation.position !== undefined);
    if (known.length > MAX_CURSORS) {
      known = known.filter(({ isRead }) => !isRead).sort((a, b) => Number(b.isBehind) - Number(a.isBehind));
    }
    const named = known.slice(0, MAX_CURSORS);
    return named.map(({ id, position }) => ({ conversationId: id, afterSequence: BigInt(position ?? 0) }));
  }

  /** Follows what the leading tab passes on. What it passed on before the listing is in the listing. */
  async #listen(tabs: Tabs, signal: AbortSignal, heard: () => void): Promise<never> {
    heard();
    await this.#refresh();
    tabs.post({ kind: "hello" });
    try {
      for (;;) {
        const note = await tabs.next(signal);
        heard();
        await this.#takeNote(tabs, note);
      }
    } catch (error) {
      if (failureOf(error).code === Code.DataLoss) tabs.takeOver();
      throw error;
    }
  }

  async #takeNote(tabs: Tabs, note: Note): Promise<void> {
    switch (note.kind) {
      case "item":
        this.#take(fromBinary(SubscribeResponseSchema, note.bytes));
        break;
      case "began":
        this.#disconnected();
        await this.#refresh();
        break;
      case "lost":
        this.#disconnected();
        // In case it comes from a tab that leads no longer.
        tabs.post({ kind: "hello" });
        // The timers of the leader are late if it is hidden.
        setTimeout(() => {
          if (this.connection.state !== "live") tabs.post({ kind: "wake", attempt: note.attempt });
        }, note.retryMs + LATE_MS);
        break;
      case "crowded":
        this.#set({ state: "crowded" });
        break;
      default:
        break;
    }
  }

  /** Notifies another tab of the state of the stream. */
  #greet(tabs: Tabs): void {
    if (this.connection.state === "crowded") tabs.post({ kind: "crowded" });
    if (this.connection.state !== "live") return;
    pass(tabs, create(SubscribeResponseSchema, { item: { case: "heartbeat", value: { epoch: this.#epoch } } }));
    pass(tabs, create(SubscribeResponseSchema, { item: { case: "caughtUp", value: {} } }));
  }

  #crowded(): void {
    this.#set({ state: "crowded" });
    this.options.tabs?.post({ kind: "crowded" });
  }

  /** Handles one item. An error means that the stream cannot be trusted. */
  #take({ item }: SubscribeResponse): void {
    switch (item.case) {
      case "event":
        this.#event(item.value);
        break;
      case "caughtUp": {
        const { conversationId, sequence } = item.value;
        if (conversationId === "") {
          this.#backoff.reset();
          this.#set({ state: "live" });
          this.#endPauses();
        } else if (!this.#known(conversationId).caughtUp(Number(sequence))) {
          throw gap(conversationId);
        }
        break;
      }
      case "draining":
        this.#retryDelayMs = item.value.retryDelay === undefined ? 0 : durationMs(item.value.retryDelay);
        break;
      case "closed":
        this.#closed(item.value);
        break;
      case "truncated":
        this.#known(item.value.conversationId).truncated(Number(item.value.oldestSequence));
        this.options.changed();
        break;
      case "heartbeat":
        // The cursors that do not belong to this epoch were closed before: those of the tab with the stream.
        if (this.#isFollower && this.#epoch !== "" && this.#epoch !== item.value.epoch) throw otherEpoch();
        this.#epoch = item.value.epoch;
        break;
      default:
        // A kind newer than this client.
        break;
    }
  }

  #event(event: Event): void {
    const conversation = this.#known(event.conversationId);
    if (event.sequence === 0n) {
      this.#live(conversation, event);
    } else {
      const verdict = conversation.take(event);
      if (verdict === "gap") throw gap(conversation.id);
      if (verdict === "duplicate") return;
    }
    this.options.changed();
  }

  /** Handles an ephemeral. */
  #live(conversation: Conversation, { kind }: Event): void {
    if (kind.case === "typing" && kind.value.userId !== this.me) {
      conversation.typing.set(kind.value.userId, Date.now() + TYPING_MS);
      setTimeout(this.options.changed, TYPING_MS + 50);
    }
    if (kind.case === "readMarker") {
      const sequence = Number(kind.value.lastReadSequence);
      if (kind.value.userId === this.me) this.#read(conversation, sequence);
      else conversation.readBy(kind.value.userId, sequence);
    }
  }

  #closed({ conversationId, status }: Closed): void {
    const conversation = this.#conversations.get(conversationId);
    if (conversation === undefined) return;
    const failure = failureOf(errorOf(status));
    if (failure.reason === "SEQUENCE_AHEAD") {
      // The database was restored to an earlier state, so the lines here are not those of the log.
      conversation.restart(undefined);
      throw errorOf(status);
    }
    this.#conversations.delete(conversationId);
    this.options.left?.(conversation, failure);
    this.options.changed();
  }

  /** Returns the conversation. An unknown one was joined just now, and its details must be fetched. */
  #known(id: string): Conversation {
    let conversation = this.#conversations.get(id);
    if (conversation === undefined) {
      conversation = new Conversation(id, this.me);
      this.#conversations.set(id, conversation);
      this.#refresh().catch(() => undefined);
    }
    return conversation;
  }

  #read(conversation: Conversation, sequence: number): void {
    if (!conversation.read(sequence)) this.#refresh().catch(() => undefined);
  }

  /** Lists all conversations. Calls during a listing share the next one. */
  #refresh(): Promise<void> {
    const before = this.#refreshing?.catch(() => undefined);
    const listing = (before ?? Promise.resolve()).then(() => this.#list());
    const refreshing = listing.finally(() => {
      if (this.#refreshing === refreshing) this.#refreshing = undefined;
    });
    this.#refreshing = refreshing;
    return refreshing;
  }

  async #list(): Promise<void> {
    const { signal } = this.#closing;
    let pageToken = "";
    do {
      const request = { actorId: this.me, pageSize: 200, pageToken };
      const page = await this.services.conversations.listConversations(request, { signal });
      for (const item of page.items) {
        const id = item.conversation?.conversationId ?? "";
        const conversation = this.#conversations.get(id) ?? new Conversation(id, this.me);
        this.#conversations.set(id, conversation);
        conversation.list(item);
        if (conversation.kind === ConversationKind.DIRECT && conversation.peerId === undefined) {
          this.#members(conversation).catch(() => undefined);
        }
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    this.options.changed();
  }

  async #members(conversation: Conversation): Promise<void> {
    if (conversation.memberIds !== undefined) return;
    const request = { conversationId: conversation.id, actorId: this.me, pageSize: MAX_MEMBERS };
    const page = await this.services.conversations.listMembers(request);
    const members: Member[] = page.members;
    conversation.listMembers(members, page.nextPageToken !== "");
    this.options.changed();
  }

  async #create(request: {
    kind: ConversationKind;
    conversationId?: string;
    title?: string;
    memberIds?: string[];
  }): Promise<string> {
    const conversations = this.services.conversations;
    const made = await conversations.createConversation({ ...request, creatorId: this.me, requestId: requestId() });
    await this.#refresh();
    return made.conversationId;
  }

  /** Sends the waiting drafts one after the other, each until it is answered. */
  async #sendAll(conversation: Conversation): Promise<void> {
    if (this.#sending.has(conversation.id)) return;
    this.#sending.add(conversation.id);
    const backoff = new Backoff(this.options.random);
    let draft: Draft | undefined;
    while (!this.#isClosed && (draft = conversation.drafts.find((waiting) => waiting.refused === undefined))) {
      const { requestId, text } = draft;
      const request = { conversationId: conversation.id, senderId: this.me, requestId, text };
      try {
        const { message } = await this.services.messages.sendMessage(request, { signal: this.#closing.signal });
        backoff.reset();
        if (message !== undefined) this.#put(message);
        this.discard(conversation, draft);
      } catch (error) {
        const failure = failureOf(error);
        if (failure.mayRetry) {
          await this.#pause(backoff.next(failure.retryDelayMs));
        } else {
          draft.refused = failure.words;
          this.options.changed();
        }
      }
    }
    this.#sending.delete(conversation.id);
  }

  #put(message: Message): void {
    this.#conversations.get(message.conversationId)?.put(message);
    this.options.changed();
  }

  /** Pauses for this time, or until `wake`. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#sleepers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#sleepers.add(done);
    });
  }
}

function pass(tabs: Tabs, item: SubscribeResponse): void {
  tabs.post({ kind: "item", bytes: toBinary(SubscribeResponseSchema, item) });
}

function otherEpoch(): ConnectError {
  return new ConnectError("the log was set back, and the service has not checked the positions of this tab", Code.DataLoss);
}

function gap(conversationId: string): ConnectError {
  return new ConnectError(`an entry of ${conversationId} is missing`, Code.DataLoss);
}
