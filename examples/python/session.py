"""The inbox of a user, which survives lost connections, and sends that are stored once."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from itertools import islice

import grpc
from google.rpc import error_details_pb2, status_pb2

from parlance.message.v1 import message_service_pb2 as messages_pb2
from parlance.message.v1.message_service_pb2_grpc import MessageServiceStub

FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
# A send is answered within a few seconds, unless the server is unreachable.
SEND_TIMEOUT = 10.0
# The server sends a heartbeat after 30 s of silence at most.
SILENCE = 45.0
# The most cursors of one request. Other conversations are read from the beginning again; entries that are known are ignored.
MAX_CURSORS = 10_000

log = logging.getLogger(__name__)


class Hole(Exception):
    """An entry between the last one and this one is missing."""


def pause_after(failures: int) -> float:
    """Returns a pause that grows and is jittered, so that clients do not all reconnect at once."""
    return min(FIRST_PAUSE * 2 ** min(failures, 10), LAST_PAUSE) * random.uniform(0.5, 1.0)


def detail(error: grpc.aio.AioRpcError, kind):
    """Returns one of the details of an error from the services; empty if it has none."""
    found = kind()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                if packed.Unpack(found):
                    return found
    return found


def reason(error: grpc.aio.AioRpcError) -> str:
    """Returns the reason of an error (parlance.error.v1.ErrorReason); empty if the error does not come from the services."""
    return detail(error, error_details_pb2.ErrorInfo).reason


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    """Returns the retry delay that the server requested in seconds, or 0."""
    return detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds()


def may_try_again(error: grpc.aio.AioRpcError) -> bool:
    """Returns true if a retry may succeed and, with a request id, is harmless."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED):
        return True
    # Every error from the services has a reason: one without comes from the connection.
    return reason(error) in ("", "OVERLOADED")


async def send(stub: MessageServiceStub, message: messages_pb2.SendMessageRequest) -> messages_pb2.SendMessageResponse:
    """Stores a message, even if services restart meanwhile: with the same request id retries are harmless."""
    if not message.request_id:
        raise ValueError("without a request id a second try could store a second message")
    failures = 0
    while True:
        try:
            return await stub.SendMessage(message, timeout=SEND_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if not may_try_again(error):
                raise
            await asyncio.sleep(retry_delay(error) or pause_after(failures))
            failures += 1


class Inbox:
    """All events of a user, as `async for item in inbox.items()`: entries of each conversation in order, without gaps and
    duplicates."""

    def __init__(self, stub: MessageServiceStub, actor_id: str, cursors: dict[str, int] | None = None):
        self._stub = stub
        self._actor_id = actor_id
        # The last sequence of each conversation that the reader has processed. A program that stores them can also resume
        # after its own restart.
        self.cursors = dict(cursors or {})
        # The epoch of the log that the cursors are in: with it, the server notices if entries up to them were lost.
        self.epoch = ""
        # The number of connections so far.
        self.connections = 0

    async def items(self) -> AsyncIterator[messages_pb2.SubscribeResponse]:
        """Yields events, caught_up, closed and truncated. Raises if a retry would not help, for example because the user
        may not act."""
        failures = 0
        while True:
            pause = 0.0
            stream = self._stub.Subscribe(self._request())
            try:
                was_heard = False
                async for item in heard(stream):
                    if not was_heard:
                        was_heard, failures = True, 0
                        self.connections += 1
                    if item.HasField("draining"):
                        # The server is about to end the stream, and requests a delay before the reconnect.
                        pause = item.draining.retry_delay.ToTimedelta().total_seconds()
                    elif item.HasField("heartbeat"):
                        self.epoch = item.heartbeat.epoch
                    elif self._is_new(item):
                        yield item
                        # Only now: a reader that requests the next item has processed this one.
                        self._advance(item)
                why = "the server has ended it"
            except grpc.aio.AioRpcError as error:
                if not may_try_again(error):
                    raise
                pause = pause or retry_delay(error)
                why = error.code().name
            except (Hole, TimeoutError) as error:
                # Whatever caused the gap, reading again from the cursor fixes it.
                why = str(error) or "the server was silent for too long"
            finally:
                stream.cancel()
            pause = pause or pause_after(failures)
            log.info("the inbox of %s is tried again in %.1f s: %s", self._actor_id, pause, why)
            await asyncio.sleep(pause)
            failures += 1

    def _request(self) -> messages_pb2.SubscribeRequest:
        return messages_pb2.SubscribeRequest(
            actor_id=self._actor_id,
            cursors=[
                messages_pb2.Cursor(conversation_id=conversation_id, after_sequence=sequence)
                for conversation_id, sequence in islice(self.cursors.items(), MAX_CURSORS)
            ],
            start=messages_pb2.SUBSCRIBE_START_BEGINNING,
            epoch=self.epoch,
        )

    def _is_new(self, item: messages_pb2.SubscribeResponse) -> bool:
        kind = item.WhichOneof("item")
        if kind == "event" and item.event.sequence > 0:
            # An unknown conversation begins at its first entry received.
            last = self.cursors.get(item.event.conversation_id, item.event.sequence - 1)
            if item.event.sequence > last + 1:
                raise Hole(f"after entry {last} of {item.event.conversation_id} comes {item.event.sequence}")
            return item.event.sequence == last + 1
        if kind == "caught_up" and item.caught_up.conversation_id:
            last = self.cursors.get(item.caught_up.conversation_id, item.caught_up.sequence)
            if item.caught_up.sequence > last:
                raise Hole(f"caught up at {item.caught_up.sequence}, without what comes after {last}")
        # A kind newer than this program is ignored. An ephemeral (sequence 0) is in no log and moves no
        # cursor.
        return kind in ("event", "caught_up", "closed", "truncated")

    def _advance(self, item: messages_pb2.SubscribeResponse) -> None:
        kind = item.WhichOneof("item")
        if kind == "event" and item.event.sequence > 0:
            self.cursors[item.event.conversation_id] = item.event.sequence
        elif kind == "caught_up" and item.caught_up.conversation_id:
            self.cursors.setdefault(item.caught_up.conversation_id, item.caught_up.sequence)
        elif kind == "truncated":
            # Entries removed by retention are announced, and are not a gap.
            last = self.cursors.get(item.truncated.conversation_id, 0)
            self.cursors[item.truncated.conversation_id] = max(last, item.truncated.oldest_sequence - 1)
        elif kind == "closed":
            self.cursors.pop(item.closed.conversation_id, None)


async def heard(stream) -> AsyncIterator[messages_pb2.SubscribeResponse]:
    """Yields the items of a stream; raises TimeoutError if none arrives for too long."""
    while (item := await asyncio.wait_for(stream.read(), SILENCE)) is not grpc.aio.EOF:
        yield item
