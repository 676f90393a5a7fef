"""Child processes whose output is kept, and `parlance serve` as one of them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, Self

from checks.harness.base import BINARIES, free_ports, until


class Process:
    """A child whose output is kept in files. `end` stops it and removes them; as a context it ends with the block."""

    def __init__(
        self, *words: object, cwd: pathlib.Path | None = None, stdin: int = subprocess.DEVNULL, **environment: str
    ) -> None:
        self.words = [str(word) for word in words]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="parlance-output-"))
        with open(self.folder / "out", "w") as out, open(self.folder / "err", "w") as err:
            self.child = subprocess.Popen(
                self.words, cwd=cwd, stdin=stdin, stdout=out, stderr=err, text=True, env={**os.environ, **environment}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def out(self) -> str:
        """Its standard output so far."""
        return (self.folder / "out").read_text()

    def text(self) -> str:
        """Its standard output and its log so far."""
        return self.out() + (self.folder / "err").read_text()

    def tail(self) -> str:
        """The last of its output, for the message of a failure."""
        return f"its output ends:\n{self.out()[-2000:]}\n{(self.folder / 'err').read_text()[-2000:]}"

    def logged(self, message: str, field: str) -> Any:
        """A field of the first line of its JSON log with this message, or None."""
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("message") == message:
                    return entry[field]
        return None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stops it and returns its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(40)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def end(self) -> None:
        if self.child.stdin:
            with contextlib.suppress(OSError):
                self.child.stdin.close()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Serve:
    """`parlance serve` with its own data, on ports that survive restarts. A context, which removes the data at its end."""

    process: Process

    def __init__(self, *flags: str) -> None:
        self.flags = flags
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="parlance-serve-"))
        self.user_service, self.message_service = (f"127.0.0.1:{port}" for port in free_ports(2))

    def __enter__(self) -> Serve:
        self.start()
        return self

    def start(self) -> None:
        self.process = Process(
            BINARIES / "parlance", "serve", "--data-dir", self.folder / "data", "--user-listen", self.user_service,
            "--message-listen", self.message_service, *self.flags,
        )
        until(lambda: f"parlance serves; its output: {self.process.text()}", self.is_serving)

    def is_serving(self) -> bool:
        if self.process.child.poll() is not None:
            sys.exit(f"parlance serve has ended: {self.process.text()}")
        return all(
            is_healthy(name, address)
            for name, address in (("message-service", self.message_service), ("user-service", self.user_service))
        )

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.stop(how)
        self.process.end()
        self.start()

    def __exit__(self, *_: object) -> None:
        self.process.end()
        # As root the cluster is in a folder that PostgreSQL's user may read; the data folder has a link to it.
        elsewhere = self.folder / "data" / "elsewhere"
        if elsewhere.is_symlink():
            shutil.rmtree(os.readlink(elsewhere), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def is_healthy(name: str, address: str) -> bool:
    words = [BINARIES / name, "healthcheck", "--listen", address]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
