"""Keys without a service: a passphrase that a person keeps, or a file on another disk.

    passphrase:env:NAME   passphrase:file:PATH     the reference leads to it
    keyfile:PATH                                    32 bytes in hex, private

scrypt (RFC 7914) makes a key of a passphrase, 128 MiB and about half a second each time;
ChaCha20-Poly1305 (RFC 8439) seals, with the context as additional data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from backups.errors import ConfigError, KeyRefused
from backups.model import Secret
from backups.ports import Entropy
from backups.private import read_private
from providers.kms_context import bound

SALT, NONCE = 16, 12
_COST = 1 << 17
SHORTEST = 12
"""Characters of a passphrase."""


class LocalWrapper:
    """Adapter of `ports.KeyWrapper` on a key that `key(salt)` gives."""

    def __init__(self, key: Callable[[bytes], bytes], entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        salt, nonce = self._entropy.bytes(SALT), self._entropy.bytes(NONCE)
        sealed = ChaCha20Poly1305(self._key(salt)).encrypt(nonce, secret, salt + bound(context))
        return salt + nonce + sealed

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        salt, nonce, sealed = (
            wrapped[:SALT],
            wrapped[SALT : SALT + NONCE],
            wrapped[SALT + NONCE :],
        )
        try:
            return ChaCha20Poly1305(self._key(salt)).decrypt(
                nonce, sealed, salt + bound(context)
            )
        except (InvalidTag, ValueError):
            raise KeyRefused(
                "this is not the key, or it was sealed for another use",
                hint="Give the passphrase or key file that it was sealed with.",
            ) from None

    def close(self) -> None:
        """See the port."""


def passphrase(text: Secret, entropy: Entropy) -> LocalWrapper:
    """Raises ConfigError for one that is easily guessed."""
    if len(text.reveal()) < SHORTEST:
        raise ConfigError(
            f"the passphrase has fewer than {SHORTEST} characters",
            hint="Take several words that nobody else would put together.",
        )

    def key(salt: bytes) -> bytes:
        kdf = Scrypt(salt=salt, length=32, n=_COST, r=8, p=1)
        return kdf.derive(text.reveal().encode())

    return LocalWrapper(key, entropy)


def key_file(path: Path, entropy: Entropy) -> LocalWrapper:
    """Raises ConfigError when it is not there, not private, or not a key."""
    try:
        key = bytes.fromhex(read_private(path, "the key file"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(
            f"{path} holds no key", hint="Make one with: openssl rand -hex 32 > FILE"
        )
    return LocalWrapper(lambda _: key, entropy)
