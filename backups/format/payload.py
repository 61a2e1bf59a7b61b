"""The payload of age v1: STREAM over 64 KiB chunks (C2SP age.md, Payload).

Nothing leaves here before the chunk that holds it was authenticated, and a stream that
ends without its final chunk is an error: whatever was released is a prefix of the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from backups.errors import Damaged
from backups.format.age import (
    FILE_KEY_SIZE,
    MAX_HEADER,
    Buffer,
    Header,
    Opener,
    Recipient,
    Stanza,
    derive,
)
from backups.ports import Body, Entropy

CHUNK = 64 * 1024
NONCE_SIZE = 16
_TAG = 16
_SEALED = CHUNK + _TAG


def encrypt(
    plain: Buffer,
    recipients: Iterable[Recipient],
    entropy: Entropy,
    extra: Sequence[Stanza] = (),
) -> bytes:
    """A whole age file in memory. Raises ConfigError."""
    file_key = entropy.bytes(FILE_KEY_SIZE)
    header = Header.build(file_key, recipients, entropy, extra)
    encryptor = Encryptor(file_key, entropy.bytes(NONCE_SIZE))
    return b"".join([header.raw, encryptor.update(plain), encryptor.finish()])


def decrypt(file: Buffer | Body, identities: Iterable[Opener]) -> Iterator[bytes]:
    """The plain chunks of an age file, each authenticated before it is yielded.

    The header is checked by the call itself. Raises UnknownFormat, WrongKey, Damaged.
    """
    source = Source(file) if isinstance(file, Buffer) else Source(body=file)
    file_key = source.header().open(identities)
    return decrypt_chunks(source, file_key)


class Encryptor:
    """Encrypts a payload as it comes; the header is made apart.

    A full chunk waits until more follows, because the last one is sealed differently.
    """

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._cipher = _cipher(file_key, nonce)
        self._head = nonce
        self._pending = bytearray()
        self._counter = 0

    def update(self, data: Buffer) -> bytes:
        """Take plain bytes; returns what is sealed by now, maybe nothing."""
        out = [self._head]
        self._head = b""
        rest = memoryview(data)
        at = 0
        if self._pending:
            at = CHUNK - len(self._pending)
            self._pending += rest[:at]
            if at < len(rest):
                out.append(self._seal(self._pending, last=False))
                self._pending.clear()
        while at + CHUNK < len(rest):
            out.append(self._seal(rest[at : at + CHUNK], last=False))
            at += CHUNK
        self._pending += rest[at:]
        return b"".join(out)

    def finish(self) -> bytes:
        """The rest. Nothing may be added after."""
        return self._head + self._seal(self._pending, last=True)

    def _seal(self, chunk: Buffer, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._counter, last), chunk, None)
        self._counter += 1
        return sealed


class Source:
    """Where an age file is read from: bytes at hand, and what a stream still has."""

    def __init__(self, head: Buffer = b"", body: Body | None = None) -> None:
        self._head = memoryview(head)
        self._body = body

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, fewer at the end only."""
        piece, self._head = self._head[:count], self._head[count:]
        if len(piece) == count or self._body is None:
            return piece
        parts: list[Buffer] = [piece]
        missing = count - len(piece)
        while missing and (more := self._body.read(missing)):
            parts.append(more)
            missing -= len(more)
        return memoryview(b"".join(parts))

    def header(self) -> Header:
        """Read the header and stop behind it. Raises UnknownFormat, Damaged."""
        if self._body is not None:
            self._head = self.take(MAX_HEADER)
        header = Header.parse(self._head)
        self._head = self._head[len(header.raw) :]
        return header


def decrypt_chunks(source: Source, file_key: bytes) -> Iterator[bytes]:
    """The chunks of the payload that `source` stands at. Raises Damaged."""
    nonce = bytes(source.take(NONCE_SIZE))
    if len(nonce) != NONCE_SIZE:
        raise Damaged("the file ends before its payload")
    return _chunks(source, _cipher(file_key, nonce))


def _chunks(source: Source, cipher: ChaCha20Poly1305) -> Iterator[bytes]:
    counter = 0
    while True:
        sealed = source.take(_SEALED)
        # Only a full chunk can be followed by another. That it is the last is known by
        # its nonce alone: where a stream ends proves nothing.
        plain = _unseal(cipher, counter, sealed, last=False) if len(sealed) == _SEALED else None
        if plain is None:
            break
        yield plain
        counter += 1
    plain = _unseal(cipher, counter, sealed, last=True)
    if plain is None:
        raise Damaged(f"chunk {counter} is damaged, or the file was cut short there")
    if not plain and counter:
        raise Damaged("the final chunk is empty")
    yield plain
    if source.take(1):
        raise Damaged("bytes follow the final chunk")


def decrypt_range(
    read: Callable[[int, int], bytes],
    size: int,
    identities: Iterable[Opener],
    start: int,
    length: int,
) -> bytes:
    """Plain bytes `[start, start + length)` of an age file, clipped to its end.

    `read(offset, count)` gives stored bytes, `size` is how many there are. The final chunk
    is always checked too: it alone proves where the file ends (age.md, Payload).
    Raises UnknownFormat, WrongKey, Damaged.
    """
    source = Source(read(0, min(size, MAX_HEADER + NONCE_SIZE)))
    header = source.header()
    file_key = header.open(identities)
    nonce = bytes(source.take(NONCE_SIZE))
    first = len(header.raw) + NONCE_SIZE
    count = max(1, -(-(size - first) // _SEALED))
    rest = size - first - (count - 1) * _SEALED
    if len(nonce) != NONCE_SIZE or rest < _TAG or (rest == _TAG and count > 1):
        raise Damaged("the file is cut short")
    cipher = _cipher(file_key, nonce)

    def chunks(begin: int, end: int) -> bytes:
        stop = min(first + end * _SEALED, size)
        stored = memoryview(read(first + begin * _SEALED, stop - first - begin * _SEALED))
        out: list[bytes] = []
        for index in range(begin, end):
            sealed = stored[(index - begin) * _SEALED :][:_SEALED]
            plain = _unseal(cipher, index, sealed, last=index == count - 1)
            if plain is None:
                raise Damaged(f"chunk {index} is damaged, or the file was cut short")
            out.append(plain)
        return b"".join(out)

    final = chunks(count - 1, count)
    begin = min(start // CHUNK, count - 1)
    end = min(-(-(start + length) // CHUNK), count)
    plain = chunks(begin, min(end, count - 1)) if begin < min(end, count - 1) else b""
    if end == count:
        plain += final
    return plain[start - begin * CHUNK :][:length]


def _cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive(file_key, nonce, b"payload"))


def _nonce(counter: int, last: bool) -> bytes:
    return counter.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _unseal(
    cipher: ChaCha20Poly1305, counter: int, sealed: Buffer, *, last: bool
) -> bytes | None:
    try:
        return cipher.decrypt(_nonce(counter, last), sealed, None)
    except InvalidTag:
        return None
