"""Builds the example clients and runs them, all at once, against real services that are restarted twice during the run.

    python3 -m checks.clients              all of them (`make clients` builds the binaries first)
    python3 -m checks.clients go java      these

The first restart is a deploy's (SIGTERM), the second a crash's (SIGKILL), on the same ports and data. It comes once every
client waits for it and has sent for a while; they send through it. The output of each must be examples/expected.txt. Then
another program reads the logs: each must be dense and hold every message once. Finally the clients run through a relay that
doubles one entry of each conversation, drops another and loses a response. scripts/install-client-tools installs the tools.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import difflib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from checks.harness import go
from checks.harness.base import ROOT, free_port, output_of, say, until, usage
from checks.harness.process import Process, Serve

EXAMPLES = ROOT / "examples"
WAITS = "restart the services"
RESTARTS = [signal.SIGTERM, signal.SIGKILL]
# The messages that each client has stored when a restart comes.
ENOUGH = 20
# Enough for the slowest machine until all clients wait for a restart, or are past it.
PATIENCE = 120

# The commands that build each in its own folder, and the one that runs it. The slowest come first.
CLIENTS = {
    "go": ([["go", "generate"], ["go", "vet"], ["go", "build", "-o", "bin/client"]], ["bin/client"]),
    "java": (
        [["mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "package"]], ["java", "-jar", "target/client.jar"],
    ),
    "node": ([["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "--silent", "build"]], ["node", "build/client.js"]),
    "python": ([["./generate"]], [".venv/bin/python", "client.py"]),
}


def install() -> None:
    """Installs missing tools, and puts a Go that is new enough on the PATH."""
    output_of("install-client-tools")
    os.environ.update(go.environment(), GOFLAGS="-buildvcs=false")


def build(name: str) -> str | None:
    began = time.monotonic()
    for words in CLIENTS[name][0]:
        made = subprocess.run(
            words, cwd=EXAMPLES / name, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )
        if made.returncode != 0:
            return f"the {name} client cannot be built: {' '.join(words)} failed:\n{made.stdout}"
    say(f"built {name} in {time.monotonic() - began:.0f} s")
    return None


def build_all(names: list[str]) -> None:
    # Two at a time, since each waits for the network half of its time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        problems = [problem for problem in pool.map(build, names) if problem]
    if problems:
        sys.exit("\n".join(problems))


def is_sending(name: str, process: Process, times: int, message_service: str) -> bool:
    """True once a client waits for this restart and has sent enough, so that the restart interrupts sends."""
    if process.child.poll() is not None:
        sys.exit(f"{name} has ended: {process.text()}")
    if process.out().count(WAITS) < times:
        return False
    return sum(text.endswith(f" of round {times}") for *_, text in read_log(name, message_service)) >= ENOUGH


def read_log(name: str, message_service: str) -> list[list[str]]:
    """Reads the entries of a client's conversation with examples/python/log.py."""
    words = [".venv/bin/python", "log.py", "--message-service", message_service, f"{name}-room", f"{name}-ann"]
    read = subprocess.run(words, cwd=EXAMPLES / "python", check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split("\t") for line in read.splitlines()]


