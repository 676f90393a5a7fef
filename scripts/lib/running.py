"""What checks are made of: child processes whose output is kept, and waiting with a deadline."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or os.environ.get("CARGO_BUILD_TARGET_DIR") or ROOT / "target")
BINARIES = TARGET / "debug"
PATIENCE = 60


def say(text):
    print(text, flush=True)


def until(what, ask, patience=PATIENCE):
    """Asks until there is an answer, which it gives; ends the check with what was seen when there never is one."""
    end = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            sys.exit(f"not within {patience} s: {what() if callable(what) else what}")
        time.sleep(0.1)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Process:
    """A child whose output is kept in files. Ended, and its output removed, with `end`."""

    def __init__(self, *words, cwd=None, **environment):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="parlance-output-"))
        words = [str(word) for word in words]
        with open(self.folder / "out", "w") as out, open(self.folder / "err", "w") as err:
            self.child = subprocess.Popen(
                words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **environment}
            )

    def out(self):
        """What it told."""
        return (self.folder / "out").read_text()

    def text(self):
        """The same, and what it logged."""
        return self.out() + (self.folder / "err").read_text()

    def said(self, message, field):
        """What a line of the JSON log says, as soon as it is there."""
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(line)
                if line.get("message") == message:
                    return line[field]
        return None

    def stop(self, how=signal.SIGTERM):
        """Ends it and waits; gives its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(40)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def end(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Serve:
    """`parlance serve` with data of its own, on ports that stay the same over restarts. A context: gone with it."""

    def __init__(self, *flags):
        self.flags = flags
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="parlance-serve-"))
        self.user_service = f"127.0.0.1:{free_port()}"
        self.message_service = f"127.0.0.1:{free_port()}"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.process = Process(
            BINARIES / "parlance", "serve", "--data-dir", self.folder / "data", "--user-listen", self.user_service,
            "--message-listen", self.message_service, *self.flags,
        )
        until(lambda: f"parlance serves; it said {self.process.text()}", self.is_serving)

    def is_serving(self):
        if self.process.child.poll() is not None:
            sys.exit(f"parlance serve has ended: {self.process.text()}")
        asked = [BINARIES / "message-service", "healthcheck", "--listen", self.message_service]
        users = [BINARIES / "user-service", "healthcheck", "--listen", self.user_service]
        return all(subprocess.run(words, capture_output=True, check=False).returncode == 0 for words in (asked, users))

    def restart(self, how=signal.SIGTERM):
        self.process.stop(how)
        self.process.end()
        self.start()

    def __exit__(self, *_):
        self.process.end()
        # As root the cluster lies where PostgreSQL's user may go.
        elsewhere = self.folder / "data" / "elsewhere"
        if elsewhere.is_symlink():
            shutil.rmtree(os.readlink(elsewhere), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
