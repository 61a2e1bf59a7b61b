"""Headers and keys of age v1, binary, X25519 (C2SP age.md: c2sp.org/age).

Written here rather than taken from a library because segments need what libraries hide:
an extra header stanza, a header made after its payload, and a new header over an old one.
Everything a file claims is bounded before any cryptography looks at it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from backups.errors import ConfigError, Damaged, UnknownFormat, WrongKey
from backups.format.bech32 import bech32_decode, bech32_encode
from backups.ports import Entropy

MAX_HEADER = 64 * 1024
"""Bytes; a longer header is refused unread."""
MAX_STANZAS = 32
"""Each may cost a scalar multiplication before the header can be authenticated."""

FILE_KEY_SIZE = 16
_TAG = 16
_VERSION = b"age-encryption.org/v1"
_X25519_INFO = b"age-encryption.org/v1/X25519"
_COLUMNS = 64
_ARGUMENT = re.compile(rb"[!-~]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")

Buffer = bytes | bytearray | memoryview


# --- header ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stanza:
    """One stanza of a header: its arguments (the first names its type) and its body."""

    args: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """As it stands in a file; the last body line is always a short one."""
        body = _encode64(self.body)
        lines = [body[at : at + _COLUMNS] for at in range(0, len(body) + 1, _COLUMNS)]
        return "\n".join(["-> " + " ".join(self.args), *lines, ""]).encode()


@dataclass(frozen=True, slots=True)
class Header:
    """A header as it was read or built; nothing in it is proven before `open`."""

    stanzas: tuple[Stanza, ...]
    mac: bytes
    raw: bytes
    """The whole header, its final line feed included: the MAC covers bytes, not meaning."""

    @classmethod
    def build(
        cls,
        file_key: bytes,
        recipients: Iterable[Recipient],
        entropy: Entropy,
        extra: Sequence[Stanza] = (),
    ) -> Self:
        """Wrap `file_key` for every recipient; `extra` stanzas follow under the MAC.

        Raises ConfigError when there is no recipient, or too many.
        """
        wrapped = tuple(recipient.wrap(file_key, entropy) for recipient in recipients)
        if not wrapped:
            raise ConfigError("there is no recipient to encrypt to")
        stanzas = (*wrapped, *extra)
        if len(stanzas) > MAX_STANZAS:
            raise ConfigError(f"{len(wrapped)} recipients are too many for one header")
        start = b"\n".join([_VERSION, b"".join(s.encode() for s in stanzas)]) + b"---"
        mac = _header_mac(file_key, start).finalize()
        return cls(stanzas, mac, start + b" " + _encode64(mac).encode() + b"\n")

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read the header at the front of `data`. Raises UnknownFormat, Damaged."""
        text = bytes(memoryview(data)[:MAX_HEADER])
        if not text.startswith(_VERSION + b"\n"):
            raise UnknownFormat("this is not an age v1 file")
        at = len(_VERSION) + 1
        stanzas: list[Stanza] = []
        while True:
            line, after = _line(text, at)
            if line.startswith(b"--- "):
                break
            if len(stanzas) == MAX_STANZAS:
                raise Damaged(f"the header has more than {MAX_STANZAS} stanzas")
            stanza, at = _stanza(text, line, after)
            stanzas.append(stanza)
        if not stanzas:
            raise Damaged("the header names no recipient")
        # age.md, scrypt: a passphrase stanza must be alone, or it would not authenticate.
        if len(stanzas) > 1 and any(s.args[0] == "scrypt" for s in stanzas):
            raise Damaged("the header mixes a passphrase with other recipients")
        return cls(tuple(stanzas), decode64(line[4:], 32), text[:after])

    def unwrap(self, identities: Iterable[Opener]) -> bytes:
        """The file key that the first fitting stanza holds, not yet authenticated.

        Raises WrongKey when none fits, Damaged when a stanza is malformed.
        """
        for identity in identities:
            for stanza in self.stanzas:
                file_key = identity.unwrap(stanza)
                if file_key is not None:
                    return file_key
        raise WrongKey("none of the identities at hand opens this file")

    def authenticate(self, file_key: bytes) -> None:
        """Check the MAC. Raises Damaged."""
        end = self.raw.rindex(b" ")
        try:
            _header_mac(file_key, self.raw[:end]).verify(self.mac)
        except InvalidSignature:
            raise Damaged("the header was altered: its MAC does not match") from None

    def open(self, identities: Iterable[Opener]) -> bytes:
        """The file key, after the header's MAC was checked. Raises WrongKey, Damaged."""
        file_key = self.unwrap(identities)
        self.authenticate(file_key)
        return file_key


