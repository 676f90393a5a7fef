// A session of one user: the protocol, without a page. What browsers have is `Subscribe`, one stream from the service for
// all conversations, and a call for each thing to do.
//
// - Each conversation is told in order, without a gap and without a double, proved by its sequences. A stream that leaves
//   out something, or says nothing for too long, is given up, and the next begins at the cursors.
// - A message keeps its `request_id` over all tries, so it is stored once; those of one conversation keep their order.

import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { ConversationKind, type Member } from "../gen/parlance/message/v1/conversation_pb";
import type { Closed, Event } from "../gen/parlance/message/v1/event_pb";
import type { Message } from "../gen/parlance/message/v1/message_pb";
import { SubscribeStart, type SubscribeResponse } from "../gen/parlance/message/v1/message_service_pb";
import { Backoff } from "./backoff";
import { Conversation, TYPING_MS, type Draft } from "./conversation";
import { errorOf, failureOf, type Failure } from "./failure";
import { requestId, type Services } from "./services";

/** The service is never silent for so long. */
const SILENCE_MS = 45_000;
/** Typing is told at most so often: what comes within two seconds the service passes on once. */
const TELL_TYPING_MS = 2_200;
const PAGE = 50;
const MOST_BETWEEN = 1_000;
const MOST_MEMBERS = 1_000;

/** How the session stands with the service. */
export type Link = { is: "connecting" } | { is: "live" } | { is: "reconnecting" } | { is: "ended"; words: string };

export interface Options {
  /** Something that is shown may look different now. */
  changed: () => void;
  /** A conversation is no more, for this user. */
  left?: (conversation: Conversation, failure: Failure) => void;
  silenceMs?: number;
  random?: () => number;
}

export class Session {
  link: Link = { is: "connecting" };
  readonly #conversations = new Map<string, Conversation>();
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  readonly #sleepers = new Set<() => void>();
  /** When typing was told last. */
  readonly #toldTyping = new Map<string, number>();
  /** Conversations with sends, or a read mark, on their way. */
  readonly #sending = new Set<string>();
  readonly #marking = new Set<string>();
  #refreshing: Promise<void> | undefined;
  /** How long a draining service asks to wait. */
  #comeBackMs = 0;

  constructor(
    private readonly services: Services,
    readonly me: string,
    private readonly options: Options,
  ) {
    this.#backoff = new Backoff(options.random);
  }

