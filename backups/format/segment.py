"""Segments: one zstd frame in one age file, and the context that binds it to its place.

The layout is FORMAT.md section 3 (age v1: C2SP age.md; zstd: RFC 8878).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import zstandard

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical
from backups.format.age import (
    FILE_KEY_SIZE,
    Buffer,
    Header,
    Opener,
    Recipient,
    Stanza,
)
from backups.format.payload import NONCE_SIZE, Encryptor, Source, decrypt_chunks
from backups.model import Context
from backups.ports import Entropy

PLAIN_SIZE = 64 << 20
"""Plain bytes at which a writer ends a segment."""
STORED_SIZE = 16 << 20
"""Stored bytes at which it does, too: what doesn't compress still fits in memory."""
MAX_WINDOW = 1 << 27
"""Bytes that a zstd frame may ask a reader to look back."""

CONTEXT_TYPE = "bloomneo-context"
_CONTEXT_VERSION = "1"

_BITE = 2048
"""Compressed bytes decompressed at a time. The worst that a frame can do is 128 KiB out of
four bytes, so this bounds one step to the size of a segment."""


# --- context --------------------------------------------------------------------------


def context_stanza(context: Context) -> Stanza:
    """The header stanza that says where a segment belongs."""
    return Stanza((CONTEXT_TYPE, _CONTEXT_VERSION), canonical.dumps(_fields(context)))


def find_context(header: Header) -> Stanza:
    """The context stanza of a header. Raises Damaged unless there is exactly one, and
    UnknownFormat when a newer program wrote it."""
    found = [stanza for stanza in header.stanzas if stanza.args[0] == CONTEXT_TYPE]
    if len(found) != 1:
        raise Damaged(f"the header has {len(found) or 'no'} context stanzas, not one")
    if found[0].args[1:] != (_CONTEXT_VERSION,):
        raise UnknownFormat("the segment's context is of a version this program can't read")
    return found[0]


def check_context(header: Header, expected: Context) -> None:
    """Raises Damaged, saying what differs, unless the segment belongs where it is read.

    The header's MAC must have been checked before.
    """
    body = find_context(header).body
    if body != canonical.dumps(_fields(expected)):
        raise Damaged(f"the segment belongs elsewhere: {_difference(body, _fields(expected))}")


def _fields(context: Context) -> dict[str, object]:
    return {
        "v": 1,
        "format": "bloomneo-backups/v1",
        "customer": context.customer,
        "database": context.database,
        "backup": context.backup,
        "artifact": context.artifact,
        "segment": context.index,
        "last": context.last,
        "engine": context.engine,
        "compression": "zstd",
    }


def _difference(body: bytes, expected: dict[str, object]) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return "its context can't be read"
    words = [
        f"{name} is {str(found.get(name, 'missing'))[:64]!r}, not {str(value)!r}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    return "; ".join(words) or "its context has other fields or another spelling"


# --- writing --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BuiltSegment:
    """A segment ready to be put whole."""

    data: bytes
    plain_bytes: int
    sha256: bytes
    """Digest of `data`."""


class SegmentBuilder:
    """Builds one segment in memory as its plain bytes come.

    Whether it is the artifact's last is known only at its end, yet stands in the header at
    its front. So the payload is made first, which the header has no part in (its key comes
    from file key and nonce), and the header is put before it when all is known.
    """

    def __init__(
        self,
        recipients: Sequence[Recipient],
        context: Context,
        entropy: Entropy,
        *,
        level: int = 3,
        threads: int = 0,
    ) -> None:
        """`context.last` is ignored, `finish` says it. `threads` above 0 compress aside."""
        self._recipients = recipients
        self._context = context
        self._entropy = entropy
        self._file_key = entropy.bytes(FILE_KEY_SIZE)
        self._encryptor = Encryptor(self._file_key, entropy.bytes(NONCE_SIZE))
        self._zstd = zstandard.ZstdCompressor(
            level=level, write_checksum=True, threads=threads
        ).compressobj()
        self._payload: list[bytes] = []
        self.plain_bytes = 0
        """Bytes written."""
        self.stored_bytes = 0
        """Bytes of payload by now; the compressor may hold back some more."""

    @property
    def is_full(self) -> bool:
        """Whether a writer should end this segment here."""
        return self.plain_bytes >= PLAIN_SIZE or self.stored_bytes >= STORED_SIZE

    def write(self, block: Buffer) -> None:
        """Add plain bytes; at most 1 MiB at a time, or segments grow beyond their size."""
        self.plain_bytes += len(block)
        self._keep(self._encryptor.update(self._zstd.compress(block)))

    def finish(self, last: bool) -> BuiltSegment:
        """End the segment; nothing can be written after. Raises ConfigError when there is
        no usable recipient."""
        self._keep(self._encryptor.update(self._zstd.flush()))
        self._keep(self._encryptor.finish())
        context = context_stanza(replace(self._context, last=last))
        header = Header.build(self._file_key, self._recipients, self._entropy, (context,))
        data = b"".join([header.raw, *self._payload])
        self._payload.clear()
        return BuiltSegment(data, self.plain_bytes, hashlib.sha256(data).digest())

    def _keep(self, sealed: bytes) -> None:
        if sealed:
            self._payload.append(sealed)
            self.stored_bytes += len(sealed)


# --- reading --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """A header for a stored segment: its own, or one that replaces it after a rotation."""

    raw: bytes
    skip: int
    """Bytes at the front of the stored object that its own header takes."""


def open_segment(
    data: Buffer,
    identities: Iterable[Opener],
    expected: Context,
    plain_bytes: int,
    header: SegmentHeader | None = None,
) -> Iterator[bytes]:
    """The plain bytes of a stored segment, `plain_bytes` in all, in blocks of any size.

    Header and context are checked by the call itself, each chunk before it is released;
    what was released before an error is a prefix of the truth. `header` replaces the
    object's own. Raises UnknownFormat, WrongKey, Damaged.
    """
    source = Source(data)
    if header is None:
        opened = source.header()
    else:
        opened = Header.parse(header.raw)
        if opened.raw != header.raw:
            raise Damaged("bytes follow the replacement header")
        source.take(header.skip)
    file_key = opened.open(identities)
    check_context(opened, expected)
    return _decompress(decrypt_chunks(source, file_key), plain_bytes)


def _decompress(chunks: Iterable[bytes], plain_bytes: int) -> Iterator[bytes]:
    """Exactly one frame of exactly that many bytes. Raises Damaged."""
    frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    missing = plain_bytes
    for chunk in chunks:
        for at in range(0, len(chunk), _BITE):
            try:
                block = frame.decompress(chunk[at : at + _BITE])
            except zstandard.ZstdError as error:  # also when bytes follow a whole frame
                raise Damaged("the compressed data is damaged") from error
            missing -= len(block)
            if missing < 0:
                raise Damaged(f"the segment holds more than its {plain_bytes} bytes")
            if block:
                yield block
    if not frame.eof or frame.unused_data:
        raise Damaged("the compressed data is cut short, or bytes follow it")
    if missing:
        raise Damaged(f"the segment holds {missing} bytes fewer than its {plain_bytes}")
