"""What retention decides of a database, from the catalog and from what its stores say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups.errors import StoreError
from backups.keeping import Deletion, Hold, Release
from backups.policy.retention import (
    FROZEN,
    Decision,
    Entry,
    Facts,
    Rule,
    plan_retention,
)
from backups.ports import Archive, Catalog, Clock, Ledger
from backups.run.shelves import Contents, Shelf, look

IN_USE = timedelta(days=7)
"""A restore that began earlier and has no end is taken for dead. ASSUMED."""


@dataclass(frozen=True, slots=True)
class PrunePorts:
    """What pruning one database needs. Nothing in it can decrypt."""

    catalog: Catalog
    ledger: Ledger
    archive: Archive
    clock: Clock
    signing_key: Ed25519PrivateKey
    customer: str
    database: str
    rule: Rule | None
    """None: no policy names the database, and everything is kept."""
    shelves: Sequence[Shelf]
    """Every store in which the catalog lists, or listed, a backup of it."""
    unread: Sequence[str]
    """Stores that were not read since the catalog was made anew."""
    state: str
    """How things stand with the customer, where that lets nothing be deleted."""
    ended: bool
    """Retired, and the day named for its last good backup is over."""
    limit: int
    """Backups that one call marks at most, and deletes at most."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The plan, and what was seen to make it."""

    entries: tuple[Entry, ...]
    decisions: tuple[Decision, ...]
    """Newest first."""
    pending: tuple[Deletion, ...] = ()
    """Begun and not at their end."""
    contents: tuple[Contents, ...] = ()
    """Of every store; empty when there was nothing to look for."""

    @property
    def frozen(self) -> str:
        """Why nothing of the database may be deleted, in words; empty when it may."""
        return next((d.words for d in self.decisions if d.reason in FROZEN), "") or next(
            (f"frozen: {words}" for each in self.contents for words in each.troubles), ""
        )


def examine(ports: PrunePorts) -> Examined:
    """What would be done now; changes nothing.

    Stores are looked into only where the catalog alone would let something go, or where a
    deletion is at work.
    """
    facts = _facts(ports, ())
    entries = _entries(ports, facts.now)
    decisions = plan_retention(entries, ports.rule, facts)
    pending = tuple(d for d in ports.ledger.deletions(ports.database) if d.removed_at is None)
    if ports.rule is None or (all(d.keep for d in decisions) and not pending):
        return Examined(entries, decisions)
    known = frozenset(
        [deletion.backup for deletion in pending]
        + [run.id for run in ports.catalog.unfinished_runs(ports.database)]
    )
    keys = [ports.signing_key.public_key()]
    contents = tuple(
        look(shelf, ports.customer, ports.database, known | {e.id for e in entries}, keys)
        for shelf in ports.shelves
    )
    _forget_old_marks(ports, contents, facts.now)
    facts = _facts(ports, contents)
    entries = tuple(_as_stored(entry, contents, facts.now) for entry in entries)
    decisions = plan_retention(entries, ports.rule, facts)
    doomed = {decision.backup for decision in decisions if not decision.keep}
    try:  # one call per backup that would go, and none for those that stay
        locked = {id_: _locked_until(contents, id_) for id_ in doomed}
    except StoreError as error:
        locked = {}
        facts = replace(facts, troubles=(*facts.troubles, str(error)))
    entries = tuple(replace(e, locked_until=locked.get(e.id)) for e in entries)
    decisions = plan_retention(entries, ports.rule, facts)
    return Examined(entries, decisions, pending, contents)


def _facts(ports: PrunePorts, contents: Sequence[Contents]) -> Facts:
    now = ports.clock.now()
    bound = ports.rule.clock_bound if ports.rule else timedelta()
    dated = [each.newest for each in contents if each.newest is not None]
    troubles = [words for each in contents for words in each.troubles] + [
        f"{url} was not read since the catalog was made anew: run `backups catalog rebuild`"
        for url in ports.unread
    ]
    return Facts(
        now,
        ports.ledger.chronicle(now - bound),
        max(dated, default=None),
        tuple(troubles),
        ports.state,
        ports.ended,
    )


