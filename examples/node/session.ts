// The inbox of a user, which survives lost connections, and sends that are stored once.

import { setTimeout as sleep } from "node:timers/promises";
import { type ClientReadableStream, type ClientUnaryCall, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ErrorInfo, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";
import {
  type MessageServiceClient,
  type SendMessageRequest,
  type SendMessageResponse,
  SubscribeRequest,
  type SubscribeResponse,
  SubscribeStart,
} from "./gen/parlance/message/v1/message_service.js";

// All times are in milliseconds.
export const FIRST_PAUSE = 100;
export const LAST_PAUSE = 5_000;
// A send is answered within a few seconds, unless the server is unreachable.
const SEND_TIMEOUT = 10_000;
/** The most cursors of one request. Other conversations are read from the beginning again; entries that are known are ignored. */
const MAX_CURSORS = 10_000;
// The server sends a heartbeat after 30 s of silence at most.
const SILENCE = 45_000;

/** An item of an inbox. */
export type Item = Extract<
  NonNullable<SubscribeResponse["item"]>,
  { $case: "event" | "caughtUp" | "closed" | "truncated" }
>;

/** An entry between the last one and this one is missing. */
class Hole extends Error {}

/** The server was silent for longer than it ever is. */
class Silence extends Error {}

/** A unary call as a promise. */
export function call<Response>(
  begin: (callback: (error: ServiceError | null, response: Response) => void) => ClientUnaryCall,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    begin((error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** Returns the reason of an error (parlance.error.v1.ErrorReason); empty if the error does not come from the services. */
export function reason(error: ServiceError): string {
  return detail(error, "google.rpc.ErrorInfo", ErrorInfo.decode)?.reason ?? "";
}

/** Returns the retry delay that the server requested, or 0. */
function retryDelay(error: ServiceError): number {
  return milliseconds(detail(error, "google.rpc.RetryInfo", RetryInfo.decode)?.retryDelay);
}

/** Returns one of the details of an error from the services. */
function detail<T>(error: ServiceError, name: string, decode: (bytes: Uint8Array) => T): T | undefined {
  for (const value of error.metadata.get("grpc-status-details-bin")) {
    if (typeof value === "string") continue;
    const found = Status.decode(value).details.find((packed) => packed.typeUrl.endsWith(`/${name}`));
    if (found) return decode(found.value);
  }
  return undefined;
}

function milliseconds(duration: { seconds: bigint; nanos: number } | undefined): number {
  return duration ? Number(duration.seconds) * 1_000 + duration.nanos / 1e6 : 0;
}

/** Returns a pause that grows and is jittered, so that clients do not all reconnect at once. */
function pauseAfter(failures: number): number {
  return Math.min(FIRST_PAUSE * 2 ** Math.min(failures, 10), LAST_PAUSE) * (0.5 + Math.random() / 2);
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error && error.metadata instanceof Metadata;
}

/** Returns true if a retry may succeed and, with a request id, is harmless. */
function mayTryAgain(error: ServiceError): boolean {
  if ([status.UNAVAILABLE, status.ABORTED, status.DEADLINE_EXCEEDED].includes(error.code)) return true;
  // Every error from the services has a reason: one without comes from the connection.
  return ["", "OVERLOADED"].includes(reason(error));
}

/** Stores a message, even if services restart meanwhile: with the same request id retries are harmless. */
export async function send(client: MessageServiceClient, message: SendMessageRequest): Promise<SendMessageResponse> {
  if (!message.requestId) throw new Error("without a request id a second try could store a second message");
  for (let failures = 0; ; failures++) {
    try {
      const deadline = Date.now() + SEND_TIMEOUT;
      return await call((answer) => client.sendMessage(message, new Metadata(), { deadline }, answer));
    } catch (error) {
      if (!isServiceError(error) || !mayTryAgain(error)) throw error;
      await sleep(retryDelay(error) || pauseAfter(failures));
    }
  }
}

/**
 * All events of a user, as `for await (const item of inbox.items())`: entries of each conversation in order, without gaps
 * and duplicates.
 */
export class Inbox {
  /**
   * The last sequence of each conversation that the reader has processed. A program that stores them can also resume after
   * its own restart.
   */
  readonly cursors: Map<string, bigint>;
  /** The number of connections so far. */
  connections = 0;
  readonly #client: MessageServiceClient;
  readonly #actorId: string;
  /** The epoch of the log that the cursors are in: with it, the server notices if entries up to them were lost. */
  #epoch = "";

  constructor(client: MessageServiceClient, actorId: string, cursors: Iterable<[string, bigint]> = []) {
    this.#client = client;
    this.#actorId = actorId;
    this.cursors = new Map(cursors);
  }

  /** Throws if a retry would not help, for example because the user may not act. */
  async *items(): AsyncGenerator<Item, never, undefined> {
    for (let failures = 0; ; failures++) {
      let pause = 0;
      let why = "the server has ended it";
      const stream = this.#client.subscribe(this.#request());
      // Errors are thrown below; a later one must not end the process.
      stream.on("error", () => {});
      try {
        let wasHeard = false;
        for await (const { item } of heard(stream)) {
          if (!wasHeard) {
            wasHeard = true;
            failures = 0;
            this.connections++;
          }
          if (item?.$case === "draining") {
            // The server is about to end the stream, and requests a delay before the reconnect.
            pause = milliseconds(item.value.retryDelay);
          } else if (item?.$case === "heartbeat") {
            this.#epoch = item.value.epoch;
          } else if (this.#isNew(item)) {
            yield item;
            // Only now: a reader that requests the next item has processed this one.
            this.#advance(item);
          }
        }
      } catch (error) {
        if (isServiceError(error) && mayTryAgain(error)) {
          pause ||= retryDelay(error);
          why = error.message;
        } else if (error instanceof Hole || error instanceof Silence) {
          // Whatever caused the gap, reading again from the cursor fixes it.
          why = error.message;
        } else {
          throw error;
        }
      } finally {
        stream.cancel();
      }
      pause ||= pauseAfter(failures);
      console.error(`the inbox of ${this.#actorId} is tried again in ${pause.toFixed()} ms: ${why}`);
      await sleep(pause);
    }
  }

  #request(): SubscribeRequest {
    return SubscribeRequest.create({
      actorId: this.#actorId,
      cursors: [...this.cursors].slice(0, MAX_CURSORS).map(([conversationId, afterSequence]) => ({ conversationId, afterSequence })),
      start: SubscribeStart.SUBSCRIBE_START_BEGINNING,
      epoch: this.#epoch,
    });
  }

  #isNew(item: SubscribeResponse["item"]): item is Item {
    switch (item?.$case) {
      case "event": {
        const { conversationId, sequence } = item.value;
        // An ephemeral is in no log. An unknown conversation begins at its first entry received.
        const last = this.cursors.get(conversationId);
        if (sequence === 0n || last === undefined) return true;
        if (sequence > last + 1n) throw new Hole(`after entry ${last} of ${conversationId} comes ${sequence}`);
        return sequence > last;
      }
      case "caughtUp": {
        const last = this.cursors.get(item.value.conversationId);
        if (last !== undefined && last < item.value.sequence) {
          throw new Hole(`caught up at ${item.value.sequence}, without what comes after ${last}`);
        }
        return true;
      }
      case "closed":
      case "truncated":
        return true;
      default:
        // A kind newer than this program.
        return false;
    }
  }

  #advance(item: Item): void {
    const { conversationId } = item.value;
    const last = this.cursors.get(conversationId) ?? 0n;
    switch (item.$case) {
      case "event":
        if (item.value.sequence > 0n) this.cursors.set(conversationId, item.value.sequence);
        break;
      case "caughtUp":
        // Without a conversation it is the mark for all of them.
        if (conversationId && last === 0n) this.cursors.set(conversationId, item.value.sequence);
        break;
      case "truncated":
        // Entries removed by retention are announced, and are not a gap.
        if (last < item.value.oldestSequence - 1n) this.cursors.set(conversationId, item.value.oldestSequence - 1n);
        break;
      case "closed":
        this.cursors.delete(conversationId);
    }
  }
}

/**
 * The items of a stream. Each is read when the previous one was taken: a slow reader falls back to the log and loses
 * nothing.
 */
async function* heard(stream: ClientReadableStream<SubscribeResponse>): AsyncGenerator<SubscribeResponse, void> {
  const items: AsyncIterator<SubscribeResponse> = stream[Symbol.asyncIterator]();
  for (;;) {
    const alarm = setTimeout(() => stream.destroy(new Silence("the server was silent for too long")), SILENCE);
    try {
      const { done, value } = await items.next();
      if (done) return;
      clearTimeout(alarm);
      yield value;
    } finally {
      clearTimeout(alarm);
    }
  }
}
