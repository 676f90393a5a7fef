"""Runs the transcripts of the documentation and compares their output with the real one.

    python3 -m checks.transcripts               all files (`make transcripts` builds the binaries first)
    python3 -m checks.transcripts README.md     this file

Each `$ …` of the blocks between `<!-- transcript -->` and `<!-- /transcript -->` is run by a shell, in order, against a
fresh `parlance serve` for each file: on the default ports if they are free, else on others, which are put into the commands.
A command that keeps running after its documented output is a stream, and is stopped a second later. Times and UUIDs may
differ, but equal ones in the file must be equal here.
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from checks.harness import go
from checks.harness.base import ROOT, say, usage
from checks.harness.process import Serve

FILES = ["README.md", "docs/FIRST-STEPS.md"]
BEGIN, END = "<!-- transcript -->", "<!-- /transcript -->"
USERS, MESSAGES = "127.0.0.1:50051", "127.0.0.1:50052"
PATIENCE = 30

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"


def transcript(file: str) -> list[tuple[str, list[str]]]:
    """The commands of a file, each with the lines that follow it."""
    if not (ROOT / file).is_file():
        sys.exit(f"{file} does not exist, so its transcript cannot be run")
    parts = re.findall(rf"^{re.escape(BEGIN)}$(.*?)^{re.escape(END)}$", (ROOT / file).read_text(), re.M | re.S)
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", "".join(parts), re.M | re.S):
        for at, line in enumerate(block.splitlines()):
            if line.startswith("$ "):
                steps.append((line[2:], []))
            elif at == 0:
                sys.exit(f"{file}: a block of the transcript does not begin with a command: {line}")
            else:
                steps[-1][1].append(line)
    if not steps:
        sys.exit(f"{file} has no command between {BEGIN} and {END}")
    return steps


class Names:
    """Names times and UUIDs, which differ from run to run, by the order of their first appearance."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def normal(self, lines: list[str]) -> list[str]:
        def name(found: re.Match[str]) -> str:
            kind = "time" if "T" in found[0] else "uuid"
            return self.seen.setdefault(found[0], f"<{kind} {len(self.seen) + 1}>")
        return [re.sub(rf"{TIME}|{UUID}", name, line) for line in lines]


def is_free(address: str) -> bool:
    with socket.socket() as probe:
        # As the services do, so that recently closed connections do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(address.rsplit(":")[-1])))
        except OSError:
            return False
        return True


def run(command: str, lines: int) -> list[str]:
    """Runs a command until it ends or, a second before it is stopped, has written this many lines. Returns its output."""
    with tempfile.TemporaryFile("w+") as out:
        # A session of its own, so that all of a pipe is stopped.
        child = subprocess.Popen(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )

        def output() -> list[str]:
            out.seek(0)
            return out.read().splitlines()

        end = time.monotonic() + PATIENCE
        while child.poll() is None and len(output()) < lines and time.monotonic() < end:
            time.sleep(0.05)
        try:
            child.wait(1)
        except subprocess.TimeoutExpired:
            # SIGINT may be ignored: a shell starts its background jobs so.
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(PATIENCE)
        return output()


def check(file: str) -> int:
    """Runs a file's transcript on a fresh server and returns the number of commands with another output."""
    steps = transcript(file)
    serve = Serve()
    if is_free(USERS) and is_free(MESSAGES):
        serve.user_service, serve.message_service = USERS, MESSAGES
    else:
        say(f"{USERS} or {MESSAGES} is taken: using other ports")
    addresses = {USERS: serve.user_service, MESSAGES: serve.message_service}
    wanted_names, found_names = Names(), Names()
    wrong = 0
    with serve:
        for command, lines in steps:
            here = re.sub(r"127\.0\.0\.1:\d+", lambda address: addresses.get(address[0], address[0]), command)
            output = run(here, len(lines))
            wanted, found = wanted_names.normal(lines), found_names.normal(output)
            if wanted != found:
                wrong += 1
                say(f"FAILED: $ {command}")
                say("\n".join(difflib.unified_diff(wanted, found, file, "this run", lineterm="")))
    say(f"{file}: {len(steps) - wrong} commands have the output that is documented, {wrong} have not")
    return wrong


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    os.environ["PATH"] = f"{go.grpcurl().parent}{os.pathsep}{os.environ['PATH']}"
    files = sys.argv[1:] or FILES
    # Read before anything is started, so that a missing file or transcript fails at once.
    for file in files:
        transcript(file)
    sys.exit(1 if sum(check(file) for file in files) else 0)


if __name__ == "__main__":
    main()
