// The clients of both services, over gRPC-Web: what a browser can speak.

import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ConversationService } from "../gen/parlance/message/v1/conversation_service_pb";
import { MessageService } from "../gen/parlance/message/v1/message_service_pb";
import { UserService } from "../gen/parlance/user/v1/user_service_pb";

/** For each call that is no stream. */
const CALL_LIMIT_MS = 15_000;

/** Where the services are, such as `http://127.0.0.1:50051`; what `/config.json` says. */
export interface Addresses {
  userService: string;
  messageService: string;
}

export interface Services {
  users: Client<typeof UserService>;
  conversations: Client<typeof ConversationService>;
  messages: Client<typeof MessageService>;
}

export function connect(addresses: Addresses): Services {
  const transport = (baseUrl: string) => createGrpcWebTransport({ baseUrl, defaultTimeoutMs: CALL_LIMIT_MS });
  const messages = transport(addresses.messageService);
  return {
    users: createClient(UserService, transport(addresses.userService)),
    conversations: createClient(ConversationService, messages),
    messages: createClient(MessageService, messages),
  };
}

/** A new `request_id`. `randomUUID` would do, but is missing on a page that came over plain HTTP from another machine. */
export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
