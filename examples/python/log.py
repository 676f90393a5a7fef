#!/usr/bin/env python3
"""Prints the log of one conversation, one entry per line: sequence, kind, actor, request id and text, separated by tabs. An
example of a job that reads a whole log."""

import argparse
import os
from collections.abc import Iterator

import grpc

from parlance.message.v1 import event_pb2, message_service_pb2 as messages_pb2
from parlance.message.v1.message_service_pb2_grpc import MessageServiceStub


def entries(stub: MessageServiceStub, conversation_id: str, actor_id: str) -> Iterator[event_pb2.Event]:
    """Yields the entries up to the head when the last page was read."""
    request = messages_pb2.ListEventsRequest(conversation_id=conversation_id, actor_id=actor_id, page_size=1000)
    while True:
        page = stub.ListEvents(request)
        yield from page.events
        if not page.events or page.events[-1].sequence >= page.last_sequence:
            return
        request.after_sequence = page.events[-1].sequence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MESSAGE_SERVICE", "127.0.0.1:50052")
    parser.add_argument("--message-service", default=default, metavar="ADDRESS", help=f"default: {default}")
    parser.add_argument("conversation_id")
    parser.add_argument("actor_id", help="who reads it: a member")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.message_service) as channel:
        for event in entries(MessageServiceStub(channel), arguments.conversation_id, arguments.actor_id):
            message = event.message_sent
            print(
                event.sequence, event.WhichOneof("kind"), event.actor_id, message.request_id, message.text, sep="\t"
            )


if __name__ == "__main__":
    main()
