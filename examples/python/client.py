#!/usr/bin/env python3
"""A client of Parlance in Python: users and messages by unary calls, and an inbox (Subscribe) that survives restarts of the
services. See ../README.md."""

import argparse
import asyncio
import logging
import os

import grpc

from parlance.message.v1 import (
    conversation_pb2,
    conversation_service_pb2 as conversations_pb2,
    event_pb2,
    message_service_pb2 as messages_pb2,
)
from parlance.message.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parlance.message.v1.message_service_pb2_grpc import MessageServiceStub
from parlance.user.v1 import user_service_pb2 as users_pb2
from parlance.user.v1.user_service_pb2_grpc import UserServiceStub
from session import FIRST_PAUSE, LAST_PAUSE, Inbox, reason, send

log = logging.getLogger(__name__)


class Talk:
    """A conversation of ann and ben."""

    def __init__(self, to_users: grpc.aio.Channel, to_messages: grpc.aio.Channel, prefix: str):
        self.users = UserServiceStub(to_users)
        self.conversations = ConversationServiceStub(to_messages)
        self.messages = MessageServiceStub(to_messages)
        self.prefix = prefix
        self.ann, self.ben, self.eve, self.room = (prefix + name for name in ("ann", "ben", "eve", "room"))
        self.inbox = Inbox(self.messages, self.ben)
        self.items = self.inbox.items()
        # The messages sent, in order.
        self.texts: list[str] = []

    async def begin(self) -> None:
        """Creates two users and their conversation. With request ids it is idempotent."""
        for user_id in (self.ann, self.ben):
            await self.users.CreateUser(
                users_pb2.CreateUserRequest(user_id=user_id, username=user_id, request_id=user_id)
            )
        user = await self.users.GetUser(users_pb2.GetUserRequest(user_id=self.ann))
        say(f"{self.short(user.user_id)} is called {self.short(user.username)}")
        await self.conversations.CreateConversation(
            conversations_pb2.CreateConversationRequest(
                conversation_id=self.room,
                kind=conversation_pb2.CONVERSATION_KIND_GROUP,
                creator_id=self.ann,
                member_ids=[self.ben],
                request_id=self.room,
            )
        )

    async def send_unary(self) -> None:
        """Sends by unary calls: refused, accepted and repeated."""
        let_me_in = messages_pb2.SendMessageRequest(conversation_id=self.room, sender_id=self.eve, text="Let me in!")
        try:
            await self.messages.SendMessage(let_me_in)
        except grpc.aio.AioRpcError as error:
            say(f"eve is refused: {reason(error)}")

        stored = await self.send(self.ann, "Hello!")
        expect(not stored.duplicate, "this was run before: give another --prefix")
        say(f"ann sent {stored.message.sequence}")
        again = messages_pb2.SendMessageRequest(
            conversation_id=self.room, sender_id=self.ann, text="Hello!", request_id=stored.message.request_id
        )
        stored = await send(self.messages, again)
        expect(stored.duplicate, "the same message was stored again")
        say(f"ann sent {stored.message.sequence} again: a duplicate")

    async def read_and_send(self) -> None:
        """Reads the log from its beginning, sends, and marks messages as read."""
        await self.show(3)
        async for item in self.items:
            if item.caught_up.conversation_id == self.room:
                say(f"ben is caught up at {item.caught_up.sequence}")
                break

        await self.messages.SendTyping(messages_pb2.SendTypingRequest(conversation_id=self.room, actor_id=self.ben))
        say("ben is typing")
        for text in ("one", "two", "three"):
            # One after the other: concurrent calls are stored in any order.
            stored = await self.send(self.ben, text)
            say(f"ben sent {stored.message.sequence}")
        await self.show(3)

        mark = conversations_pb2.MarkReadRequest(conversation_id=self.room, actor_id=self.ben, sequence=6)
        say(f"ben has read up to {(await self.conversations.MarkRead(mark)).last_read_sequence}")
        request = conversations_pb2.ListConversationsRequest(actor_id=self.ann)
        inbox = await self.conversations.ListConversations(request)
        say(f"ann has {inbox.items[0].membership.unread_count} unread")

    async def through_restart(self, number: int) -> None:
        """Sends messages and reads them back, until the inbox was connected once more."""
        say("restart the services: ben keeps sending")
        before, count, repeated = self.inbox.connections, 0, 0
        while self.inbox.connections == before:
            count += 1
            text = f"{count} of round {number}"
            stored = await self.send(self.ben, text)
            event = await self.next_entry()
            expect(
                (event.sequence, event.message_sent.text) == (stored.message.sequence, text),
                f"{text!r} was stored as {stored.message.sequence}, and then came {event}",
            )
            repeated += stored.duplicate
            await asyncio.sleep(0.005)
        log.info("round %d: %d messages, of which %d had been stored by a try without an answer", number, count, repeated)
        say("restarted: all of it is stored once and came once, in order")

    async def check_log(self) -> None:
        """Compares the stored log with the messages sent."""
        texts, after, last = [], 0, None
        while after != last:
            page = await self.messages.ListEvents(
                messages_pb2.ListEventsRequest(
                    conversation_id=self.room, actor_id=self.ann, after_sequence=after, page_size=1000
                )
            )
            for event in page.events:
                after += 1
                expect(event.sequence == after, f"entry {after} is missing")
                if event.HasField("message_sent"):
                    texts.append(event.message_sent.text)
            last = page.last_sequence
        expect(texts == self.texts, f"{len(self.texts)} messages were sent, and the log has {len(texts)}, or others")
        say("the log has it all, without a hole")

    async def send(self, sender_id: str, text: str) -> messages_pb2.SendMessageResponse:
        """Uses one request id for all attempts; an application should generate a UUID with the message."""
        self.texts.append(text)
        message = messages_pb2.SendMessageRequest(
            conversation_id=self.room, sender_id=sender_id, text=text, request_id=text.replace(" ", "-")
        )
        return await send(self.messages, message)

    async def show(self, count: int) -> None:
        for _ in range(count):
            event = await self.next_entry()
            say(f"ben has {event.sequence}: {self.describe(event)}")

    async def next_entry(self) -> event_pb2.Event:
        """Skips ephemerals, which may be lost, and marks."""
        while True:
            item = await anext(self.items)
            if item.event.sequence > 0:
                return item.event

    def describe(self, event: event_pb2.Event) -> str:
        """Formats an entry for a person."""
        match event.WhichOneof("kind"):
            case "message_sent":
                return f"{self.short(event.message_sent.sender_id)}: {event.message_sent.text}"
            case "member_joined":
                return f"{self.short(event.member_joined.user_id)} joined"
            case "member_left":
                return f"{self.short(event.member_left.user_id)} left"
            case _:
                return "an event that this program does not print"

    def short(self, user_id: str) -> str:
        """Returns an id without the prefix."""
        return user_id.removeprefix(self.prefix)