def _line(text: bytes, at: int) -> tuple[bytes, int]:
    end = text.find(b"\n", at)
    if end < 0:
        raise Damaged(f"the header is cut short, or longer than {MAX_HEADER} bytes")
    return text[at:end], end + 1


def _stanza(text: bytes, line: bytes, at: int) -> tuple[Stanza, int]:
    args = line[3:].split(b" ")
    if not line.startswith(b"-> ") or not all(_ARGUMENT.fullmatch(arg) for arg in args):
        raise Damaged("the header has a malformed stanza")
    body: list[bytes] = []
    while True:
        line, at = _line(text, at)
        body.append(line)
        if len(line) > _COLUMNS:
            raise Damaged("the header has an overlong line")
        if len(line) < _COLUMNS:
            break
    return Stanza(tuple(arg.decode("ascii") for arg in args), decode64(b"".join(body))), at


def _encode64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def decode64(text: bytes, size: int | None = None) -> bytes:
    """Unpadded base64, canonical, of `size` bytes if given. Raises Damaged."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        data = b""
    if not _BASE64.fullmatch(text) or _encode64(data).encode() != text:
        raise Damaged("the header has malformed base64")
    if size is not None and len(data) != size:
        raise Damaged("the header has a value of the wrong length")
    return data


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 with 32 bytes of output, as age.md uses it everywhere."""
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def _header_mac(file_key: bytes, covered: bytes) -> HMAC:
    mac = HMAC(derive(file_key, b"", b"header"), SHA256())
    mac.update(covered)
    return mac


# --- keys -----------------------------------------------------------------------------


class Opener(Protocol):
    """Whatever can unwrap a stanza of its own type."""

    def unwrap(self, stanza: Stanza, /) -> bytes | None:
        """The file key, or None when the stanza is for somebody else. Raises Damaged."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """An X25519 public key, `age1…` as text."""

    public: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ConfigError."""
        key = bech32_decode("age", text.strip())
        if key is None or len(key) != 32:
            raise ConfigError(
                f"{text.strip()[:80]!r} is not an age recipient",
                hint="A recipient starts with age1 and is the public half of an age key.",
            )
        return cls(key)

    def __str__(self) -> str:
        return bech32_encode("age", self.public)

    def wrap(self, file_key: bytes, entropy: Entropy) -> Stanza:
        """A stanza that only this recipient's identity opens. Raises ConfigError."""
        ephemeral = X25519PrivateKey.from_private_bytes(entropy.bytes(32))
        share = ephemeral.public_key().public_bytes_raw()
        try:
            shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        except ValueError:
            raise ConfigError(f"{self} is not a usable recipient (low order)") from None
        key = derive(shared, share + self.public, _X25519_INFO)
        body = ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)
        return Stanza(("X25519", _encode64(share)), body)


@dataclass(frozen=True, slots=True)
class Identity:
    """An X25519 private key. Its repr hides the key."""

    _secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """A new one."""
        return cls(entropy.bytes(32))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `AGE-SECRET-KEY-1…`. Raises ConfigError, without showing the text."""
        key = bech32_decode("age-secret-key-", text.strip())
        if key is None or len(key) != 32:
            raise ConfigError(
                "the text is not an age identity",
                hint="An identity starts with AGE-SECRET-KEY-1; `age-keygen` makes one.",
            )
        return cls(key)

    def reveal(self) -> str:
        """The secret text `AGE-SECRET-KEY-1…`."""
        return bech32_encode("age-secret-key-", self._secret).upper()

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        private = X25519PrivateKey.from_private_bytes(self._secret)
        return Recipient(private.public_key().public_bytes_raw())

    def unwrap(self, stanza: Stanza, /) -> bytes | None:
        """The file key, or None when the stanza is for somebody else. Raises Damaged."""
        if stanza.args[0] != "X25519":
            return None
        if len(stanza.args) != 2 or len(stanza.body) != FILE_KEY_SIZE + _TAG:
            raise Damaged("the header has a malformed X25519 stanza")
        share = decode64(stanza.args[1].encode(), 32)
        private = X25519PrivateKey.from_private_bytes(self._secret)
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:
            raise Damaged("the header has an X25519 share of low order") from None
        key = derive(shared, share + self.recipient.public, _X25519_INFO)
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(12), stanza.body, None)
        except InvalidTag:
            return None


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Every identity of a file as `age-keygen` writes it. Raises ConfigError."""
    lines = (line.strip() for line in text.splitlines())
    keys = tuple(Identity.parse(line) for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError("the identity file holds no identity")
    return keys
