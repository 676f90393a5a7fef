"""Paths, output, waiting, ports and the report of a check."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / (os.environ.get("CARGO_TARGET_DIR") or os.environ.get("CARGO_BUILD_TARGET_DIR") or "target")
BINARIES = TARGET / "debug"
PATIENCE = 60

T = TypeVar("T")


def say(text: str) -> None:
    print(text, flush=True)


def until(goal: str | Callable[[], str], poll: Callable[[], T], patience: float = PATIENCE) -> T:
    """Polls until the result is true, and returns it. Ends the check with the unreached goal when that takes too long."""
    end = time.monotonic() + patience
    while True:
        result = poll()
        if result:
            return result
        if time.monotonic() > end:
            sys.exit(f"not within {patience} s: {goal() if callable(goal) else goal}")
        time.sleep(0.1)


def run(*words: object, cwd: pathlib.Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Runs a command to its end and returns its output. Ends the check with that output when the command fails."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stdout[-6000:]}")
    return done.stdout


def show(*words: object, cwd: pathlib.Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """Runs a command whose output is shown. Ends the check when the command fails."""
    command = [str(word) for word in words]
    sys.stdout.flush()
    if subprocess.run(command, cwd=cwd, env=env, check=False).returncode != 0:
        sys.exit(f"{shlex.join(command)} failed")


def output_of(script: str, *words: str) -> str:
    """Runs one of scripts/, which prints its progress to standard error, and returns its output."""
    done = subprocess.run([ROOT / "scripts" / script, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"scripts/{script} failed")
    return done.stdout.strip()


def tracked(*patterns: str) -> list[pathlib.Path]:
    """The files of the repository that match git's patterns, new ones that are not ignored included."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns).split("\0")
    # A file that is deleted and not committed yet is still listed.
    return sorted({pathlib.Path(name) for name in listed if name and (ROOT / name).is_file()})


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free, all different."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    return free_ports(1)[0]


def differences(found: Any, wanted: Any, where: str = "answer") -> list[str]:
    """The parts of `wanted` that `found` lacks. Objects may have more fields, lists may not; `...` matches anything."""
    if wanted is ...:
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        lines = []
        for key, value in wanted.items():
            if key in found:
                lines += differences(found[key], value, f"{where}.{key}")
            elif value is not None:
                lines.append(f"{where}.{key} is missing, not {value!r}")
        return lines
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = zip(found, wanted, strict=True)
        return [line for at, (one, other) in enumerate(pairs) for line in differences(one, other, f"{where}[{at}]")]
    return [] if found == wanted else [f"{where} is {found!r}, not {wanted!r}"]


class Report:
    """Counts assertions and prints each that fails, so that one failure does not hide the next."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, 0

    def check(self, holds: bool, failure: str) -> None:
        if holds:
            self.passed += 1
        else:
            self.fail(failure)

    def equal(self, subject: str, found: Any, wanted: Any) -> None:
        wrong = differences(found, wanted)
        self.check(not wrong, f"{subject}: {'; '.join(wrong)}")

    def fail(self, failure: str) -> None:
        self.failed += 1
        say(f"  FAILED: {failure}")

    def end(self, subject: str) -> NoReturn:
        """Prints the counts and ends the check."""
        say(f"{subject}: {self.passed} assertions passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def usage(documentation: str | None) -> NoReturn:
    say((documentation or "").strip())
    sys.exit(0)
