"""What of each noun is told to a caller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backups.keeping import Record
from backups.lacking import not_carried
from backups.model import Backup, Policy
from backups.proving import Drill, Publication
from backups.replacing import Replacement
from backups.requested import Request

Row = dict[str, Any]


def instant(at: datetime | None) -> str | None:
    """ISO 8601 in UTC."""
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def database(policy: Policy, newest: Backup | None, state: str) -> Row:
    """A declared database, and how it stands."""
    return {
        "id": policy.database,
        "customer": policy.customer,
        "engine": policy.engine,
        "plan": policy.plan.name,
        "retention_days": policy.plan.retention_days,
        "rpo_hours": policy.plan.rpo_hours,
        "window": policy.window,
        "state": state,
        "newest_backup": newest.id if newest else None,
        "newest_backup_at": instant(newest.created_at) if newest else None,
    }


def backup(entry: Backup, verdict: str, stores: int, held: bool, now: datetime) -> Row:
    """A listed backup, with its badge."""
    return {
        "id": entry.id,
        "customer": entry.customer,
        "database": entry.database,
        "taken_at": instant(entry.created_at),
        "expires_at": instant(entry.expires_at),
        "expired": entry.expires_at <= now,
        "verdict": verdict,
        "bytes": entry.plain_bytes,
        "stored_bytes": entry.stored_bytes,
        "stores": stores,
        "held": held,
        "not_backed_up": list(not_carried(entry.warnings)),
        "warnings": list(entry.warnings),
    }


def drill(found: Drill, *, whole: bool = False) -> Row:
    """A restore test; its checks where it is asked for by itself."""
    row: Row = {
        "id": found.id,
        "customer": found.customer,
        "database": found.database,
        "backup": found.backup,
        "kind": found.kind,
        "verdict": found.verdict,
        "level": found.level,
        "reason": found.reason,
        "began_at": instant(found.began_at),
        "ended_at": instant(found.ended_at),
        "restore_seconds": round(sum(phase.seconds for phase in found.phases), 1),
        "destroyed_at": instant(found.place.destroyed_at) if found.place else None,
    }
    if whole:
        row["checks"] = [
            {
                "name": check.name,
                "of": check.subject,
                "passed": check.passed,
                "expected": check.expected,
                "found": check.actual,
            }
            for check in found.checks
        ]
    return row


def report(found: Publication) -> Row:
    """A published report; its files are asked for by name."""
    return {
        "id": found.id,
        "customer": found.customer or None,
        "month": found.month,
        "published_at": instant(found.built_at),
        "statement_sha256": found.statement_sha256,
        "corrects": found.corrects or None,
        "reason": found.reason,
    }


def operation(found: Request) -> Row:
    """What was asked for, and how far it is."""
    return {
        "id": found.id,
        "customer": found.customer,
        "database": found.database,
        "kind": found.kind,
        "state": found.state,
        "by": found.by,
        "created_at": instant(found.created_at),
        "started_at": instant(found.started_at),
        "ended_at": instant(found.ended_at),
        "doing": found.doing,
        "bytes": found.bytes,
        "result": found.result or None,
        "exceptions": list(found.exceptions),
        "error": found.error or None,
        "next": found.hint or None,
    }


def replacement(found: Replacement) -> Row:
    """A plan to replace a live database, and what became of it."""
    return {
        "id": found.id,
        "customer": found.customer,
        "database": found.database,
        "backup": found.backup,
        "live": found.live,
        "snapshot_at": instant(found.snapshot_at),
        "state": found.state,
        "difference": list(found.difference),
        "stays_behind": list(found.stays_behind),
        "rehearsal": found.rehearsal or None,
        "rehearsed_at": instant(found.rehearsed_at),
        "seen": list(found.seen),
        "changed_since_planned": found.stale,
        "exceptions": list(found.exceptions),
        "accepted_by": found.accepted_by or None,
        "planned_at": instant(found.planned_at),
        "planned_by": found.planned_by,
        "needs": found.needs,
        "not_before": instant(found.not_before),
        "approved_by": found.approved_by or None,
        "replaced_at": instant(found.replaced_at),
        "kept_until": instant(found.kept_until),
        "error": found.error or None,
    }


TOLD: Mapping[str, str] = {
    "backup.committed": "a backup was taken",
    "run.failed": "a backup failed",
    "run.interrupted": "a backup was interrupted",
    "copy.committed": "a backup was copied into another store",
    "backup.deleted": "a backup was deleted, as its window ended",
    "hold.added": "a backup is held",
    "hold.released": "a hold is over",
    "restore.started": "a restore was begun",
    "restore.done": "a restore is done",
    "restore.failed": "a restore failed",
    "drill.recorded": "a restore test was made",
    "publication.recorded": "a report was published",
    "policy.saved": "the rules changed",
    "state.changed": "the state changed",
    "identity.used": "the restore key was used",
    "replacement.planned": "replacing a live database was planned",
    "replacement.rehearsed": "replacing a live database was rehearsed",
    "replacement.approved": "replacing a live database was approved",
    "replacement.done": "a live database was replaced",
    "replacement.undone": "a replacement was undone",
}
"""Actions of the audit chain that a customer is told of, in words."""


def event(found: Record) -> Row:
    """A record of the audit chain: ids and states, nobody's errors."""
    return {
        "id": found.sequence,
        "at": instant(found.at),
        "type": found.action,
        "words": TOLD[found.action],
        "subject": found.subject,
    }
