// Interprets failed calls: whether a retry can help, and the text for the user. Decides by code and reason, never by the
// message.

import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb";
import type { Status } from "../gen/google/rpc/status_pb";
import type { ErrorReason } from "../gen/parlance/error/v1/error_reason_pb";

type Reason = keyof typeof ErrorReason;

export interface Failure {
  code: Code;
  /** Empty if the error does not come from the services: a broken connection, or the client's own deadline. */
  reason: Reason | "";
  /** The text for the user. */
  words: string;
  /** The retry delay that the service requests, in milliseconds. */
  retryDelayMs: number;
  /** True if the same call may be retried; a send with the same `request_id`. */
  mayRetry: boolean;
  /** True if the user cannot have a session, so that a retry would fail in the same way. */
  endsSession: boolean;
}

export function failureOf(error: unknown): Failure {
  const status = ConnectError.from(error);
  const info = status.findDetails(ErrorInfoSchema).find((found) => found.domain === "parlance");
  const reason = (info?.reason ?? "") as Reason | "";
  const delay = status.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: status.code,
    reason,
    words: wordsOf(status, reason, info?.metadata ?? {}),
    retryDelayMs: delay === undefined ? 0 : Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000,
    mayRetry: mayRetry(status.code, reason),
    endsSession: endsSession(status.code, reason),
  };
}

/** Converts a status received within a stream to the error that a call would have thrown. */
export function errorOf(status: Status | undefined): ConnectError {
  const error = new ConnectError(status?.message ?? "", status?.code ?? Code.Unknown);
  const details = status?.details ?? [];
  error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value }));
  return error;
}

function mayRetry(code: Code, reason: Reason | ""): boolean {
  switch (code) {
    case Code.Unavailable:
    case Code.Aborted:
    case Code.DeadlineExceeded:
    case Code.Canceled:
      return reason !== "ETAG_MISMATCH";
    case Code.ResourceExhausted:
      return reason === "OVERLOADED";
    default:
      // From a browser that could not reach the service.
      return reason === "";
  }
}

function endsSession(code: Code, reason: Reason | ""): boolean {
  switch (code) {
    case Code.InvalidArgument:
    case Code.Unauthenticated:
    case Code.PermissionDenied:
    case Code.Unimplemented:
      return reason !== "";
    default:
      return reason === "USER_NOT_FOUND" || reason === "USER_DEACTIVATED" || reason === "USER_DELETED";
  }
}

function wordsOf(status: ConnectError, reason: Reason | "", metadata: Record<string, string>): string {
  if (reason === "") {
    return status.code === Code.DeadlineExceeded ? "There was no answer in time." : "The service cannot be reached.";
  }
  if (reason === "INVALID_ARGUMENT") {
    const violations = status.findDetails(BadRequestSchema).flatMap((found) => found.fieldViolations);
    const texts = violations.map(({ field, description }) => `${plain(field)}: ${description}`);
    return texts.length > 0 ? `${texts.join("; ")}.` : sentence(status.rawMessage);
  }
  // A reason is a text from outside, such as `constructor`.
  const known = Object.hasOwn(WORDS, reason) ? WORDS[reason] : undefined;
  return known?.(metadata) ?? sentence(status.rawMessage);
}

/** The texts for the user by reason. For any other reason, the service's own message is shown. */
const WORDS: Partial<Record<Reason, (metadata: Record<string, string>) => string>> = {
  USER_NOT_FOUND: ({ user_ids, username }) => `There is no user ${user_ids ?? username ?? "of that name"}.`,
  USER_DEACTIVATED: ({ user_ids }) => `The account ${user_ids ?? ""} is deactivated.`,
  USER_DELETED: ({ user_ids }) => `The account ${user_ids ?? ""} was deleted.`,
  USERNAME_TAKEN: ({ username }) => `The name ${username ?? ""} is taken.`,
  USER_ID_TAKEN: () => "That name belonged to another user before. Choose another one.",
  CONVERSATION_NOT_FOUND: () => "There is no such conversation, or you are not a member of it.",
  CONVERSATION_ID_TAKEN: () => "That name belongs to a conversation that you are not a member of.",
  NOT_A_MEMBER: () => "You are not a member of this conversation.",
  ROLE_INSUFFICIENT: () => "Only an owner or an admin may do that.",
  LAST_OWNER: () => "You are the last owner: make another member an owner first.",
  MESSAGE_NOT_FOUND: () => "There is no such message.",
  MESSAGE_DELETED: () => "That message was deleted meanwhile.",
  NOT_THE_SENDER: () => "Only its sender may change a message.",
  DATABASE_UNAVAILABLE: () => "The service cannot reach its database just now.",
  USER_SERVICE_UNAVAILABLE: () => "The service cannot look up users just now.",
  DRAINING: () => "The service is restarting.",
  CONVERSATION_BUSY: () => "This conversation is busy just now.",
  OVERLOADED: () => "The service is overloaded just now.",
  REQUEST_TOO_LARGE: () => "That is too large.",
  DEADLINE_EXCEEDED: () => "There was no answer in time.",
  INTERNAL: () => "The service had an internal error. Its log has the details.",
  HOST_NOT_ALLOWED: () => "Open this page as localhost or 127.0.0.1: the services accept no other host name.",
};

function plain(field: string): string {
  return field.replaceAll("_", " ");
}

function sentence(message: string): string {
  const text = message.trim() || "Something went wrong";
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
