"""A file that only a key wrapper's key opens: how an identity lies at rest. Pure.

    {"box": BASE64, "context": {"customer": "", "purpose": "restore-identity"}, "v": 1,
     "wrapped": BASE64, "wrapper": "aws-kms://..."}

Canonical JSON and one LF. A data key of 32 bytes, for this file alone, is sealed by the wrapper
(`wrapped`); it encrypts the content with ChaCha20-Poly1305 (RFC 8439), nonce zero as no key
seals twice. Wrapper and context are its additional data: a service that authenticates no
context of its own can't be made to open a file for another customer's either.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from backups.errors import Damaged, KeyRefused, UnknownFormat
from backups.format import canonical
from backups.ports.keys import KeyWrapper
from backups.ports.world import Entropy

PURPOSE = "restore-identity"
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What lies in the file."""

    wrapper: str
    """URL of who can open it."""
    context: Mapping[str, str]
    wrapped: bytes
    box: bytes

    def encode(self) -> bytes:
        """As the file has it."""
        document = {
            "v": 1,
            "wrapper": self.wrapper,
            "context": dict(self.context),
            "wrapped": b64encode(self.wrapped).decode(),
            "box": b64encode(self.box).decode(),
        }
        return canonical.dumps(document) + b"\n"


def context_for(customer: str) -> dict[str, str]:
    """What a key is used for; `customer` is empty for the identity of all."""
    return {"purpose": PURPOSE, "customer": customer}


def seal(
    content: bytes,
    url: str,
    wrapper: KeyWrapper,
    context: Mapping[str, str],
    entropy: Entropy,
) -> Sealed:
    """Raises KeyRefused, KeyServiceUnavailable."""
    key = entropy.bytes(32)
    box = ChaCha20Poly1305(key).encrypt(_NONCE, content, _bound(url, context))
    return Sealed(url, context, wrapper.wrap(key, context), box)


def unseal(sealed: Sealed, wrapper: KeyWrapper, context: Mapping[str, str]) -> bytes:
    """The content, if it was sealed in that very context.

    Raises KeyRefused, KeyServiceUnavailable, Damaged."""
    if dict(sealed.context) != dict(context):
        raise KeyRefused("this identity was sealed for another customer or purpose")
    key = wrapper.unwrap(sealed.wrapped, context)
    try:
        return ChaCha20Poly1305(key).decrypt(
            _NONCE, sealed.box, _bound(sealed.wrapper, sealed.context)
        )
    except (InvalidTag, ValueError):
        raise Damaged("the sealed identity is damaged, or its key is another") from None


def read(data: bytes) -> Sealed:
    """What a file holds. Raises UnknownFormat, Damaged."""
    try:
        document = json.loads(data)
        if document["v"] != 1:
            raise UnknownFormat("the sealed identity is of a newer format")
        found = Sealed(
            str(document["wrapper"]),
            {str(name): str(value) for name, value in document["context"].items()},
            b64decode(document["wrapped"], validate=True),
            b64decode(document["box"], validate=True),
        )
        whole = found.encode() == data
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise Damaged("the sealed identity is not as this program writes it")
    return found


def _bound(url: str, context: Mapping[str, str]) -> bytes:
    return canonical.dumps({"wrapper": url, "context": dict(context)})