def say(text: str) -> None:
    print(text, flush=True)


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(otherwise)


def connect(address: str) -> grpc.aio.Channel:
    # Not encrypted: for services on the same machine. Without the options, gRPC reconnects only after up to two minutes.
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.initial_reconnect_backoff_ms", int(FIRST_PAUSE * 1000)),
            ("grpc.min_reconnect_backoff_ms", int(FIRST_PAUSE * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(LAST_PAUSE * 1000)),
        ],
    )


async def run(arguments: argparse.Namespace) -> None:
    async with connect(arguments.user_service) as to_users, connect(arguments.message_service) as to_messages:
        talk = Talk(to_users, to_messages, arguments.prefix)
        await talk.begin()
        await talk.send_unary()
        await talk.read_and_send()
        for number in range(1, arguments.restarts + 1):
            await talk.through_restart(number)
        await talk.items.aclose()
        await talk.check_log()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for service, port in (("user", 50051), ("message", 50052)):
        default = os.environ.get(f"{service.upper()}_SERVICE", f"127.0.0.1:{port}")
        parser.add_argument(f"--{service}-service", default=default, metavar="ADDRESS", help=f"where {service}-service is")
    parser.add_argument("--prefix", default="python-", help="prefix of all ids; a second run needs another one")
    parser.add_argument("--restarts", type=int, default=0, help="number of restarts of the services to wait for")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Limits the time of the whole program.
    asyncio.run(asyncio.wait_for(run(parse_arguments()), timeout=300))
