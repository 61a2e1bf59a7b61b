"""Signed envelopes: DSSE v1 with Ed25519, and the PEM files of its keys. Pure.

Sources: DSSE protocol.md and envelope.md 1.0.2 (secure-systems-lab), RFC 8032, RFC 8410
(keys as PKCS #8 and SubjectPublicKeyInfo). Narrower than DSSE allows, so that every byte of
an envelope matters: canonical JSON, padded standard base64, exactly one signature.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import TypeAdapter

from backups.errors import BadSignature, ConfigError, Damaged
from backups.format import canonical

MAX_ENVELOPE = 64 << 20
"""Bytes; looked at before anything is parsed."""


@dataclass(frozen=True, slots=True)
class _Signature:
    keyid: str
    sig: str


@dataclass(frozen=True, slots=True)
class _Envelope:
    payload: str
    payloadType: str
    signatures: tuple[_Signature]


_ENVELOPE = TypeAdapter(_Envelope)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding, the bytes that are signed (DSSE protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> bytes:
    """The envelope's bytes; the same input gives the same bytes (RFC 8032)."""
    signature = _Signature(
        keyid=key_id(key.public_key()),
        sig=base64.b64encode(key.sign(pae(payload_type, payload))).decode(),
    )
    text = base64.b64encode(payload).decode()
    return canonical.dumps(asdict(_Envelope(text, payload_type, (signature,))))


def unseal(envelope: bytes, keys: Iterable[Ed25519PublicKey]) -> tuple[str, bytes]:
    """Payload type and payload of an envelope that one of `keys` signed.

    Raises Damaged when it is too long or not what `seal` writes, BadSignature when none of
    `keys` signed it.
    """
    if len(envelope) > MAX_ENVELOPE:
        raise Damaged(f"the envelope is longer than {MAX_ENVELOPE} bytes")
    try:
        parsed = _ENVELOPE.validate_json(envelope, strict=True)
        (signature,) = parsed.signatures
        payload = base64.b64decode(parsed.payload, validate=True)
        signed = base64.b64decode(signature.sig, validate=True)
        # The comparison also finds what the lenient parsers let through: unused bits of
        # base64, unknown or repeated members, white space.
        rewritten = _Envelope(
            base64.b64encode(payload).decode(),
            parsed.payloadType,
            (_Signature(signature.keyid, base64.b64encode(signed).decode()),),
        )
        whole = canonical.dumps(asdict(rewritten)) == envelope
    except ValueError:  # pydantic's, base64's and ours
        whole = False
    if not whole:
        raise Damaged("the envelope is not a well-formed DSSE v1 envelope")
    key = {key_id(key): key for key in keys}.get(signature.keyid)
    if key is None:
        raise BadSignature(f"signed by key {signature.keyid[:64]!r}, which is not trusted here")
    try:
        key.verify(signed, pae(parsed.payloadType, payload))
    except InvalidSignature:
        raise BadSignature("the signature does not fit the envelope's content") from None
    return parsed.payloadType, payload


# --- keys -----------------------------------------------------------------------------


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw 32 bytes of the public key, hex."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """PKCS #8, not encrypted: the file's mode guards it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo, as `openssl pkeyutl -pubin` reads it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_private_pem(pem: bytes) -> Ed25519PrivateKey:
    """Raises ConfigError when it is not an unencrypted Ed25519 private key."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("the signing key is not an unencrypted Ed25519 private key in PEM")
    return key


def read_public_pem(pem: bytes) -> Ed25519PublicKey:
    """Raises ConfigError when it is not an Ed25519 public key."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("the verify key is not an Ed25519 public key in PEM")
    return key
