"""Whatever was not as promised, each thing named: an empty list is a claim of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from backups.lacking import not_carried
from backups.model import Backup
from verify.report.facts import Facts
from verify.report.proofs import (
    Exceptional,
    Plaintext,
    Posture,
    SelfTested,
    Test,
    Timings,
)
from verify.report.rows import (
    Backups,
    Coverage,
    text_of,
)

BROKEN = frozenset({"missing", "altered", "unreadable", "unreachable", "foreign", "unlisted"})
"""Kinds of findings of a scrub that are told; what only costs storage stands in the posture."""


def of_coverage(coverage: Coverage) -> Iterator[Exceptional]:
    """Databases not shown to restore, and those tested less than their plan says."""
    for row in coverage.rows:
        if row.outcome != "PASSED":
            words = f"{row.outcome}: {row.reason}"
            yield Exceptional(row.customer, row.database, "not proven", words, row.tested_at)
        elif row.tests < row.owed:
            words = f"{row.tests} restore tests of {row.owed} that the plan asks"
            yield Exceptional(row.customer, row.database, "fewer tests", words, None)


def of_tests(tests: tuple[Test, ...]) -> Iterator[Exceptional]:
    """Tests that did not pass, promises missed by those that did, others' objections."""
    for test in tests:
        who = (test.customer, test.database)
        if test.outcome != "PASSED":
            after = f"; answered by test {test.retest}" if test.retest else ""
            words = f"test {test.id} of backup {test.backup} {test.outcome}: {test.reason}"
            yield Exceptional(*who, f"{test.kind} not passed", words + after, test.began_at)
        elif test.reason:
            words = f"test {test.id}: {test.reason}"
            yield Exceptional(*who, "promise missed", words, test.began_at)
        for voice in test.opinions:
            if not voice.passed:
                words = f"{voice.name} rejects test {test.id}: {voice.words}"
                yield Exceptional(*who, "objection", words, voice.at)


def of_backups(backups: Backups, timings: Timings) -> Iterator[Exceptional]:
    """Days without a backup, late ones, and data older than the RPO."""
    for row in backups.days:
        who = (row.customer, row.database)
        if row.state in ("missed", "failed"):
            why = f"{row.failures} runs came to nothing: {row.error}" if row.failures else ""
            words = f"no backup on {row.day}" + (f"; {why}" if why else "")
            yield Exceptional(*who, "backup missed", words, row.day)
        elif row.state == "late":
            words = f"the backup of {row.day} was taken after its window"
            yield Exceptional(*who, "backup late", words, row.day)
    for age in timings.ages:
        if not age.rpo_met:
            words = (
                f"{(age.longest_seconds or 0) / 3600:.1f} hours without a newer backup; at "
                f"most {age.rpo_seconds / 3600:g} are promised"
            )
            yield Exceptional(age.customer, age.database, "RPO missed", words, None)


def of_what_lacks(facts: Facts) -> Iterator[Exceptional]:
    """Databases whose newest backup of the month does not carry all that they held. By counts:
    the names stand in the encrypted fingerprint, and in the restore tests' checks."""
    newest: dict[str, Backup] = {}
    for backup in facts.backups:
        known = newest.get(backup.database)
        if facts.month.start <= backup.created_at < facts.until and (
            known is None or (known.created_at, known.id) < (backup.created_at, backup.id)
        ):
            newest[backup.database] = backup
    for database in sorted(newest):
        backup = newest[database]
        lacks = not_carried(backup.warnings)
        if lacks:
            words = f"backup {backup.id} does not carry: {'; '.join(lacks)}"
            at = text_of(backup.created_at)
            yield Exceptional(backup.customer, database, "not backed up", words, at)


def of_posture(posture: tuple[Posture, ...]) -> Iterator[Exceptional]:
    """What a look found wrong in a store, and stores that nobody looked at."""
    for each in posture:
        for look in each.looks:
            if look.outcome == "failed":
                yield Exceptional(
                    each.customer, each.store, f"store: {look.name}", look.words,
                    each.examined_at,
                )  # fmt: skip
        for finding in each.findings:
            if finding.outcome in BROKEN:
                words = f"{finding.outcome}: {finding.name}: {finding.words}"
                yield Exceptional(each.customer, each.store, "scrub", words, each.scrubbed_at)
        if not each.scrubs:
            words = "no scrub compared it with its manifests in the month"
            yield Exceptional(each.customer, each.store, "scrub", words, None)


def of_plaintext(places: tuple[Plaintext, ...]) -> Iterator[Exceptional]:
    """Copies that nobody saw destroyed."""
    for each in places:
        if each.destroyed_at is None:
            words = f"nobody saw the {each.kind} of test {each.test} destroyed"
            yield Exceptional(each.customer, each.database, "scratch left", words, None)


def of_self_test(tested: SelfTested) -> Iterator[Exceptional]:
    """What the verifier let pass, or that it was not tested."""
    for damage in tested.damages:
        if damage.caught < damage.tried:
            words = (
                f"{damage.tried - damage.caught} of {damage.tried} copies with this damage "
                f"were not rejected: {damage.damage}"
            )
            yield Exceptional("", damage.name, "self-test missed", words, tested.last_at)
    if tested.unfinished:
        words = f"{tested.unfinished} of {tested.runs} were not brought to their end"
        yield Exceptional("", "self-test", "self-test unfinished", words, tested.last_at)
    if not tested.tried:
        words = "no damaged copy was tried: the verifier itself was not tested in the month"
        yield Exceptional("", "self-test", "self-test missing", words, None)


def of_broken_glass(facts: Facts) -> Iterator[Exceptional]:
    """Live databases that were replaced without the approval or the plan that was asked for."""
    for record in facts.records:
        why = record.details.get("broke_glass")
        if record.action != "replacement.started" or not why:
            continue
        if facts.month.start <= record.at < facts.until:
            words = f"replacement {record.subject} by {record.details.get('by', '')}: {why}"
            yield Exceptional(
                record.customer or "", record.details.get("database", ""), "glass broken",
                words, text_of(record.at),
            )  # fmt: skip


def of_alarms(facts: Facts) -> Iterator[Exceptional]:
    """Alarms that stood in the month, with what was found to be their cause."""
    for each in sorted(facts.alarms, key=lambda a: (a.opened_at, a.kind, a.subject)):
        over = each.closed_at
        if each.opened_at >= facts.until or (over and over < facts.month.start):
            continue
        state = f"until {text_of(over)}" if over and over < facts.until else "and it stands"
        words = f"{each.words}; from {text_of(each.opened_at)} {state}"
        words += f"; cause: {each.cause} ({each.post_mortem})" if each.cause else ""
        yield Exceptional(
            each.customer, each.subject, f"alarm {each.kind}", words, text_of(each.opened_at)
        )