def end_postgres(serve: Serve) -> None:
    """Stops the PostgreSQL that a killed server left to the next one, which may not have started."""
    serve.process.stop()
    data = serve.folder / "data"
    for folder in (data, pathlib.Path(os.path.realpath(data / "elsewhere"))):
        for file in folder.rglob("postmaster.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text().splitlines()[0]), signal.SIGINT)


def problems_of(name: str, process: Process, expected: list[str]) -> Iterator[str]:
    """Compares a client's output with the expected one."""
    found = process.out().splitlines()
    if process.child.returncode != 0:
        yield f"{name} has ended with exit code {process.child.returncode}: {process.text()}"
    if found != expected:
        yield "\n".join(difflib.unified_diff(expected, found, "examples/expected.txt", name, lineterm=""))


def problems_in_log(name: str, message_service: str) -> Iterator[str]:
    """Compares a client's log with the messages that it sends."""
    entries = read_log(name, message_service)
    if [int(sequence) for sequence, *_ in entries] != list(range(1, len(entries) + 1)):
        yield f"the log of {name} is not dense"
    sent = [(sender, request_id, text) for _, kind, sender, request_id, text in entries if kind == "message_sent"]
    if len(sent) + 2 != len(entries):
        yield f"the log of {name} has other entries than two joined members and their messages"
    if len({(sender, request_id) for sender, request_id, _ in sent}) != len(sent):
        yield f"a message of {name} is stored twice"
    wanted = ["Hello!", "one", "two", "three"]
    for turn in range(1, len(RESTARTS) + 1):
        count = sum(text.endswith(f" of round {turn}") for *_, text in sent)
        wanted += [f"{number} of round {turn}" for number in range(1, count + 1)]
    if [text for *_, text in sent] != wanted:
        yield f"the messages of {name} are not those that it sent, in that order"
    say(f"the log of {name} has {len(sent)} messages")


def start(
    started: contextlib.ExitStack, names: list[str], user_service: str, message_service: str, *flags: str
) -> dict[str, Process]:
    running: dict[str, Process] = {}
    for name in names:
        running[name] = Process(
            *CLIENTS[name][1], *(flag.replace("NAME", name) for flag in flags), cwd=EXAMPLES / name,
            USER_SERVICE=user_service, MESSAGE_SERVICE=message_service,
        )
        started.callback(running[name].end)
    return running


def wait_for_end(name: str, process: Process) -> None:
    until(lambda: f"{name} ends; its output: {process.text()}", lambda: process.child.poll() is not None, PATIENCE)


def through_restarts(names: list[str], serve: Serve, expected: list[str]) -> Iterator[str]:
    with contextlib.ExitStack() as started:
        running = start(started, names, serve.user_service, serve.message_service, "--restarts", str(len(RESTARTS)))
        for times, how in enumerate(RESTARTS, start=1):
            for name, process in running.items():
                until(
                    lambda: f"{name} sends and waits for a restart; its output: {process.text()}",
                    lambda: is_sending(name, process, times, serve.message_service),
                    PATIENCE,
                )
            began = time.monotonic()
            serve.restart(how)
            say(f"restarted by {how.name} in {time.monotonic() - began:.1f} s")
        for name, process in running.items():
            wait_for_end(name, process)
            yield from problems_of(name, process, expected)
            yield from problems_in_log(name, serve.message_service)
            for line in process.text().splitlines():
                if line.startswith("round "):
                    say(f"  {line}")


def through_relay(names: list[str], serve: Serve, expected: list[str]) -> Iterator[str]:
    """Runs the clients without restarts, through a relay that doubles, drops and loses."""
    with contextlib.ExitStack() as started:
        address = f"127.0.0.1:{free_port()}"
        words = [EXAMPLES / "python/.venv/bin/python", ROOT / "checks/harness/relay.py", address, serve.message_service]
        relay = Process(*words)
        started.callback(relay.end)
        until(lambda: f"the relay works; its output: {relay.text()}", lambda: "relays" in relay.out())
        running = start(started, names, serve.user_service, address, "--prefix", "NAME-relayed-")
        for name, process in running.items():
            wait_for_end(name, process)
            yield from problems_of(name, process, [line for line in expected if "restart" not in line])
            yield from problems_in_log(f"{name}-relayed", serve.message_service)
            # A fault that was not injected, or a hole that was not noticed, proves nothing.
            for fault in ("double", "drop", "lose"):
                if f"{fault} {name}-relayed-room" not in relay.out():
                    yield f"the relay did not {fault} an entry of {name}"
            if "after entry 1" not in process.text():
                yield f"{name} has not found the hole: {process.text()}"
            say(f"{name} has passed through the relay")


def run(names: list[str]) -> list[str]:
    expected = (EXAMPLES / "expected.txt").read_text().splitlines()
    with contextlib.ExitStack() as started:
        serve = started.enter_context(Serve())
        started.callback(end_postgres, serve)
        return [*through_restarts(names, serve, expected), *through_relay(names, serve, expected)]


def main() -> None:
    names = sys.argv[1:] or list(CLIENTS)
    if "--help" in names:
        usage(__doc__)
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        sys.exit(f"Unknown client {', '.join(unknown)}; the clients are {', '.join(CLIENTS)}")
    # What was started is stopped in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    install()
    # The Python example also reads the logs.
    build_all([name for name in CLIENTS if name in (*names, "python")])
    problems = run(names)
    if problems:
        sys.exit("\n".join(problems))
    say(f"{len(names)} clients had the expected output, over {len(RESTARTS)} restarts")


if __name__ == "__main__":
    main()
