"""What goes to Azure Blob Storage and what comes from it, as streams."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from requests import Response

from providers.azure_errors import SDK_ERRORS, translate

_PIECE = 1 << 20


class Pieces:
    """Bytes sent without a copy, a piece at a time: each has the timeout for itself."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        for at in range(0, len(self._data), _PIECE):
            yield self._data[at : at + _PIECE]


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
            raise translate(error, f"reading {self._name}") from None
        return data

    def close(self) -> None:
        """See `ports.Body.close`."""
        self._answer.close()


def digests(data: bytes) -> tuple[bytes, bytes]:
    """SHA-256 and MD5, at once: both are computed without the interpreter's lock."""
    with ThreadPoolExecutor(1) as beside:
        sha256 = beside.submit(lambda: hashlib.sha256(data).digest())
        # Against accidents on the way; the manifest's SHA-256 is against people.
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        return sha256.result(), md5