def _entries(ports: PrunePorts, now: datetime) -> tuple[Entry, ...]:
    """The listed backups, as the catalog alone knows them."""
    database = ports.database
    used = {run.id: "the run that takes it" for run in ports.catalog.unfinished_runs(database)}
    for operation in ports.catalog.operations(database, limit=1000):
        if operation.state == "running" and now - operation.started_at < IN_USE:
            used[operation.backup] = f"a restore into {operation.target}"
    holds: dict[str, list[tuple[Hold, Release | None]]] = {}
    for hold, release in ports.ledger.holds(database):
        holds.setdefault(hold.backup, []).append((hold, release))
    bad, verified = known_bad(ports), ports.archive.verified(database)
    return tuple(
        Entry(
            id=backup.id,
            taken_at=backup.created_at,
            promised_until=backup.expires_at,
            good=backup.id not in bad,
            verified=backup.id in verified,
            holds=tuple(
                in_words(hold)
                for hold, release in holds.get(backup.id, [])
                if release is None and in_force(hold, now)
            ),
            used_by=used.get(backup.id, ""),
        )
        for backup in ports.catalog.backups(database)
    )


def known_bad(ports: PrunePorts) -> set[str]:
    """Backups that the newest scrub of every store where they lie found broken."""
    newest = {}
    for scrub in reversed(ports.catalog.scrubs(ports.customer, limit=100)):
        newest[scrub.store_url] = scrub
    told: dict[str, set[str]] = {}
    for url, scrub in newest.items():
        for finding in scrub.findings:
            if finding.kind in ("missing", "altered", "unreadable"):
                parts = finding.subject.split("/")
                about = parts[2] if len(parts) > 3 else finding.subject
                told.setdefault(about, set()).add(url)
    lying: dict[str, set[str]] = {}
    for shelf in ports.shelves:
        for backup in shelf.listed:
            lying.setdefault(backup, set()).add(shelf.url)
    return {backup for backup, urls in lying.items() if urls <= told.get(backup, set())}


def _as_stored(entry: Entry, contents: Sequence[Contents], now: datetime) -> Entry:
    """The same, with what its stores say: holds that the catalog lost, and tombstones."""
    holds = [
        in_words(hold)
        for each in contents
        for hold in each.holds.values()
        if hold.backup == entry.id and in_force(hold, now)
    ]
    places = [each for each in contents if entry.id in each.manifests]
    marks = [each.tombstones.get(entry.id) for each in places]
    marked_at = None
    if marks and all(marks):
        marked_at = max(mark.marked_at for mark in marks if mark is not None)
    return replace(
        entry, holds=tuple(dict.fromkeys([*entry.holds, *holds])), marked_at=marked_at
    )


def _forget_old_marks(ports: PrunePorts, contents: Sequence[Contents], now: datetime) -> None:
    """A backup that was held after it was marked has its whole grace time again."""
    freed: dict[str, datetime] = {}
    for hold, release in ports.ledger.holds(ports.database):
        ends = [hold.until or now, release.released_at if release else now]
        freed[hold.backup] = max(min(ends), freed.get(hold.backup, hold.placed_at))
    for each in contents:
        for backup, mark in list(each.tombstones.items()):
            if backup in freed and mark.marked_at < freed[backup]:
                del each.tombstones[backup]


def _locked_until(contents: Iterable[Contents], backup: str) -> datetime | None:
    found = [each.locked_until(backup) for each in contents]
    return max(filter(None, found), default=None)


def in_force(hold: Hold, now: datetime) -> bool:
    """Whether a hold that nobody released is not over yet."""
    return hold.until is None or now < hold.until


def in_words(hold: Hold) -> str:
    """Who holds it, and why."""
    return f"{hold.name}: {hold.reason}"
