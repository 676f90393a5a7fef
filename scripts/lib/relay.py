"""A relay between clients and message-service that does harm to every conversation: once each, entry 1 comes twice, entry 2
does not come, and what says that entry 6 is stored is lost with its connection. The last is what any network does; the others
no server does, and a client has to survive them all the same.

    relay.py LISTEN UPSTREAM     runs in the environment of examples/python
"""

import asyncio
import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "examples/python"))
from parlance.message.v1 import message_service_pb2 as messages_pb2

LOST = "the relay has lost the answer"
done = set()


def is_first(harm, conversation_id):
    """True once for each harm and conversation, which is told."""
    if (harm, conversation_id) in done:
        return False
    done.add((harm, conversation_id))
    print(harm, conversation_id, flush=True)
    return True


def copies(response):
    """How often one item of a stream comes."""
    # An event is field 1 of what every stream gives, so one type reads them all.
    event = messages_pb2.ChatResponse.FromString(response).event
    if event.sequence == 1 and is_first("double", event.conversation_id):
        return 2
    if event.sequence == 2 and is_first("drop", event.conversation_id):
        return 0
    return 1


def is_lost(method, response):
    """Whether the connection breaks in place of this answer, for what is done."""
    if method.endswith("/SendMessage"):
        stored = messages_pb2.SendMessageResponse.FromString(response).message
    elif method.endswith("/Chat"):
        stored = messages_pb2.ChatResponse.FromString(response).ack
    else:
        return False
    # The ack of another frame than a send has no request id.
    return stored.sequence == 6 and stored.request_id != "" and is_first("lose", stored.conversation_id)


class Relay(grpc.GenericRpcHandler):
    """Passes every call on as the bytes that it is."""

    def __init__(self, channel):
        self.channel = channel

    def service(self, details):
        method = details.method
        match method.rsplit("/", 1)[1]:
            case "Chat":
                return grpc.stream_stream_rpc_method_handler(self.stream(method, self.channel.stream_stream(method)))
            case "Subscribe" | "StreamMessages":
                return grpc.unary_stream_rpc_method_handler(self.stream(method, self.channel.unary_stream(method)))
            case _:
                return grpc.unary_unary_rpc_method_handler(self.unary(method, self.channel.unary_unary(method)))

    @staticmethod
    def unary(method, call):
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
    def stream(method, call):
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


async def main(listen, upstream):
    async with grpc.aio.insecure_channel(upstream) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Relay(channel),))
        server.add_insecure_port(listen)
        await server.start()
        print("relays", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
