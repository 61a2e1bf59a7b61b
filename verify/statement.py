"""The signed statement about a bundle: in-toto Statement v1 in a DSSE envelope. Pure.

Source: in-toto attestation framework, spec/v1/statement.md. The subjects are the bundle's
files, the predicate says what of the report a machine asks first. The statement of one month
names that of the month before: a chain of which the customer holds every link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical, dsse
from verify.report.document import Report

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://bloomneo.com/backups/report/v1"
"""A name, in the form that in-toto asks for; nothing need be found there."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Hex."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One file of the bundle."""

    digest: Digest
    name: str


@dataclass(frozen=True, slots=True)
class Predicate:
    """What the report says in short."""

    month: str
    customer: str | None
    state: str
    databases: int
    passed: int
    exceptions: int
    previous: str | None
    corrects: str | None
    reason: str
    program: str


_STATEMENT = TypeAdapter(dict[str, object])
_PREDICATE = TypeAdapter(Predicate)
_SUBJECTS = TypeAdapter(tuple[Subject, ...])


def predicate_of(report: Report) -> Predicate:
    """The short form of a report."""
    identity = report.identity
    return Predicate(
        month=identity.month,
        customer=identity.customer,
        state=report.state,
        databases=report.coverage.databases,
        passed=report.coverage.passed,
        exceptions=len(report.exceptions),
        previous=identity.previous,
        corrects=identity.corrects,
        reason=identity.reason,
        program=identity.program,
    )


def sign(report: Report, files: Mapping[str, bytes], key: Ed25519PrivateKey) -> bytes:
    """The envelope; the same report and files give the same bytes."""
    subjects = [
        asdict(Subject(Digest(hashlib.sha256(data).hexdigest()), name))
        for name, data in sorted(files.items())
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "predicate": asdict(predicate_of(report)),
        "predicateType": PREDICATE_TYPE,
        "subject": subjects,
    }
    return dsse.seal(canonical.dumps(statement), PAYLOAD_TYPE, key)


def verify(
    envelope: bytes, keys: Sequence[Ed25519PublicKey]
) -> tuple[Predicate, tuple[Subject, ...]]:
    """Predicate and subjects of a statement that one of `keys` signed.

    Raises BadSignature, Damaged, UnknownFormat."""
    kind, payload = dsse.unseal(envelope, keys)
    if kind != PAYLOAD_TYPE:
        raise UnknownFormat(f"this is not a statement but {kind[:80]!r}")
    try:
        statement = _STATEMENT.validate_json(payload, strict=True)
        named = (statement.get("_type"), statement.get("predicateType"))
        if named != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise UnknownFormat("this is not a statement about a report of version 1")
        return (
            _PREDICATE.validate_python(statement.get("predicate")),
            _SUBJECTS.validate_python(statement.get("subject")),
        )
    except ValidationError:
        raise Damaged("the statement is malformed") from None
