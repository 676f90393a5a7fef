// What a user of Parlance reads, kept up over lost connections, and sends that are stored once.

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
// A send is answered within a few seconds, or the server is out of reach.
const SEND_TIMEOUT = 10_000;
// The server breaks every silence after 30 s at most.
const SILENCE = 45_000;

/** What an inbox tells. */
export type Item = Extract<
  NonNullable<SubscribeResponse["item"]>,
  { $case: "event" | "caughtUp" | "closed" | "truncated" }
>;

/** Something between what came before and what came now is missing. */
class Hole extends Error {}

/** The server was not heard for longer than it is ever silent. */
class Silence extends Error {}

/** A unary call as a promise. */
export function call<Response>(
  begin: (callback: (error: ServiceError | null, response: Response) => void) => ClientUnaryCall,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    begin((error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** An error's word for programs, of parlance.error.v1.ErrorReason; empty when the error is none of the services'. */
export function reason(error: ServiceError): string {
  return detail(error, "google.rpc.ErrorInfo", ErrorInfo.decode)?.reason ?? "";
}

/** How long the server asked to wait, or 0. */
function retryDelay(error: ServiceError): number {
  return milliseconds(detail(error, "google.rpc.RetryInfo", RetryInfo.decode)?.retryDelay);
}

/** One of the details that an error of the services carries. */
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

/** Grows and is never the same, so that not all clients come back at one moment. */
function pauseAfter(failures: number): number {
  return Math.min(FIRST_PAUSE * 2 ** Math.min(failures, 10), LAST_PAUSE) * (0.5 + Math.random() / 2);
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error && error.metadata instanceof Metadata;
}

/** True when the same thing may work later, and, with a request id, is harmless to ask for again. */
function mayTryAgain(error: ServiceError): boolean {
  if ([status.UNAVAILABLE, status.ABORTED, status.DEADLINE_EXCEEDED].includes(error.code)) return true;
  // Every error of the services has a reason: one without was made by the connection.
  return ["", "OVERLOADED"].includes(reason(error));
}

/** Stores a message, whatever is restarted meanwhile: with the same request id no try after the first can do harm. */
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
 * Everything that concerns a user, as `for await (const item of inbox.items())`: entries of each conversation in order,
 * without a hole or a double.
 */
export class Inbox {
  /**
   * The last sequence of each conversation that the reader has finished with. Who stores them can go on after its own
   * restart, too.
   */
  readonly cursors: Map<string, bigint>;
  /** How often it was connected. */
  connections = 0;
  readonly #client: MessageServiceClient;
  readonly #actorId: string;

  constructor(client: MessageServiceClient, actorId: string, cursors: Iterable<[string, bigint]> = []) {
    this.#client = client;
    this.#actorId = actorId;
    this.cursors = new Map(cursors);
  }

  /** Throws when trying again would not help, such as for a user who may not act. */
  async *items(): AsyncGenerator<Item, never, undefined> {
    for (let failures = 0; ; failures++) {
      let pause = 0;
      let why = "the server has ended it";
      const stream = this.#client.subscribe(this.#request());
      // What goes wrong is thrown below; when it comes after that, it must not end the process.
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
            // The server ends the stream in a moment, and says when to come back.
            pause = milliseconds(item.value.retryDelay);
          } else if (this.#isNew(item)) {
            yield item;
            // Only now: who asks for the next one has finished with this one.
            this.#advance(item);
          }
        }
      } catch (error) {
        if (isServiceError(error) && mayTryAgain(error)) {
          pause ||= retryDelay(error);
          why = error.message;
        } else if (error instanceof Hole || error instanceof Silence) {
          // Whatever a hole comes from, reading again from the cursor mends it.
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
      cursors: [...this.cursors].map(([conversationId, afterSequence]) => ({ conversationId, afterSequence })),
      start: SubscribeStart.SUBSCRIBE_START_BEGINNING,
    });
  }

  #isNew(item: SubscribeResponse["item"]): item is Item {
    switch (item?.$case) {
      case "event": {
        const { conversationId, sequence } = item.value;
        // What is live only is in no log. A conversation that is not known yet begins wherever the server begins.
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
        // A heartbeat, or something that was added to the contract after this program was made.
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
        // Without a conversation it is the mark of all of them.
        if (conversationId && last === 0n) this.cursors.set(conversationId, item.value.sequence);
        break;
      case "truncated":
        // What retention has removed never comes: it is announced, and no hole.
        if (last < item.value.oldestSequence - 1n) this.cursors.set(conversationId, item.value.oldestSequence - 1n);
        break;
      case "closed":
        this.cursors.delete(conversationId);
    }
  }
}

/**
 * The items of a stream. One is read when the one before was taken: a slow reader falls back to the log and loses nothing.
 */
async function* heard(stream: ClientReadableStream<SubscribeResponse>): AsyncGenerator<SubscribeResponse, void> {
  const items: AsyncIterator<SubscribeResponse> = stream[Symbol.asyncIterator]();
  for (;;) {
    const alarm = setTimeout(() => stream.destroy(new Silence("nothing was heard for too long")), SILENCE);
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
