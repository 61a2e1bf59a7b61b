"""HTTP as far as the server needs it: requests in, bodies as streams, replies out.

Nothing here knows Cloud Storage; `routes.py` says what is answered to which request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from refusals import Refusal, invalid, not_implemented

PIECE = 256 * 1024
"""Bytes moved at a time: small enough for a processor's cache."""
MAX_JSON = 2 * 1024 * 1024


class Gone(Exception):
    """The client went away, or stopped, in the middle of a body."""


class Body:
    """A request's body as a stream, by Content-Length or chunked (RFC 9112 section 7.1)."""

    def __init__(self, stream: BinaryIO, length: int | None) -> None:
        self._stream = stream
        self.length = length
        """Of the whole body; None when chunked."""
        self._left = length or 0
        self._last = length is not None

    def read(self, size: int = PIECE) -> bytes:
        """At most `size` bytes; empty at the end. Raises Gone if the body is cut short."""
        if not self._left and not self._last:
            self._next_chunk()
        if not self._left:
            return b""
        try:
            data = self._stream.read(min(size, self._left))
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._left -= len(data)
        if not self._left and not self._last:
            self._line()
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def whole(self, limit: int = MAX_JSON) -> bytes:
        pieces, size = [], 0
        for piece in self:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise Refusal(413, "uploadTooLarge", "the request is too large")
        return b"".join(pieces)

    def json(self) -> dict[str, Any]:
        data = self.whole()
        return parse_json(data) if data.strip() else {}

    def _next_chunk(self) -> None:
        try:
            self._left = int(self._line().split(b";")[0], 16)
        except ValueError as error:
            raise Gone from error
        if not self._left:
            self._last = True
            while self._line():
                pass

    def _line(self) -> bytes:
        try:
            line = self._stream.readline(8192)
        except OSError as error:
            raise Gone from error
        if not line.endswith(b"\n"):
            raise Gone
        return line.strip()


def parse_json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Refusal(400, "parseError", "Parse Error") from error
    if not isinstance(value, dict):
        raise Refusal(400, "parseError", "Parse Error")
    return value


@dataclass(frozen=True)
class Part:
    """A piece of a file as a reply's body."""

    path: Path
    start: int
    length: int


@dataclass
class Reply:
    """What goes back."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Part = b""

    @classmethod
    def of(cls, document: Any, status: int = 200, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lead = {"Content-Type": "application/json; charset=UTF-8"}
        return cls(status, lead | named, json.dumps(document).encode())

    @classmethod
    def refusing(cls, refusal: Refusal) -> Reply:
        if refusal.status == 304:  # has no body, RFC 9110 section 15.4.5
            return cls(304)
        reply = cls.of(refusal.document(), refusal.status)
        reply.headers |= refusal.headers
        return reply


@dataclass
class Call:
    """One request, read up to its body."""

    method: str
    path: str
    names: dict[str, str]
    """What the route's pattern found in the path, decoded."""
    query: dict[str, list[str]]
    headers: Any
    body: Body
    base: str
    """Scheme and address as the client wrote them."""

    def one(self, name: str, default: str | None = None) -> str | None:
        values = self.query.get(name, [])
        if len(values) > 1:
            raise invalid(f"the parameter {name} is given twice")
        return values[0] if values else default

    def number(self, name: str) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        if not re.fullmatch(r"\d{1,19}", value, re.A):
            raise invalid(f"Invalid value for {name}: {value}")
        return int(value)

    def flag(self, name: str) -> bool:
        value = self.one(name, "false")
        if value not in {"true", "false", "True", "False"}:
            raise invalid(f"Invalid value for {name}: {value}")
        return value in {"true", "True"}


Handler = Callable[[Call], Reply]


@dataclass(frozen=True)
class Route:
    """Which requests a handler answers, and the parameters it understands."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    parameters: frozenset[str]


# Parameters of every Google API that change the reply's looks only.
# Source: cloud.google.com/storage/docs/json_api/v1/parameters
COMMON = frozenset({"alt", "fields", "prettyPrint", "quotaUser"})
# What clients tell about themselves, and the checksum; each other x-goog- header has a meaning.
HEADERS = frozenset(
    {
        "x-goog-api-client",
        "x-goog-gcs-idempotency-token",
        "x-goog-request-params",
        "x-goog-hash",
    }
)


def make_server(address: tuple[str, int], routes: list[Route]) -> ThreadingHTTPServer:
    class Connection(RequestHandler):
        table = routes

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is nothing to report."""

    return Server(address, Connection)


class RequestHandler(BaseHTTPRequestHandler):
    """One connection: request after request, until the client or an error ends it."""

    protocol_version = "HTTP/1.1"
    server_version = "LocalCloudStorage"
    sys_version = ""
    timeout = 120
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True
    table: ClassVar[list[Route]] = []

    def answer(self) -> None:
        try:
            body = Body(self.rfile, self._body_length())
        except Refusal as refusal:
            self.close_connection = True
            return self._send(Reply.refusing(refusal))
        try:
            try:
                reply = self._dispatch(body)
            except Refusal as refusal:
                reply = Reply.refusing(refusal)
            # The client is still sending what was refused: hear it out, or it would see a
            # broken connection instead of the answer.
            for _ in body:
                pass
        except Gone:
            self.close_connection = True
            return None
        return self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def _body_length(self) -> int | None:
        if coding := self.headers.get("Transfer-Encoding"):
            if coding.lower() != "chunked":
                raise not_implemented(f"the transfer coding {coding}")
            return None
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch(r"\d{1,15}", length, re.A):
            raise invalid("Invalid Content-Length")
        return int(length)

    def _dispatch(self, body: Body) -> Reply:
        parts = urlsplit(self.path)
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            query.setdefault(name, []).append(value)
        for name in self.headers:
            if name.lower().startswith("x-goog-") and name.lower() not in HEADERS:
                raise not_implemented(f"the header {name}")
        for route in self.table:
            found = (
                route.pattern.fullmatch(parts.path) if route.method == self.command else None
            )
            if found is None:
                continue
            unknown = set(query) - route.parameters - COMMON
            if unknown:
                raise invalid(f"this local server does not know: {', '.join(sorted(unknown))}")
            names = {key: unquote(value) for key, value in found.groupdict().items()}
            base = f"http://{self.headers.get('Host', '')}"
            call = Call(self.command, parts.path, names, query, self.headers, body, base)
            return route.handler(call)
        raise not_implemented(f"{self.command} {parts.path}")

    def _send(self, reply: Reply) -> None:
        body = reply.body
        length = body.length if isinstance(body, Part) else len(body)
        file = body.path.open("rb") if isinstance(body, Part) and length else None
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status not in {204, 304}:
                self.send_header("Content-Length", str(length))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                if file is not None and isinstance(body, Part):
                    self.wfile.flush()
                    self.connection.sendfile(file, body.start, length)
                elif isinstance(body, bytes):
                    self.wfile.write(body)
            self.wfile.flush()
        finally:
            if file is not None:
                file.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: only what goes wrong inside is."""
