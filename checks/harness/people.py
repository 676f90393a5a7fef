"""Traffic while parts fail: Ada uses grpcurl, Bob `parlance chat`. Both retry until a message is acknowledged."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from checks.harness.base import BINARIES, Report, until
from checks.harness.compose import Project
from checks.harness.grpcurl import Grpcurl, Refused
from checks.harness.process import Process

PARLANCE = BINARIES / "parlance"
PATIENCE = 120


class Ada(threading.Thread):
    """Sends one message after another, each until it is acknowledged, and records the acknowledged sequences."""

    def __init__(self, grpcurl: Grpcurl, conversation: str) -> None:
        super().__init__()
        self.grpcurl, self.conversation = grpcurl, conversation
        self.acknowledged: list[int] = []
        self.retries, self.duplicates = 0, 0
        self.error: str | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set() and self.error is None:
            self.send(len(self.acknowledged) + 1)

    def send(self, number: int) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.grpcurl.attempt(
                    "parlance.message.v1.MessageService/SendMessage", conversation_id=self.conversation, sender_id="ada",
                    text=f"ada says {number}.", request_id=f"ada-{number}",
                )
            except Refused as refused:
                self.retries += 1
                if refused.retryable and time.monotonic() < end:
                    continue
                self.error = f"message {number} was refused: {refused}"
                return
            self.duplicates += answer.get("duplicate", False)
            self.acknowledged.append(int(answer["message"]["sequence"]))
            return

    def more(self, count: int) -> None:
        """Waits until this many more messages are acknowledged."""
        goal = len(self.acknowledged) + count
        until(
            lambda: f"{goal} messages are acknowledged; {self.error}",
            lambda: self.error or len(self.acknowledged) >= goal,
            PATIENCE,
        )
        if self.error:
            sys.exit(self.error)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Waits at its end until a send has failed and is retried."""
        before = self.retries
        yield
        until(lambda: f"a send fails; {self.error}", lambda: self.error or self.retries > before, PATIENCE)


class Bob(threading.Thread):
    """Types into `parlance chat`, which retries by itself and prints the messages of others."""

    def __init__(self, project: Project, conversation: str, report: Report) -> None:
        super().__init__()
        self.chat = Process(
            PARLANCE, "chat", "--as", "bob", conversation, stdin=subprocess.PIPE,
            USER_SERVICE_URL=f"http://127.0.0.1:{project.users}",
            MESSAGE_SERVICE_URL=f"http://127.0.0.1:{project.messages}",
        )
        self.report = report
        self.typed = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(0.1):
            self.typed += 1
            print(f"bob says {self.typed}.", file=self.chat.child.stdin, flush=True)

    def stop(self) -> None:
        """Ends the input; the chat then ends once everything is stored."""
        self.enough.set()
        self.join()
        assert self.chat.child.stdin
        self.chat.child.stdin.close()
        until(lambda: f"the chat ends; {self.chat.tail()}", lambda: self.chat.child.poll() is not None, PATIENCE)
        code = self.chat.child.returncode
        self.report.check(code == 0, f"the chat ended with {code}; {self.chat.tail()}")
