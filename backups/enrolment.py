"""What a customer is shown at enrolment, derived from one key of the home, so that nothing of
it is lost with the catalog. Pure.

Each value is HMAC-SHA256 (RFC 2104) over a label and the things it is bound to, as compact
JSON; cut to 128 bits where a person copies it.
"""

from __future__ import annotations

import hashlib
import hmac
import json


def external_id(key: bytes, customer: str) -> str:
    """What we show when we assume a customer's AWS role: one per customer, made by us, so
    that naming another customer's role is of no use (AWS IAM User Guide, "The confused
    deputy problem"). Not a secret."""
    return f"bloomneo-{_derive(key, 'external-id', customer)[:32]}"


def ownership_key(key: bytes, customer: str, place: str) -> str:
    """The key of an object that only somebody who may write to the bucket can put there;
    `place` is the store without options. Its content does not matter."""
    return f"v1/enrolment/{_derive(key, 'ownership', customer, place)[:32]}"


def canary(key: bytes, challenge: str, customer: str, recipient: str) -> str:
    """The text of a canary: only who decrypts it knows it. `challenge` is in it, so that an
    answer can be checked without remembering what was asked."""
    return f"{challenge}.{_derive(key, 'canary', challenge, customer, recipient)[:32]}"


def proves(key: bytes, answer: str, customer: str, recipient: str) -> bool:
    """Whether an answer is the text of a canary for this recipient; takes the same time
    whatever the answer."""
    challenge = answer.strip().partition(".")[0]
    expected = canary(key, challenge, customer, recipient)
    return hmac.compare_digest(answer.strip().encode(), expected.encode())


def _derive(key: bytes, *bound: str) -> str:
    message = json.dumps(bound, separators=(",", ":")).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()
