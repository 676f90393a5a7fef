"""Who talks while parts fail: Ada with grpcurl, Bob with `parlance chat`. Each retries until it is acknowledged."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from composed import check
from engine import PATIENCE, ROOT, run, say, until

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or os.environ.get("CARGO_BUILD_TARGET_DIR") or ROOT / "target")
PARLANCE = TARGET / "debug/parlance"
GRPCURL = "v1.9.3"


class Refused(Exception):
    """grpcurl has ended with this code."""

    def __init__(self, code, text):
        super().__init__(text)
        # grpcurl ends with 64 and the code of the call; below that it did not reach anybody.
        self.again = code < 64 or code - 64 in (2, 4, 14)


class Grpcurl:
    def __init__(self, program):
        self.program = program

    def words(self, port, method, body, *flags):
        return [self.program, "-plaintext", *flags, "-d", json.dumps(body), f"127.0.0.1:{port}", f"parlance.{method}"]

    def call(self, port, method, **body):
        words = self.words(port, method, body, "-connect-timeout", "2", "-max-time", "2")
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.returncode, done.stderr)
        return json.loads(done.stdout)

    def events(self, port, conversation):
        """The whole log."""
        events = []
        while True:
            page = self.call(
                port, "message.v1.MessageService/ListEvents", conversation_id=conversation, actor_id="ada",
                after_sequence=len(events), page_size=200,
            )
            if not page.get("events"):
                check(int(page["lastSequence"]) == len(events), f"the head is {page['lastSequence']}, not {len(events)}")
                return events
            events += page["events"]


def find_grpcurl():
    found = shutil.which("grpcurl")
    if found:
        return found
    if (ROOT / "scripts/go-tool").is_file():
        done = subprocess.run([ROOT / "scripts/go-tool", "grpcurl"], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()
    folder = ROOT / ".parlance/tools" / f"grpcurl-{GRPCURL}"
    if not (folder / "grpcurl").is_file():
        if not shutil.which("go"):
            sys.exit("grpcurl is not on this machine, and building it takes Go, which is not there either: install one of them")
        say(f"building grpcurl {GRPCURL}")
        package = f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{GRPCURL}"
        run("go", "install", package, env={**os.environ, "GOBIN": str(folder), "GOFLAGS": ""})
    return str(folder / "grpcurl")


class Reader:
    """A child whose standard output is collected while it runs."""

    def __init__(self, words, **more):
        self.errors = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(
            [str(word) for word in words], stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1, **more
        )
        self.lines = []
        self.reading = threading.Thread(target=lambda: self.lines.extend(iter(self.child.stdout.readline, "")))
        self.reading.start()

    def text(self):
        return "".join(self.lines)

    def said(self):
        self.errors.seek(0)
        return f"{self.text()[-2000:]}\n{self.errors.read()[-2000:]}"

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
        self.child.wait()
        self.reading.join()


class Ada(threading.Thread):
    """Sends one message after the other, each until it is acknowledged, and keeps what was acknowledged."""

    def __init__(self, grpcurl, port, conversation):
        super().__init__()
        self.grpcurl, self.port, self.conversation = grpcurl, port, conversation
        self.acknowledged, self.retries, self.duplicates, self.wrong = [], 0, 0, None
        self.enough = threading.Event()

    def run(self):
        while not self.enough.is_set() and self.wrong is None:
            self.send(len(self.acknowledged) + 1)

    def send(self, number):
        end = time.monotonic() + PATIENCE
        body = {"conversation_id": self.conversation, "sender_id": "ada", "text": f"ada says {number}."}
        while True:
            try:
                answer = self.grpcurl.call(
                    self.port, "message.v1.MessageService/SendMessage", request_id=f"ada-{number}", **body
                )
            except Refused as refused:
                self.retries += 1
                if refused.again and time.monotonic() < end:
                    continue
                self.wrong = f"message {number} was refused: {refused}"
                return
            self.duplicates += answer.get("duplicate", False)
            self.acknowledged.append(int(answer["message"]["sequence"]))
            return

    def more(self, count):
        """Waits until as many more are acknowledged."""
        goal = len(self.acknowledged) + count
        until(lambda: f"{goal} acknowledged; {self.wrong}", lambda: self.wrong or len(self.acknowledged) >= goal)
        if self.wrong:
            sys.exit(self.wrong)

    @contextlib.contextmanager
    def failing(self):
        """Waits until a send has failed and is tried again."""
        before = self.retries
        yield
        until(lambda: f"a send fails; {self.wrong}", lambda: self.wrong or self.retries > before)


class Bob(threading.Thread):
    """Types into `parlance chat`, which sends again by itself, and sees there what is said."""

    def __init__(self, project, conversation):
        super().__init__()
        addresses = {
            "USER_SERVICE_URL": f"http://127.0.0.1:{project.users}",
            "MESSAGE_SERVICE_URL": f"http://127.0.0.1:{project.messages}",
        }
        self.chat = Reader(
            [PARLANCE, "chat", "--as", "bob", conversation], stdin=subprocess.PIPE,
            env={**os.environ, **addresses},
        )
        self.typed = 0
        self.enough = threading.Event()

    def run(self):
        while not self.enough.wait(0.1):
            self.typed += 1
            print(f"bob says {self.typed}.", file=self.chat.child.stdin, flush=True)

    def stop(self):
        """The end of the input; the chat ends once everything is stored."""
        self.enough.set()
        self.join()
        self.chat.child.stdin.close()
        until(lambda: f"the chat ends: {self.chat.said()}", lambda: self.chat.child.poll() is not None)
        check(self.chat.child.returncode == 0, f"the chat ended with {self.chat.child.returncode}: {self.chat.said()}")
