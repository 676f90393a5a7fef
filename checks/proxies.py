"""Puts nginx, HAProxy and Envoy, with the configurations of deploy/proxies, in front of a real `parlance serve`.

    python3 -m checks.proxies                    all of them (`make proxies` builds the binaries first)
    python3 -m checks.proxies nginx haproxy      these

Only ports and paths are replaced in the configurations. Through each proxy, over TLS: calls and reflection with grpcurl; calls
of web pages over HTTP/1.1 and HTTP/2, of which a foreign one is refused; the web client; a session that sends more than
proxies let a request have; streams that are silent for longer than the proxies' own timeouts and then still deliver; and a
restart of the services, which streams must survive as DELIVERY.md says. scripts/install-proxies installs the proxies.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator

from checks.harness import go
from checks.harness.base import PATIENCE, ROOT, Report, free_ports, output_of, run, say, until, usage
from checks.harness.grpcurl import UNAVAILABLE, Grpcurl, Stream
from checks.harness.process import Process, Serve
from checks.harness.web import Page

CONFIGURATIONS = ROOT / "deploy/proxies"
NAME = "chat.example"
ORIGIN = f"https://{NAME}"
USERS = "parlance.user.v1.UserService"
CONVERSATIONS = "parlance.message.v1.ConversationService"
MESSAGES = "parlance.message.v1.MessageService"
HEALTH = "grpc.health.v1.Health"
# Longer than the 60 s that nginx, and the 15 s that Envoy waits by default.
SILENCE = 65
# Together more than the 1 MiB that nginx lets a request have by default.
BULK, BULK_TEXT = 120, "x" * 10_000


class Place:
    """The ports of the services and the certificate, which the configurations get instead of their own."""

    def __init__(self, folder: pathlib.Path, serve: Serve, web: int) -> None:
        self.folder, self.web = folder, web
        self.users, self.messages = (each.rpartition(":")[2] for each in (serve.user_service, serve.message_service))
        self.certificate, key = folder / f"{NAME}.crt", folder / f"{NAME}.key"
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", self.certificate,
        )
        (folder / f"{NAME}.pem").write_text(self.certificate.read_text() + key.read_text())

    def configuration(self, file: str, listen: tuple[str, str], separator: str = ":") -> pathlib.Path:
        """Writes a configuration with these ports and paths and returns where. All that is replaced must be in it."""
        text = (CONFIGURATIONS / file).read_text()
        ports = (("50051", self.users), ("50052", self.messages), ("8080", str(self.web)))
        replaced = [(f"127.0.0.1{separator}{usual}", f"127.0.0.1{separator}{here}") for usual, here in ports]
        for old, new in [*replaced, ("/etc/ssl/parlance", str(self.folder)), listen]:
            if old not in text:
                sys.exit(f"deploy/proxies/{file} lacks {old!r}")
            text = text.replace(old, new)
        path = self.folder / file
        path.write_text(text)
        return path


def nginx(place: Place, port: int) -> list[object]:
    included = place.configuration("nginx.conf", ("listen 443 ", f"listen 127.0.0.1:{port} "))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {place.folder}/{kind};" for kind in kinds)
    main = place.folder / "main.conf"
    main.write_text(
        f"daemon off; master_process off; pid {place.folder}/nginx.pid; error_log stderr info;\n"
        f"events {{}}\nhttp {{ access_log off; {folders} include {included}; }}\n"
    )
    return ["nginx", "-e", "stderr", "-c", main]


def haproxy(place: Place, port: int) -> list[object]:
    return ["haproxy", "-f", place.configuration("haproxy.cfg", ("bind :443 ", f"bind 127.0.0.1:{port} "))]


def envoy(place: Place, port: int) -> list[object]:
    listen = ("0.0.0.0, port_value: 443 ", f"127.0.0.1, port_value: {port} ")
    path = place.configuration("envoy.yaml", listen, separator=", port_value: ")
    return [output_of("install-proxies"), "--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warn", "-c", path]


PROXIES = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy}


class Proxy:
    """A proxy in front of the services, and the clients that call through it."""

    def __init__(self, name: str, place: Place, port: int, report: Report) -> None:
        self.name, self.report = name, report
        self.process = Process(*PROXIES[name](place, port))
        flags = ("-cacert", str(place.certificate), "-authority", NAME)
        # Reflection through the proxy is that of message-service.
        user_proto = ("-import-path", str(ROOT / "proto"), "-proto", "parlance/user/v1/user_service.proto")
        program, address = go.grpcurl(), f"127.0.0.1:{port}"
        self.users = Grpcurl(program, address, report, *flags, *user_proto)
        self.messages = Grpcurl(program, address, report, *flags)
        self.page = Page(NAME, port, place.certificate)
        until(lambda: f"{name} listens; {self.process.tail()}", lambda: self.listens(port))

    def listens(self, port: int) -> bool:
        if self.process.child.poll() is not None:
            sys.exit(f"{self.name} has ended: {self.process.text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    def equal(self, subject: str, found: object, wanted: object) -> None:
        self.report.equal(f"{self.name}: {subject}", found, wanted)

    def serves(self) -> bool:
        """True once calls to both services arrive."""
        return all(
            grpcurl.run(method, request, seconds="5").returncode == 0
            for grpcurl, method, request in (
                (self.users, f"{USERS}/ListUsers", {}), (self.messages, f"{HEALTH}/Check", {"service": "readiness"}),
            )
        )


def calls(proxy: Proxy) -> None:
    """Calls both services, and reads an error with its details."""
    name = proxy.name
    ada = {"user_id": f"ada-{name}", "username": f"ada-{name}"}
    proxy.users.call(f"{USERS}/CreateUser", ada, {"userId": ada["user_id"]})
    proxy.users.call(f"{USERS}/GetUser", {"username": f"ADA-{name}"}, {"userId": ada["user_id"]})
    new = {"conversation_id": name, "kind": "CONVERSATION_KIND_GROUP", "creator_id": ada["user_id"]}
    proxy.messages.call(f"{CONVERSATIONS}/CreateConversation", new, {"conversationId": name})
    nowhere = {"conversation_id": "nowhere", "actor_id": ada["user_id"]}
    proxy.messages.refused(f"{CONVERSATIONS}/GetConversation", nowhere, "NOT_FOUND", "CONVERSATION_NOT_FOUND")
    proxy.equal("reflection lists", {CONVERSATIONS, MESSAGES} <= set(proxy.messages.services()), True)


def pages(proxy: Proxy) -> None:
    """Calls as web pages do, over both versions of HTTP: one of the proxy's own name, and a foreign one."""
    method, request = f"{USERS}/GetUser", {1: f"ada-{proxy.name}"}
    for version in ("1.1", "2"):
        own = proxy.page.call(method, request, ORIGIN, version)
        proxy.equal(f"a page over HTTP/{version} has an answer ({own})", (own.code, f"ada-{proxy.name}" in str(own.body)), (0, True))
        proxy.equal(f"a page over HTTP/{version} may read it", own.headers.get("access-control-allow-origin"), ORIGIN)
        foreign = proxy.page.call(method, request, "https://evil.example", version)
        refused = (foreign.code, "ORIGIN_NOT_ALLOWED" in foreign.details)
        proxy.equal(f"a foreign page over HTTP/{version} is refused ({foreign})", refused, (7, True))


