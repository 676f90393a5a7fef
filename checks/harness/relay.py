"""A relay between clients and message-service that injects faults, each once for every conversation: entry 1 arrives twice,
entry 2 is dropped, and the response to the send of entry 6 is lost with its connection. Any network does the last; no
server does the others, but a client must survive them all.

    relay.py LISTEN UPSTREAM     runs in the environment of examples/python
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from typing import Any

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "examples/python"))
from parlance.message.v1 import message_service_pb2 as messages_pb2

LOST = "the relay has lost the response"
done: set[tuple[str, str]] = set()


def is_first(fault: str, conversation_id: str) -> bool:
    """Returns true, and prints the fault, once for each fault and conversation."""
    if (fault, conversation_id) in done:
        return False
    done.add((fault, conversation_id))
    print(fault, conversation_id, flush=True)
    return True


def copies(response: bytes) -> int:
    """Returns how many copies of a stream's response to pass on."""
    # The event is field 1 in the responses of all streams, so one type reads them all.
    event = messages_pb2.ChatResponse.FromString(response).event
    if event.sequence == 1 and is_first("double", event.conversation_id):
        return 2
    if event.sequence == 2 and is_first("drop", event.conversation_id):
        return 0
    return 1


def is_lost(method: str, response: bytes) -> bool:
    """Returns whether the connection breaks instead of delivering this response."""
    if method.endswith("/SendMessage"):
        stored = messages_pb2.SendMessageResponse.FromString(response).message
    elif method.endswith("/Chat"):
        stored = messages_pb2.ChatResponse.FromString(response).ack
    else:
        return False
    # The ack of another frame than a send has no request id.
    return stored.sequence == 6 and stored.request_id != "" and is_first("lose", stored.conversation_id)


class Relay(grpc.GenericRpcHandler):
    """Passes every call on as bytes, without decoding its requests."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def service(self, details: Any) -> Any:
        method = details.method
        match method.rsplit("/", 1)[1]:
            case "Chat":
                return grpc.stream_stream_rpc_method_handler(self.stream(method, self.channel.stream_stream(method)))
            case "Subscribe" | "StreamMessages":
                return grpc.unary_stream_rpc_method_handler(self.stream(method, self.channel.unary_stream(method)))
            case _:
                return grpc.unary_unary_rpc_method_handler(self.unary(method, self.channel.unary_unary(method)))

    @staticmethod
    def unary(method: str, call: Any) -> Any:
        async def handle(request, context):
            try:
                response = await call(request, timeout=context.time_remaining())
                if not is_lost(method, response):
                    return response
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details(), tuple(error.trailing_metadata()))
            await context.abort(grpc.StatusCode.UNAVAILABLE, LOST)

        return handle

    @staticmethod
    def stream(method: str, call: Any) -> Any:
        async def handle(request, context):
            upstream = call(request)
            try:
                async for response in upstream:
                    if is_lost(method, response):
                        await context.abort(grpc.StatusCode.UNAVAILABLE, LOST)
                    for _ in range(copies(response)):
                        yield response
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details(), tuple(error.trailing_metadata()))
            finally:
                upstream.cancel()

        return handle


async def main(listen: str, upstream: str) -> None:
    async with grpc.aio.insecure_channel(upstream) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Relay(channel),))
        server.add_insecure_port(listen)
        await server.start()
        print("relays", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
