"""Signatures of webhooks: Standard Webhooks 1.0.0, "Signature scheme" and "Webhook headers".

`v1` is HMAC-SHA256 by a shared secret, `whsec_` and 24 to 64 bytes in base64. `v1a` is Ed25519
by a key of ours, `whsk_` and its seed in base64 (32 bytes, or 64 with the public key after it).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import ConfigError
from backups.model import Secret


def headers(event: str, body: bytes, at: datetime, secrets: Iterable[Secret]) -> dict[str, str]:
    """Of one attempt made then: one signature per secret, in their order.

    Raises ConfigError when a secret is none."""
    timestamp = str(int(at.timestamp()))
    content = b".".join((event.encode(), timestamp.encode(), body))
    return {
        "webhook-id": event,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_sign(secret, content) for secret in secrets),
    }


def _sign(secret: Secret, content: bytes) -> str:
    kind, _, text = secret.reveal().partition("_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if kind == "whsec" and 24 <= len(key) <= 64:
        return f"v1,{_text(hmac.digest(key, content, hashlib.sha256))}"
    if kind == "whsk" and len(key) in (32, 64):
        return f"v1a,{_text(Ed25519PrivateKey.from_private_bytes(key[:32]).sign(content))}"
    raise ConfigError(
        "a webhook's secret is none",
        hint="It is whsec_ and 24 to 64 random bytes in base64: "
        "(printf whsec_; openssl rand -base64 32).",
    )


def _text(signature: bytes) -> str:
    return base64.b64encode(signature).decode()