def bulk(proxy: Proxy) -> None:
    """Sends more in one session than a proxy lets a request have by default."""
    opening = {"frame_id": 1, "open": {"actor_id": f"ada-{proxy.name}", "send_only": True}}
    with proxy.messages.session(f"{MESSAGES}/Chat", [opening]) as chat:
        chat.wait("that it is open", {"opened": {"frameId": "1"}})
        for number in range(2, BULK + 2):
            send = {"conversation_id": proxy.name, "text": BULK_TEXT, "request_id": f"bulk-{number}"}
            chat.send({"frame_id": number, "send": send})
        chat.wait(f"the answer to the last of {BULK} sends", {"ack": {"frameId": str(BULK + 1)}})
        proxy.equal("Chat ends well after the half-close", chat.half_close(), 0)


class Streams:
    """The streams of one proxy that are silent and then deliver."""

    def __init__(self, proxy: Proxy, stack: contextlib.ExitStack) -> None:
        self.proxy, self.actor = proxy, f"ada-{proxy.name}"
        grpcurl, now = proxy.messages, {"actor_id": self.actor, "start": "SUBSCRIBE_START_NOW"}
        self.subscription: Stream = stack.enter_context(grpcurl.stream(f"{MESSAGES}/Subscribe", now))
        self.chat: Stream = stack.enter_context(grpcurl.session(f"{MESSAGES}/Chat", [{"frame_id": 1, "open": now}]))
        self.health: Stream = stack.enter_context(grpcurl.stream(f"{HEALTH}/Watch", {"service": "readiness"}))
        self.web = stack.enter_context(proxy.page.stream(f"{MESSAGES}/Subscribe", {1: self.actor, 3: 2}, ORIGIN))
        self.subscription.wait("the end of all backlogs", {"caughtUp": {"conversationId": None}})
        self.chat.wait("that it is open", {"opened": {"frameId": "1"}})
        self.health.wait("health", {"status": "SERVING"})

    def ended(self) -> list[str]:
        """The calls that are over."""
        return [each.words[-1] for each in (self.subscription, self.chat, self.health) if each.child.poll() is not None]

    def deliver(self) -> None:
        """Sends through the session, and waits until all streams have it."""
        send = {"conversation_id": self.proxy.name, "text": "after the silence", "request_id": "late"}
        event = {"event": {"messageSent": {"text": "after the silence"}}}
        self.chat.send({"frame_id": 2, "send": send})
        self.chat.wait("the answer to a send", {"ack": {"frameId": "2"}})
        self.chat.wait("its own message", event)
        self.subscription.wait("the message", event)
        self.proxy.equal("a page's stream has the message", self.web.reads(b"after the silence"), True)

    def drained(self) -> None:
        """Waits until the services' drain has ended all streams, with the hint to resume."""
        for stream in (self.subscription, self.chat):
            stream.wait("that the service drains", {"draining": {}})
            # grpcurl waits for the end of its requests even when the call is over.
            code = stream.half_close() if stream is self.chat else stream.child.wait(PATIENCE)
            self.proxy.equal(f"{stream.words[-1]} ends UNAVAILABLE; {stream.tail()}", code, UNAVAILABLE)
            self.proxy.equal(f"{stream.words[-1]} ends with the reason", "is shutting down" in stream.text(), True)
        self.proxy.equal("Watch ends", self.health.child.wait(PATIENCE) >= 0, True)
        self.proxy.equal("a page's stream has the status", self.web.reads(b"grpc-status:14"), True)
        self.proxy.equal("a page's stream ends", self.web.ends(), True)


