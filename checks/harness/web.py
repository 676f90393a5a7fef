"""A web page as a client: gRPC-Web over TLS, by HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import http.client
import pathlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping

from checks.harness.base import PATIENCE

TYPE = "application/grpc-web+proto"
SECONDS = 30
TRAILERS = 0x80


def encode(fields: Mapping[int, str | int]) -> bytes:
    """A frame with a message of texts and small numbers, by the numbers of its fields."""
    message = b""
    for number, value in fields.items():
        if isinstance(value, int):
            message += bytes([number << 3, value])
        else:
            message += bytes([number << 3 | 2, len(value)]) + value.encode()
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclasses.dataclass
class Answer:
    """The response of a call or of a page; the headers include the trailers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        """The gRPC code; -1 without one."""
        return int(self.headers.get("grpc-status", -1))

    @property
    def details(self) -> str:
        """What can be read of the error's details, such as its reason."""
        text = self.headers.get("grpc-status-details-bin", "")
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(text + "=" * (-len(text) % 4)).decode(errors="replace")
        return text

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """Takes the trailers from the end of the body."""
        answer, rest = cls(status, {name.lower(): value for name, value in headers.items()}, b""), body
        while len(rest) >= 5 and "grpc" in answer.headers.get("content-type", ""):
            frame, rest = rest[: 5 + int.from_bytes(rest[1:5], "big")], rest[5 + int.from_bytes(rest[1:5], "big") :]
            if frame[0] & TRAILERS:
                answer.headers.update(fields(frame[5:].decode()))
            else:
                answer.body += frame[5:]
        answer.body += rest
        return answer


def fields(text: str) -> dict[str, str]:
    """The fields of a head or of trailers."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


class WebStream:
    """A response that is read while it is open."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response, self.seen = response, b""

    def read(self) -> bool:
        """Reads what comes next; False at the end, and when the connection breaks."""
        try:
            part = self.response.read1(65536)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            return False
        self.seen += part
        return bool(part)

    def reads(self, text: bytes) -> bool:
        """Reads until the text has come. A heartbeat comes sooner than the socket's timeout."""
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(TimeoutError):
            while text not in self.seen and time.monotonic() < end and self.read():
                pass
        return text in self.seen

    def ends(self) -> bool:
        """True if the response ends in time."""
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < end:
                if not self.read():
                    return True
        return False


class Page:
    """Pages that call a server on this machine by another name."""

    def __init__(self, name: str, port: int, certificate: pathlib.Path) -> None:
        self.name, self.port, self.certificate = name, port, certificate

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPConnection(self.name, self.port)
        connection.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS), server_hostname=self.name
        )
        with contextlib.closing(connection):
            yield connection

    def get(self, path: str) -> Answer:
        with self.connection() as connection:
            connection.request("GET", path, headers={"host": self.name})
            response = connection.getresponse()
            return Answer.read(response.status, dict(response.getheaders()), response.read())

    def call(self, method: str, request: Mapping[int, str | int], origin: str, version: str) -> Answer:
        """Calls a unary RPC from a page of this origin."""
        if version == "2":
            return self.call_by_curl(method, request, origin)
        with self.stream(method, request, origin) as stream:
            body = stream.response.read()
            return Answer.read(stream.response.status, dict(stream.response.getheaders()), body)

    def call_by_curl(self, method: str, request: Mapping[int, str | int], origin: str) -> Answer:
        """The same over HTTP/2, which Python does not have."""
        words = [
            "curl", "--silent", "--show-error", "--include", "--http2", "--max-time", str(SECONDS), "--cacert",
            str(self.certificate), "--resolve", f"{self.name}:{self.port}:127.0.0.1", "--header", f"content-type: {TYPE}",
            "--header", f"origin: {origin}", "--data-binary", "@-", f"https://{self.name}:{self.port}/{method}",
        ]
        ran = subprocess.run(words, input=encode(request), capture_output=True, check=False)
        head, _, body = ran.stdout.partition(b"\r\n\r\n")
        status, _, rest = head.decode().partition("\r\n")
        if not status.startswith("HTTP/2 "):
            return Answer(0, {}, ran.stdout + ran.stderr)
        return Answer.read(int(status.split()[1]), fields(rest), body)

    @contextlib.contextmanager
    def stream(self, method: str, request: Mapping[int, str | int], origin: str) -> Iterator[WebStream]:
        """Calls an RPC from a page of this origin, over HTTP/1.1."""
        headers = {"host": self.name, "content-type": TYPE, "origin": origin, "x-grpc-web": "1"}
        with self.connection() as connection:
            connection.request("POST", f"/{method}", encode(request), headers)
            yield WebStream(connection.getresponse())
