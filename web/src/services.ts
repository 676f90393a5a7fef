// The clients of both services, over gRPC-Web.

import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ConversationService } from "../gen/parlance/message/v1/conversation_service_pb";
import { MessageService } from "../gen/parlance/message/v1/message_service_pb";
import { UserService } from "../gen/parlance/user/v1/user_service_pb";

/** The time limit of a unary call. */
const CALL_TIMEOUT_MS = 15_000;

/** The addresses of the services, such as `http://127.0.0.1:50051`, from `/config.json`. */
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
  const transport = (baseUrl: string) => createGrpcWebTransport({ baseUrl, defaultTimeoutMs: CALL_TIMEOUT_MS });
  const messages = transport(addresses.messageService);
  return {
    users: createClient(UserService, transport(addresses.userService)),
    conversations: createClient(ConversationService, messages),
    messages: createClient(MessageService, messages),
  };
}

/** Generates a `request_id`. `randomUUID` is not available on a page loaded over plain HTTP from another machine. */
export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
