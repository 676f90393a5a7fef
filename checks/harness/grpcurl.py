"""grpcurl as a client: calls whose answers are compared, calls that a caller may retry, and streams."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

from checks.harness.base import PATIENCE, Report, differences, until
from checks.harness.process import Process

# grpcurl exits with 64 plus the gRPC code of a failed call.
EXIT = {"INVALID_ARGUMENT": 67, "NOT_FOUND": 69, "ALREADY_EXISTS": 70, "PERMISSION_DENIED": 71, "FAILED_PRECONDITION": 73}
UNAVAILABLE = 78
RETRYABLE = (66, 68, UNAVAILABLE)  # UNKNOWN, DEADLINE_EXCEEDED
# Longer than any call that ends by itself takes.
SECONDS = "30"


def values(text: str) -> list[Any]:
    """The complete JSON values at the start of a text."""
    found, rest = [], text.lstrip()
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            break
        found.append(value)
        rest = rest[end:].lstrip()
    return found


class Refused(Exception):
    """A call that failed, with grpcurl's exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        # Below 64 the call did not reach the service.
        self.retryable = code < 64 or code in RETRYABLE


class Stream(Process):
    """A call that runs until it is stopped or until its requests end."""

    def __init__(self, report: Report, *words: object, requests: list[Any] | None = None) -> None:
        super().__init__(*words, stdin=subprocess.DEVNULL if requests is None else subprocess.PIPE)
        self.report = report
        for request in requests or []:
            self.send(request)

    def send(self, request: Any) -> None:
        assert self.child.stdin
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()

    def wait(self, subject: str, wanted: Any, patience: float = PATIENCE) -> None:
        """Waits for a response that matches."""
        def response() -> str | None:
            # Read first: a process that has ended has written everything.
            ended = self.child.poll() is not None
            if any(not differences(item, wanted) for item in values(self.out())):
                return "found"
            return "ended" if ended else None
        goal = lambda: f"{self.words[-1]} returns {subject}; {self.tail()}"
        result = until(goal, response, patience)
        self.report.check(result == "found", goal())

    def half_close(self) -> int:
        """Ends the requests and returns grpcurl's exit code."""
        assert self.child.stdin
        self.child.stdin.close()
        return self.child.wait(int(SECONDS))


class Grpcurl:
    """grpcurl for one address, in plain text unless other flags say how to connect. Remembers the RPCs that it called."""

    def __init__(self, program: pathlib.Path, address: str, report: Report, *flags: str) -> None:
        self.program, self.address, self.report = program, address, report
        self.flags = flags or ("-plaintext",)
        self.called: set[str] = set()

    def words(self, *words: str) -> list[str]:
        return [str(self.program), *self.flags, "-format-error", *words]

    def ask(self, *words: str) -> str:
        """Asks reflection: `list` or `describe`."""
        asked = subprocess.run(
            self.words(self.address, *words), capture_output=True, text=True, timeout=int(SECONDS), check=False
        )
        self.report.equal(f"{' '.join(words)}: {asked.stderr}", asked.returncode, 0)
        return asked.stdout

    def services(self) -> list[str]:
        return self.ask("list").split()

    def run(self, method: str, request: Any, seconds: str = SECONDS) -> subprocess.CompletedProcess[str]:
        self.called.add(method)
        data = "\n".join(json.dumps(one) for one in (request if isinstance(request, list) else [request]))
        words = self.words("-connect-timeout", seconds, "-max-time", seconds, "-d", data, self.address, method)
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * int(SECONDS), check=False
        )

    def call(self, method: str, request: Any, wanted: Any) -> Any:
        """Calls a unary RPC, compares its response and returns it."""
        ran = self.run(method, request)
        answers = values(ran.stdout)
        self.report.equal(f"{method} succeeds ({ran.stderr.strip()})", (ran.returncode, len(answers)), (0, 1))
        answer = answers[0] if answers else {}
        self.report.equal(f"{method} {json.dumps(request)}", answer, wanted)
        return answer

    def attempt(self, method: str, **request: Any) -> Any:
        """Calls a unary RPC with a short deadline and returns its response; raises `Refused` when it fails."""
        ran = self.run(method, request, seconds="2")
        if ran.returncode != 0:
            raise Refused(ran.returncode, ran.stderr)
        return json.loads(ran.stdout)

    def refused(self, method: str, request: Any, code: str, reason: str) -> None:
        """Calls an RPC that must fail with this code and reason."""
        ran = self.run(method, request)
        errors = values(ran.stderr)
        self.report.equal(f"{method} {json.dumps(request)} is {code}", ran.returncode, EXIT[code])
        details = {} if not errors else {one["@type"].rsplit("/")[-1]: one for one in errors[0].get("details", [])}
        info = details.get("google.rpc.ErrorInfo")
        self.report.equal(f"{method} {json.dumps(request)} has a reason", info, {"domain": "parlance", "reason": reason})

    @contextlib.contextmanager
    def stream(self, method: str, request: Any, seconds: str = "300") -> Iterator[Stream]:
        self.called.add(method)
        words = self.words("-max-time", seconds, "-d", json.dumps(request), self.address, method)
        with Stream(self.report, *words) as stream:
            yield stream

    @contextlib.contextmanager
    def session(self, method: str, requests: list[Any]) -> Iterator[Stream]:
        self.called.add(method)
        with Stream(self.report, *self.words("-d", "@", self.address, method), requests=requests) as stream:
            yield stream
