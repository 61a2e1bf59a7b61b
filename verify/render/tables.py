"""The ledgers as CSV, for spreadsheets. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from verify.report.document import Report
from verify.report.proofs import (
    Age,
    Cost,
    Exceptional,
    Plaintext,
    Restored,
    Size,
    Use,
)
from verify.report.rows import (
    Covered,
    DayRow,
    Deleted,
    Held,
    LedgerRow,
    Rule,
)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by spreadsheets; an apostrophe makes it text."""


def ledgers(report: Report) -> dict[str, str]:
    """File name to content; the columns are the document's own fields."""
    every = report.tests + report.cold_starts
    test = ("id", "customer", "database", "backup", "kind", "began_at", "ended_at", "outcome",
            "level", "reason", "rule", "seed", "among", "retest", "tables", "rows",
            "plain_bytes", "policy_version", "procedure")  # fmt: skip
    return {
        "coverage.csv": _of(Covered, report.coverage.rows),
        "policy.csv": _of(Rule, report.policy),
        "backups.csv": _of(LedgerRow, report.backups.totals),
        "days.csv": _of(DayRow, report.backups.days),
        "sizes.csv": _of(Size, report.sizes),
        "deletions.csv": _of(Deleted, report.retention.deletions),
        "holds.csv": _of(Held, report.retention.holds),
        "tests.csv": _text(test, ([getattr(one, name) for name in test] for one in every)),
        "checks.csv": _text(
            ("test", "level", "name", "subject", "passed", "expected", "actual"),
            ([one.id, *asdict(check).values()] for one in every for check in one.checks),
        ),
        "timings.csv": _text(
            ("test", "customer", "database", "restore_milliseconds", "rto_seconds", "rto_met"),
            (
                [one.test, one.customer, one.database, one.restore_milliseconds,
                 one.rto_seconds, one.rto_met]
                for one in report.timings.restores
            ),
        ),
        "ages.csv": _of(Age, report.timings.ages),
        "uses.csv": _of(Use, report.access.uses),
        "restores.csv": _of(Restored, report.access.restores),
        "plaintext.csv": _of(Plaintext, report.plaintext),
        "cost.csv": _of(Cost, report.cost),
        "exceptions.csv": _of(Exceptional, report.exceptions),
    }  # fmt: skip


def _of(kind: Any, rows: Sequence[Any]) -> str:
    return _text([field.name for field in fields(kind)], (asdict(row).values() for row in rows))


def _text(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(headings)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return _cell("; ".join(map(str, value)))
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text
