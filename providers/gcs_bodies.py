"""What goes to Google Cloud Storage and what comes from it, as streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from requests import Response

from providers.gcs_errors import SDK_ERRORS, translate

_PIECE = 1 << 20


class Related:
    """An object's resource and bytes as multipart/related (RFC 2387): sent without a copy, a
    piece at a time so that each has the timeout for itself, and again when a token expired."""

    def __init__(
        self, resource: dict[str, Any], data: bytes, boundary: str, check: Callable[[], None]
    ) -> None:
        # The boundary is the data's own SHA-256, which the data cannot contain.
        self.content_type = f"multipart/related; boundary={boundary}"
        self._data = data
        self._check = check
        self._head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + len(self._data) + len(self._tail)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._head
        view = memoryview(self._data)
        for at in range(0, len(view), _PIECE):
            yield view[at : at + _PIECE]
        self._check()  # without its end nothing of it is stored
        yield self._tail


class Download:
    """`ports.Body` over the HTTP answer."""

    def __init__(self, answer: Response, name: str) -> None:
        self._answer = answer
        self._name = name

    def read(self, size: int = -1, /) -> bytes:
        """See `ports.Body.read`."""
        try:
            data: bytes = self._answer.raw.read(
                None if size < 0 else size, decode_content=False
            )
        except SDK_ERRORS as error:
            raise translate(error, f"reading {self._name}") from error
        return data

    def close(self) -> None:
        """See `ports.Body.close`."""
        self._answer.close()
