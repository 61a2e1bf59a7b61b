"""Multipart uploads: a document and the content in one body, taken apart as it comes.

Sources: cloud.google.com/storage/docs/json_api/v1/how-tos/multipart-upload; RFC 2387, 2046.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser

from refusals import Refusal, not_implemented
from state import Json
from wire import PIECE, Body, parse_json

DEFAULT_TYPE = "application/octet-stream"


def read_related(headers: Message, body: Body) -> tuple[Json, str, Iterator[bytes]]:
    """RFC 2387: the document, then the content's type and the content itself."""
    boundary = headers.get_boundary()
    if headers.get_content_type() != "multipart/related" or not boundary:
        raise Refusal(400, "badContent", "Bad content: not multipart/related")
    reader = PartReader(body, b"\r\n--" + boundary.encode())
    reader.open()
    first = reader.headers()
    if first.get_content_type() != "application/json":
        raise Refusal(400, "badContent", "Bad content: the first part must be JSON")
    data = b"".join(reader.content())
    second = reader.headers()
    if second.get("Content-Transfer-Encoding", "binary").lower() not in {"binary", "8bit"}:
        raise not_implemented("transfer encodings of parts")
    kind = str(second.get("Content-Type") or DEFAULT_TYPE)
    return parse_json(data), kind, reader.last_content()


class PartReader:
    """Takes a multipart body apart as it comes, without holding it."""

    def __init__(self, body: Body, delimiter: bytes) -> None:
        self._body = body
        self._delimiter = delimiter
        self._held = b"\r\n"  # so that the first delimiter looks like the others
        self._closed = False

    def open(self) -> None:
        if any(self.content()):
            raise Refusal(400, "badContent", "Bad content: no part begins the body")

    def headers(self) -> Message:
        while b"\r\n\r\n" not in self._held:
            self._more(limit=64 * 1024)
        lead, _, self._held = self._held.partition(b"\r\n\r\n")
        return BytesParser().parsebytes(lead.lstrip() + b"\r\n\r\n", headersonly=True)

    def content(self) -> Iterator[bytes]:
        """Up to the next delimiter, which is taken off too."""
        keep = len(self._delimiter) - 1
        while (at := self._held.find(self._delimiter)) < 0:
            if len(self._held) > keep:
                yield self._held[:-keep]
                self._held = self._held[-keep:]
            self._more()
        yield from filter(None, [self._held[:at]])
        self._held = self._held[at + len(self._delimiter) :]
        while len(self._held) < 2:
            self._more()
        self._closed = self._held.startswith(b"--")

    def last_content(self) -> Iterator[bytes]:
        yield from self.content()
        if not self._closed:
            raise Refusal(400, "badContent", "Bad content: more than two parts")

    def _more(self, limit: int | None = None) -> None:
        piece = self._body.read(PIECE)
        if not piece or (limit is not None and len(self._held) > limit):
            raise Refusal(400, "badContent", "Bad content: the multipart body does not end")
        self._held += piece