def silence(streams: list[Streams]) -> None:
    """Waits while no client sends anything. Ends early when a stream does."""
    end = time.monotonic() + SILENCE
    while time.monotonic() < end and not any(each.ended() for each in streams):
        time.sleep(0.5)
    for each in streams:
        each.proxy.equal("streams that ended in silence", each.ended(), [])


def down(proxy: Proxy) -> None:
    """Calls while the services are down: at once an error that clients take for UNAVAILABLE."""
    for grpcurl, method, request in (
        (proxy.users, f"{USERS}/GetUser", {"user_id": "ada"}), (proxy.messages, f"{HEALTH}/Check", {}),
    ):
        proxy.equal(f"{method} while the services are down", grpcurl.run(method, request).returncode, UNAVAILABLE)


def web_client(proxy: Proxy) -> None:
    """Fetches the web client by the proxy's name: it calls the services by that name, too."""
    page = proxy.page.get("/")
    proxy.equal("the web client", (page.status, b"<html" in page.body.lower()), (200, True))
    addresses = proxy.page.get("/config.json")
    found = json.loads(addresses.body) if addresses.status == 200 else addresses.status
    proxy.equal("the addresses of the services", found, {"user_service": "", "message_service": ""})


def restart(serve: Serve, proxies: list[Proxy], streams: list[Streams]) -> None:
    """Stops the services while streams are open, and starts them again."""
    code = serve.process.stop()
    for each in streams:
        each.proxy.equal(f"parlance stops in time; {serve.process.tail()}", code, 0)
        each.drained()
        down(each.proxy)
    serve.process.end()
    serve.start()
    for proxy in proxies:
        until(lambda: f"{proxy.name} reaches the services again; {proxy.process.tail()}", proxy.serves)
        proxy.messages.call(
            f"{MESSAGES}/ListMessages", {"conversation_id": proxy.name, "actor_id": f"ada-{proxy.name}", "page_size": 1},
            {"messages": [...]},
        )


@contextlib.contextmanager
def running(names: list[str], report: Report) -> Iterator[tuple[Serve, list[Proxy]]]:
    """Starts the services and these proxies."""
    web, *ports = free_ports(1 + len(names))
    flags = ("--allow-host", NAME, "--cors-allow-origin", ORIGIN, "--web-listen", f"127.0.0.1:{web}")
    with tempfile.TemporaryDirectory(prefix="parlance-proxies-") as folder, Serve(*flags) as serve, \
            contextlib.ExitStack() as stack:
        place = Place(pathlib.Path(folder), serve, web)
        proxies = []
        for name, port in zip(names, ports, strict=True):
            proxies.append(Proxy(name, place, port, report))
            stack.callback(proxies[-1].process.end)
        for proxy in proxies:
            until(lambda: f"calls pass {proxy.name}; {proxy.process.tail()}", proxy.serves)
        yield serve, proxies


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    names = sys.argv[1:] or list(PROXIES)
    if unknown := set(names) - set(PROXIES):
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(PROXIES)}.")
    output_of("install-proxies")
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    report, began = Report(), time.monotonic()
    with running(names, report) as (serve, proxies), contextlib.ExitStack() as stack:
        for proxy in proxies:
            say(f"=== calls, pages and sessions through {proxy.name}")
            for step in (calls, pages, web_client, bulk):
                step(proxy)
        streams = [Streams(proxy, stack) for proxy in proxies]
        say(f"=== silent streams, for {SILENCE} s")
        silence(streams)
        for each in streams:
            each.deliver()
        say("=== the services restart")
        restart(serve, proxies, streams)
    report.end(f"proxies ({', '.join(names)}), in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
