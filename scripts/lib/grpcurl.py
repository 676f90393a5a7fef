"""grpcurl as a client: calls whose answers are compared, and streams that are waited for. What differs is said and counted."""

import json
import subprocess
import threading

from running import say, until

# What a code of gRPC is as an exit code of grpcurl.
EXIT = {"INVALID_ARGUMENT": 67, "NOT_FOUND": 69, "ALREADY_EXISTS": 70, "PERMISSION_DENIED": 71, "FAILED_PRECONDITION": 73}
# No call that is meant to end takes as long.
SECONDS = "30"

# How many, and how many of them failed.
checks = 0
failures = 0


def differences(found, wanted, where="answer"):
    """What is wanted and not found. More than what is wanted may be there, but for lists; `...` is anything."""
    if wanted is ...:
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            if key in found:
                yield from differences(found[key], value, f"{where}.{key}")
            elif value is not None:
                yield f"{where}.{key} is missing, not {value!r}"
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for place, (one, other) in enumerate(zip(found, wanted)):
            yield from differences(one, other, f"{where}[{place}]")
    elif found != wanted:
        yield f"{where} is {found!r}, not {wanted!r}"


def check(what, found, wanted):
    global checks, failures
    checks += 1
    wrong = list(differences(found, wanted))
    if wrong:
        failures += 1
        say(f"  FAILED: {what}: {'; '.join(wrong)}")


def values(text):
    """The JSON values that a text consists of, as far as they are complete."""
    found, rest = [], text.lstrip()
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            break
        found.append(value)
        rest = rest[end:].lstrip()
    return found


class Stream:
    """A call that goes on until it is stopped, or until its requests are at an end."""

    def __init__(self, words, requests=None):
        feeds = subprocess.DEVNULL if requests is None else subprocess.PIPE
        self.child = subprocess.Popen(words, stdin=feeds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.words, self.text = words, ""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        for request in requests or []:
            self.say(request)

    def __enter__(self):
        return self

    def read(self):
        while piece := self.child.stdout.read(1):
            self.text += piece

    def say(self, request):
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()

    def wait(self, what, wanted):
        """Waits for an item that is as wanted."""
        def told():
            # Asked first: what ended before has told everything.
            ended = self.child.poll() is not None and not self.reader.is_alive()
            return any(not list(differences(item, wanted)) for item in values(self.text)) or (ended and "ended")
        check(f"{self.words[-1]} tells {what}: {self.text}",
              until(lambda: f"{self.words[-1]} tells {what}; it told {self.text}", told), True)

    def half_close(self):
        """Says that no more requests come, and gives how the call ended."""
        self.child.stdin.close()
        return self.child.wait(int(SECONDS))

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.terminate()
        self.child.wait()
        self.reader.join()


class Grpcurl:
    """One program, one address. Remembers which RPCs it has called."""

    def __init__(self, program, address):
        self.program, self.address, self.called = program, address, set()

    def words(self, *words):
        return [self.program, "-plaintext", "-format-error", *words]

    def ask(self, *words):
        asked = subprocess.run(self.words(self.address, *words), capture_output=True, text=True, timeout=int(SECONDS))
        check(f"{' '.join(words)}: {asked.stderr}", asked.returncode, 0)
        return asked.stdout

    def services(self):
        return self.ask("list").split()

    def run(self, method, request):
        self.called.add(method)
        data = "\n".join(json.dumps(one) for one in (request if isinstance(request, list) else [request]))
        words = self.words("-max-time", SECONDS, "-d", data, self.address, method)
        return subprocess.run(words, capture_output=True, text=True, timeout=2 * int(SECONDS))

    def call(self, method, request, wanted):
        """Calls an RPC that gives one answer; gives that."""
        ran = self.run(method, request)
        answers = values(ran.stdout)
        check(f"{method} ends well ({ran.stderr.strip()})", (ran.returncode, len(answers)), (0, 1))
        answer = answers[0] if answers else {}
        check(f"{method} {json.dumps(request)}", answer, wanted)
        return answer

    def all(self, method, requests, wanted):
        """Calls a streaming RPC that ends with its requests; compares all answers."""
        ran = self.run(method, requests)
        check(f"{method} ends well ({ran.stderr.strip()})", ran.returncode, 0)
        check(method, values(ran.stdout), wanted)

    def refused(self, method, request, code, reason):
        ran = self.run(method, request)
        errors = values(ran.stderr)
        check(f"{method} {json.dumps(request)} is {code}", ran.returncode, EXIT[code])
        details = {} if not errors else {one["@type"].rsplit("/")[-1]: one for one in errors[0].get("details", [])}
        info = details.get("google.rpc.ErrorInfo")
        check(f"{method} {json.dumps(request)} says why", info, {"domain": "parlance", "reason": reason})

    def stream(self, method, request):
        self.called.add(method)
        return Stream(self.words("-d", json.dumps(request), self.address, method))

    def session(self, method, requests):
        self.called.add(method)
        return Stream(self.words("-d", "@", self.address, method), requests)