  /** Newest activity first. */
  get conversations(): Conversation[] {
    const described = [...this.#conversations.values()].filter(({ kind }) => kind !== ConversationKind.UNSPECIFIED);
    return described.sort((a, b) => b.activityMs - a.activityMs || (a.id < b.id ? -1 : 1));
  }

  get(id: string): Conversation | undefined {
    return this.#conversations.get(id);
  }

  /** Connects, and goes on doing so until `close` or until the user may not. Resolves then. */
  async run(): Promise<void> {
    while (!this.#isClosed) {
      const failure = failureOf(await this.#follow().catch((error: unknown) => error));
      if (this.#isClosed) return;
      if (failure.endsSession) {
        this.#set({ is: "ended", words: failure.words });
        return;
      }
      this.#set({ is: this.link.is === "connecting" ? "connecting" : "reconnecting" });
      await this.#pause(this.#backoff.next(Math.max(failure.retryDelayMs, this.#comeBackMs)));
    }
  }

  close(): void {
    this.#closing.abort();
    this.wake();
  }

  /** Whatever waits for its next try has it now: the network is back, somebody looks at the page again. */
  wake(): void {
    for (const sleeper of [...this.#sleepers]) sleeper();
  }

  /** Somebody begins to look at a conversation. */
  async open(conversation: Conversation): Promise<void> {
    await Promise.all([conversation.lines.length < PAGE ? this.older(conversation) : undefined, this.#members(conversation)]);
  }

  /** Reads the page before what is there. */
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
      // Sequences are dense: where messages are fewer than sequences, there are other entries between them.
      const isMore = before - start > page.messages.length;
      const between = isMore
        ? await this.services.messages.listEvents({
            ...names,
            afterSequence: BigInt(start - 1),
            pageSize: Math.min(before - start, MOST_BETWEEN),
          })
        : undefined;
      if (conversation.from === before) conversation.prepend(start, page.messages, between?.events ?? []);
      conversation.oldest = Number(page.oldestSequence);
    } finally {
      conversation.isLoading = false;
      this.options.changed();
    }
  }

  /** Sends a message as soon as it can be. */
  send(conversation: Conversation, text: string): void {
    conversation.drafts = [...conversation.drafts, { requestId: requestId(), text, timeMs: Date.now() }];
    this.options.changed();
    void this.#sendAll(conversation);
  }

  /** Tries a refused message once more, as it is. */
  again(conversation: Conversation, draft: Draft): void {
    delete draft.refused;
    this.options.changed();
    void this.#sendAll(conversation);
  }

  discard(conversation: Conversation, draft: Draft): void {
    conversation.drafts = conversation.drafts.filter((other) => other !== draft);
    this.options.changed();
  }

  /** Says that the user is typing. It may be lost. */
  typing(conversation: Conversation): void {
    const now = Date.now();
    if (now - (this.#toldTyping.get(conversation.id) ?? 0) < TELL_TYPING_MS || this.link.is !== "live") return;
    this.#toldTyping.set(conversation.id, now);
    this.services.messages.sendTyping({ conversationId: conversation.id, actorId: this.me }).catch(() => undefined);
  }

  /** The user has seen everything that was told of this conversation. */
  async seen(conversation: Conversation): Promise<void> {
    const { id, position } = conversation;
    const isRead = position === undefined || (conversation.lastRead >= position && conversation.unread === 0);
    if (isRead || this.#marking.has(id) || this.link.is !== "live") return;
    this.#marking.add(id);
    try {
      const mark = { conversationId: id, actorId: this.me, sequence: BigInt(position) };
      const member = await this.services.conversations.markRead(mark);
      this.#read(conversation, Number(member.lastReadSequence));
      this.options.changed();
    } catch {
      // It is said again with whatever comes next.
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

  /** The conversation with one other; the same whenever it is asked for. */
  async direct(userId: string): Promise<string> {
    return this.#create({ kind: ConversationKind.DIRECT, memberIds: [userId] });
  }

  async group(title: string, memberIds: string[]): Promise<string> {
    return this.#create({ kind: ConversationKind.GROUP, title, memberIds });
  }

  /** Comes into a channel, which is made if there is none. */
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

  #set(link: Link): void {
    this.link = link;
    this.options.changed();
  }

  /** One stream, from its beginning to its end, which is always an error. */
  async #follow(): Promise<never> {
    this.#comeBackMs = 0;
    const attempt = new AbortController();
    const giveUp = () => attempt.abort();
    this.#closing.signal.addEventListener("abort", giveUp);
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(giveUp, this.options.silenceMs ?? SILENCE_MS);
    };
    try {
      await this.#refresh();
      // The stream begins to be heard when it is asked for: a service that does not even answer is given up, too.
      heard();
      const known = [...this.#conversations.values()].filter((conversation) => conversation.position !== undefined);
      const cursors = known.map(({ id, position }) => ({ conversationId: id, afterSequence: BigInt(position ?? 0) }));
      const request = { actorId: this.me, cursors, start: SubscribeStart.READ_MARK };
      // A limit of zero is none.
      const items = this.services.messages.subscribe(request, { signal: attempt.signal, timeoutMs: 0 });
      for await (const item of items) {
        heard();
        this.#take(item);
      }
      throw new ConnectError("the stream has ended", Code.Unavailable);
    } finally {
      clearTimeout(silence);
      this.#closing.signal.removeEventListener("abort", giveUp);
      giveUp();
    }
  }

  /** Takes one item; an error is a stream that cannot be trusted. */
  #take({ item }: SubscribeResponse): void {
    switch (item.case) {
      case "event":
        this.#event(item.value);
        break;
      case "caughtUp": {
        const { conversationId, sequence } = item.value;
        if (conversationId === "") {
          this.#backoff.reset();
          this.#set({ is: "live" });
          this.wake();
        } else if (!this.#known(conversationId).caughtUp(Number(sequence))) {
          throw gap(conversationId);
        }
        break;
      }
      case "draining":
        this.#comeBackMs = item.value.retryDelay === undefined ? 0 : durationMs(item.value.retryDelay);
        break;
      case "closed":
        this.#closed(item.value);
        break;
      case "truncated":
        this.#known(item.value.conversationId).truncated(Number(item.value.oldestSequence));
        this.options.changed();
        break;
      default:
        // A sign of life, or a kind that was made after this page.
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
      if (verdict === "repeat") return;
    }
    this.options.changed();
  }

  /** What is live only. */
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
      // The database was restored to an earlier state: what is here is not what is there.
      conversation.restart(undefined);
      throw errorOf(status);
    }
    this.#conversations.delete(conversationId);
    this.options.left?.(conversation, failure);
    this.options.changed();
  }

  /** A conversation that was not heard of before was joined just now; what it is must be asked. */
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

  /** Lists all conversations. Those who ask while an earlier question has not been answered are answered by the next. */
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
    const request = { conversationId: conversation.id, actorId: this.me, pageSize: MOST_MEMBERS };
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

  /** Sends what is waiting, one after the other, each until it is answered. */
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

  /** Waits, or until woken. */
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

function gap(conversationId: string): ConnectError {
  return new ConnectError(`something is missing in ${conversationId}`, Code.DataLoss);
}
