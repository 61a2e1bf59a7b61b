"""What is counted, as Prometheus reads it: text exposition format 0.0.4. Pure.

Names and units follow prometheus.io/docs/practices/naming. No label holds anything but ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.notify.model import Incident, Recorded

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Database:
    """One that is declared."""

    customer: str
    database: str
    expected: bool
    """Backups of it are expected now."""
    newest: datetime | None
    rpo_seconds: float
    bytes: int
    stored_bytes: int
    """Of the newest backup."""
    last_run: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What the catalog says."""

    databases: Sequence[Database]
    alarms: Sequence[Recorded]
    incidents: Sequence[Incident]
    outbox: Mapping[tuple[str, str], int]
    chores: Mapping[str, tuple[datetime, bool]]
    """When each began last, and whether it has ended well."""


def exposition(measured: Measured, now: datetime) -> str:
    """All of it, at that instant."""
    lines: list[str] = []

    def metric(
        name: str, words: str, samples: Iterable[tuple[Mapping[str, str], float]]
    ) -> None:
        lines.extend((f"# HELP backups_{name} {words}", f"# TYPE backups_{name} gauge"))
        lines.extend(
            f"backups_{name}{_labels(labels)} {value:.17g}" for labels, value in samples
        )

    known = [(_of(each), each) for each in measured.databases]
    metric(
        "newest_backup_timestamp_seconds",
        "Snapshot of each database's newest backup; 0 where there is none.",
        ((name, each.newest.timestamp() if each.newest else 0) for name, each in known),
    )
    metric(
        "expected",
        "1 where backups of the database are expected.",
        ((name, each.expected) for name, each in known),
    )
    metric(
        "rpo_seconds",
        "How old the newest backup may become.",
        ((name, each.rpo_seconds) for name, each in known),
    )
    metric(
        "covered",
        "1 where a backup within the RPO exists.",
        ((name, covered(each, now)) for name, each in known),
    )
    metric(
        "newest_backup_bytes",
        "Size of the newest backup before compression.",
        ((name, each.bytes) for name, each in known),
    )
    metric(
        "newest_backup_stored_bytes",
        "Size of the newest backup in the bucket.",
        ((name, each.stored_bytes) for name, each in known),
    )
    metric(
        "last_run_committed",
        "1 where the last run came to a backup.",
        ((name, each.last_run == "committed") for name, each in known),
    )
    chores = sorted(measured.chores.items())
    standing = Counter(each.alarm.kind for each in measured.alarms)
    metric(
        "alarms", "Alarms that stand.", (({"kind": k}, n) for k, n in sorted(standing.items()))
    )
    metric(
        "incidents_open",
        "Incidents without a post-mortem.",
        [({}, sum(each.closed_at is None for each in measured.incidents))],
    )
    metric(
        "deliveries",
        "Events on their way or past it.",
        (
            ({"endpoint": endpoint, "state": state}, count)
            for (endpoint, state), count in sorted(measured.outbox.items())
        ),
    )
    metric(
        "chore_began_timestamp_seconds",
        "When each chore of serve began last.",
        (
            ({"chore": name}, at.timestamp())
            for name, (at, _) in sorted(measured.chores.items())
        ),
    )
    metric(
        "chore_well",
        "1 where its last attempt ended well.",
        (({"chore": name}, well) for name, (_, well) in chores),
    )
    return "\n".join(lines) + "\n"


def covered(each: Database, now: datetime) -> bool:
    """Whether its newest backup is young enough."""
    return each.newest is not None and (now - each.newest).total_seconds() <= each.rpo_seconds


def _of(each: Database) -> Mapping[str, str]:
    return {"customer": each.customer, "database": each.database}


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
