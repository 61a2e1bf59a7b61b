"""Who used what opens backups; the stores, as they were looked at. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from backups.keeping import Record
from backups.model import Finding
from verify.report.facts import Facts
from verify.report.proofs import (
    Access,
    Key,
    LookRow,
    Posture,
    Restored,
    Use,
)
from verify.report.rows import (
    text_of,
)
from verify.report.scope import databases

USES = frozenset({"identity.used", "restore.started", "recipient.proven", "key.rotated"})
"""Actions of the audit chain that a reader of the report is told of."""


def access(facts: Facts) -> Access:
    """Keys seen in tests, uses on record, restores that a person asked for."""
    start, until = facts.month.start, facts.until
    keys: dict[tuple[str, str], tuple[set[str], str]] = {}
    for drill in sorted(facts.drills, key=lambda each: (each.began_at, each.id)):
        if not start <= drill.began_at < until:
            continue
        for key in drill.key_ids:
            names, _ = keys.get((drill.customer, key), (set(), ""))
            keys[drill.customer, key] = (names | {drill.database}, text_of(drill.began_at))
    uses: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in facts.records:
        if record.action in USES and start <= record.at < until:
            # A subject is a backup, a restore or a key: what counts is whose database.
            of = record.details.get("database", "")
            uses.setdefault(
                (record.customer or "", of, record.actor, _of_whom(record)), []
            ).append(record)  # fmt: skip
    return Access(
        keys=tuple(
            Key(customer, key, len(names), last)
            for (customer, key), (names, last) in sorted(keys.items())
        ),
        uses=tuple(
            Use(*who, len(records), text_of(max(record.at for record in records)))
            for who, records in sorted(uses.items())
        ),
        restores=tuple(
            Restored(
                each.id, each.customer, each.database, each.backup, each.target, each.state,
                text_of(each.started_at),
                text_of(each.ended_at) if each.ended_at else None, each.error or "",
            )
            for each in sorted(facts.operations, key=lambda o: (o.started_at, o.id))
            if start <= each.started_at < until
        ),
    )  # fmt: skip


def _of_whom(record: Record) -> str:
    """What was done; of what support did for a customer, with the ticket and the consent."""
    said = [record.action]
    for name in ("ticket", "consent"):
        if value := record.details.get(name):
            said.append(f"{name}: {value}")
    return ", ".join(said)


def posture(facts: Facts) -> tuple[Posture, ...]:
    """Every store that a policy in force names, whether or not it was looked at."""
    stores = sorted(
        {(d.customer, store.url) for d in databases(facts) for store in d.policy.stores}
    )
    return tuple(_posture(customer, url, facts) for customer, url in stores)


def _posture(customer: str, url: str, facts: Facts) -> Posture:
    start, until = facts.month.start, facts.until
    looks = [
        each
        for each in facts.examined
        if (each.customer, each.store_url) == (customer, url) and each.at < until
    ]
    scrubs = [
        each
        for each in facts.scrubs
        if (each.customer, each.store_url) == (customer, url)
        and start <= each.started_at < until
    ]
    look = max(looks, key=lambda each: each.at, default=None)
    scrub = max(scrubs, key=lambda each: (each.started_at, each.id), default=None)
    return Posture(
        customer=customer,
        store=url,
        examined_at=text_of(look.at) if look else None,
        looks=tuple(LookRow(e.name, e.outcome, e.words) for e in look.looks) if look else (),
        scrubbed_at=text_of(scrub.ended_at) if scrub else None,
        scrubs=len(scrubs),
        objects=scrub.objects if scrub else None,
        findings=_findings(scrub.findings) if scrub else (),
    )


def _findings(findings: Sequence[Finding]) -> tuple[LookRow, ...]:
    return tuple(LookRow(each.subject, each.kind, each.words) for each in findings)
