"""The report as a document: frozen values that become canonical JSON. Pure.

Coverage comes first, since it is what a reader must not overlook.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged
from backups.format import canonical
from verify.report.proofs import (
    Access,
    Control,
    Cost,
    Exceptional,
    Plaintext,
    Posture,
    SelfTested,
    Size,
    Test,
    Timings,
)
from verify.report.rows import (
    Backups,
    Coverage,
    Identity,
    Retention,
    Rule,
    State,
)

FORMAT = "bloomneo.backups.report.v1"


@dataclass(frozen=True, slots=True)
class Report:
    """One month of one customer, or of the fleet."""

    format: Literal["bloomneo.backups.report.v1"]
    state: State
    headline: str
    """The first line."""
    identity: Identity
    coverage: Coverage
    policy: tuple[Rule, ...]
    backups: Backups
    retention: Retention
    tests: tuple[Test, ...]
    cold_starts: tuple[Test, ...]
    timings: Timings
    sizes: tuple[Size, ...]
    access: Access
    posture: tuple[Posture, ...]
    exceptions: tuple[Exceptional, ...]
    controls: tuple[Control, ...]
    self_test: SelfTested
    plaintext: tuple[Plaintext, ...]
    cost: tuple[Cost, ...]


REPORT = TypeAdapter(Report)


def to_json(report: Report) -> bytes:
    """The document: the same report has the same bytes."""
    return canonical.dumps(asdict(report))


def read(data: bytes) -> Report:
    """Raises Damaged when these are not the bytes of a report."""
    try:
        report = REPORT.validate_json(data, strict=True)
    except ValidationError:
        raise Damaged("this is not a report of a form that we know") from None
    if to_json(report) != data:
        raise Damaged("the report is not in its canonical form")
    return report


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document, as it is published."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FORMAT,
        **REPORT.json_schema(),
    }
