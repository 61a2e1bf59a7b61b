"""A restore test: one backup, from the customer's store to a scratch place and to nothing.

It goes up the ladder as far as it can, and tells where it had to stop. Whatever happens, the
scratch place is destroyed before the verdict is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups import __version__
from backups.differing import shown
from backups.errors import (
    BackupsError,
    Cancelled,
    DumpFailed,
    EngineError,
    EnvironmentLacks,
    IntegrityError,
    ObjectMissing,
    RestoreFailed,
    UnknownFormat,
)
from backups.format.age import Identity
from backups.format.fingerprint import subject_of
from backups.model import (
    Backup,
    Fingerprint,
    Manifest,
    Policy,
    RestoreOptions,
    Source,
    Written,
)
from backups.ports import Clock, Engine, ObjectStore, Progress, Restoration
from backups.proving import Begun, Drill, Pick, Place
from backups.run.reader import read_manifest
from verify import gaps, ladder
from verify.book import Book, Over
from verify.compare import compare
from verify.meter import Meter
from verify.ports import Examiner, Ground, Need, Questions, Scratch
from verify.reading import Reading
from verify.stored import locked, present

CHECKED = "nothing is wrong"


@dataclass(frozen=True, slots=True)
class DrillPorts:
    """What a restore test needs: the restore role's store and the real keys."""

    clock: Clock
    engine: Engine
    examiner: Examiner
    scratch: Scratch
    store: ObjectStore
    meter: Meter
    """Told of every call to `store`."""
    identities: Sequence[Identity]
    verify_keys: Sequence[Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tested, and what the catalog knows of it."""

    id: str
    entry: Backup
    store_url: str
    """The store to read from."""
    manifest_sha256: str
    """As the catalog lists it there."""
    policy: Policy
    pick: Pick
    questions: Questions
    before: datetime | None
    """The snapshot of the backup before it; None: it is the first."""
    newest: datetime
    """The snapshot of the database's newest backup."""
    listed: frozenset[str]
    """Digests of all manifests of the database that the catalog lists."""
    limit: timedelta
    """For the whole of it; what scratch is left then is swept."""
    region: str = ""
    """Where scratch places are made."""
    jobs: int = 2
    kind: Literal["drill", "cold start"] = "drill"
    self_test: bool | None = None
    """How this month's damaged copies did; None: not tried yet."""
    cold_start: bool | None = None
    """How this month's cold start did; None: not tried yet."""

    def begun(self, at: datetime) -> Begun:
        """To be recorded before anything is done."""
        entry = self.entry
        return Begun(self.id, entry.customer, entry.database, entry.id, self.pick, at)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a copy was made from."""

    manifest: Manifest
    expected: Fingerprint


def drill(
    ports: DrillPorts,
    subject: Subject,
    progress: Progress,
    meddle: Callable[[Source], None] | None = None,
    show: Callable[[str], None] = lambda _text: None,
) -> Drill:
    """The evidence of one restore test. Raises nothing that the backup, the store or the
    scratch place cause.

    `meddle` changes the copy between its restore and the checks: a negative control, which
    must not pass. `show` is given both texts of each definition that differs, for a person at
    a terminal: they are no evidence.
    """
    book, began = Book(ports.clock), ports.clock.now()
    deadline = began + subject.limit
    loaded: Loaded | None = None
    place: Place | None = None
    ground: Ground | None = None

    def watched(what: str, done: int, total: int | None) -> None:
        if ports.clock.now() > deadline:
            raise Cancelled(f"it took longer than {subject.limit}")
        progress(what, done, total)

    try:
        manifest = _at_rest(ports, subject, book)
        reading = Reading(ports.store, manifest, ports.identities, watched)
        expected = _fingerprint(reading, book)
        loaded = Loaded(manifest, expected)
        book.extend([gaps.carried(expected, manifest)])
        with book.phase("prepare"):
            ground = _acquire(ports, subject, expected, deadline, book)
        _restored(ports, subject, ground, reading, loaded, book, watched, meddle, show)
    except Over:
        pass
    finally:
        if ground is not None:
            with book.phase("destroy"):
                place = ground.destroy()
    _promises(subject, book, began, place)
    verdict, reason = ladder.verdict(book.checks)
    entry, plan = subject.entry, subject.policy.plan
    return Drill(
        id=subject.id,
        customer=entry.customer,
        database=entry.database,
        backup=entry.id,
        store_url=subject.store_url,
        engine=entry.engine,
        policy_version=subject.policy.version,
        pick=subject.pick,
        kind=subject.kind,
        began_at=began,
        ended_at=ports.clock.now(),
        verdict=verdict,
        level=ladder.level(book.checks),
        reason=reason,
        checks=tuple(book.checks),
        phases=tuple(book.phases),
        place=place,
        snapshot_at=entry.created_at,
        rto_seconds=plan.rto_minutes * 60 if plan.rto_minutes else None,
        rpo_seconds=plan.rpo_hours * 3600,
        tables=len(loaded.expected.tables) if loaded else 0,
        rows=sum(table.rows for table in loaded.expected.tables) if loaded else 0,
        plain_bytes=entry.plain_bytes,
        read_bytes=ports.meter.read_bytes,
        requests=ports.meter.requests,
        key_ids=loaded.manifest.recipients if loaded else (),
        procedure=__version__,
    )


def _at_rest(ports: DrillPorts, subject: Subject, book: Book) -> Manifest:
    """Levels 0 to 2, as far as nothing is decrypted."""
    entry, policy = subject.entry, subject.policy
    rpo = timedelta(hours=policy.plan.rpo_hours)
    gap = None if subject.before is None else entry.created_at - subject.before
    book.add(
        "on time",
        gap is None or gap <= rpo,
        f"at most {policy.plan.rpo_hours} hours after the one before",
        "it is the first" if gap is None else f"{gap.total_seconds() / 3600:.1f} hours after",
    )
    with book.proving("signed", "ours, and as listed", IntegrityError, ObjectMissing):
        found = read_manifest(ports.store, entry.database, entry.id, ports.verify_keys)
    same = found.sha256 == subject.manifest_sha256
    book.add(
        "signed",
        same and found.manifest.customer == entry.customer,
        f"digest {subject.manifest_sha256}, customer {entry.customer}",
        f"digest {found.sha256}, customer {found.manifest.customer}",
    )
    previous = found.manifest.previous
    book.add(
        "chained",
        True,
        "the one before, or none that is known",
        "it names none"
        if previous is None
        else "it names one that is listed"
        if previous in subject.listed
        else "it names one that is no longer listed",
    )
    with book.proving("present", "every object, whole"):
        book.extend(present(ports.store, found.manifest))
        book.extend(locked(ports.store, found.manifest))
    if not all(check.passed for check in book.checks if check.name in ("signed", "present")):
        raise Over
    return found.manifest


def _fingerprint(reading: Reading, book: Book) -> Fingerprint:
    try:
        return reading.fingerprint()
    except BackupsError as error:
        raise _bytes(reading, book, error) from error


def _bytes(reading: Reading, book: Book, error: BackupsError) -> Over:
    """What went wrong with the bytes of the backup, under the check that they failed."""
    failed = isinstance(error, IntegrityError | ObjectMissing)
    if reading.stage == "authentic":
        book.add("downloaded", True, CHECKED, f"{reading.objects} objects")
    return book.settle(reading.stage, CHECKED, error, failed=failed)


def _acquire(
    ports: DrillPorts, subject: Subject, expected: Fingerprint, deadline: datetime, book: Book
) -> Ground:
    need = Need(
        id=subject.id,
        customer=subject.entry.customer,
        engine=subject.entry.engine,
        fingerprint=expected,
        plain_bytes=subject.entry.plain_bytes,
        deadline=deadline,
    )
    try:
        _require_region(subject)
        return ports.scratch.acquire(need)
    except EnvironmentLacks as error:
        raise book.settle("environment", "what the source has", error, failed=True) from error
    except BackupsError as error:
        raise book.settle("restored", "a scratch place", error, failed=False) from error


def _require_region(subject: Subject) -> None:
    """Raises EnvironmentLacks when the customer's copies may not be made here."""
    wanted, here = subject.policy.scratch_region, subject.region
    if wanted and wanted != here:
        raise EnvironmentLacks(
            f"copies of {subject.entry.customer} may be made in {wanted} alone, and scratch "
            f"places here are in {here or 'a region that nobody named'}",
            hint="Run restore tests there, or name this machine's `scratch: region:`.",
        )


def _restored(
    ports: DrillPorts,
    subject: Subject,
    ground: Ground,
    reading: Reading,
    loaded: Loaded,
    book: Book,
    progress: Progress,
    meddle: Callable[[Source], None] | None,
    show: Callable[[str], None],
) -> None:
    """Levels 2 to 11: fetched, restored, compared and examined."""
    options = RestoreOptions(jobs=subject.jobs, create_roles=True)
    try:
        with ports.engine.restore(ground.target, options) as restoration:
            with book.phase("fetch and load"):
                written = restoration.load(loaded.expected, reading.artifact, progress)
                reading.rest()
                restoration.publish()
            _read_to_its_end(reading, written, book)
            if meddle is not None:
                meddle(ground.target)
            with book.phase("compare"):
                progress("comparing with the fingerprint", 0, None)
                contained = _contained(ports, ground, restoration)
                texts = _Texts(restoration, show)
                book.extend(compare(written.expected, contained, texts))
            with book.phase("examine"):
                progress("examining the copy", 0, None)
                found = ports.examiner.examine(
                    ground.target, written.expected, subject.questions
                )
                for check in found:
                    book.extend([check])
                    progress(f"examined: {check.name}", 0, None)
                if not book.has("source"):
                    book.add("source", True, gaps.RULES, CHECKED)
    except BackupsError as error:
        raise _stopped(reading, book, error) from error


def _contained(ports: DrillPorts, ground: Ground, restoration: Restoration) -> Fingerprint:
    """What the copy contains. The quick way reads what the archive names, and stumbles over
    a table that is gone; a dump tells what is there."""
    try:
        return restoration.fingerprint()
    except EngineError:
        return ports.engine.fingerprint(ground.target)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Both definitions of an object, shown as they are asked for."""

    restoration: Restoration
    show: Callable[[str], None]

    def __call__(self, kind: str, schema: str, name: str) -> tuple[str, str] | None:
        texts = self.restoration.definitions(kind, schema, name)
        if text := shown(subject_of(kind, schema, name), texts):
            self.show(text)
        return texts


def _read_to_its_end(reading: Reading, written: Written, book: Book) -> None:
    book.add("downloaded", True, CHECKED, f"{reading.objects} objects")
    book.add("authentic", True, CHECKED, f"{reading.plain_bytes} bytes")
    book.add("archive", True, CHECKED, "read to its end")
    book.extend(gaps.restored(written.notes, written.exceptions))


def _stopped(reading: Reading, book: Book, error: BackupsError) -> Over:
    """Under which check a restore came to its end."""
    if reading.failed is not None:
        return _bytes(reading, book, reading.failed)
    if book.has("restored"):  # after the restore: comparing or examining
        return book.settle("full read", CHECKED, error, failed=False)
    if isinstance(error, DumpFailed | UnknownFormat):
        return book.settle("archive", CHECKED, error, failed=True)
    if isinstance(error, EnvironmentLacks):
        return book.settle("environment", "what the source has", error, failed=True)
    return book.settle("restored", CHECKED, error, failed=isinstance(error, RestoreFailed))


def _promises(subject: Subject, book: Book, began: datetime, place: Place | None) -> None:
    """Levels 12 to 15: what was promised around the data."""
    plan = subject.policy.plan
    if plan.rto_minutes is not None and book.has("restored"):
        took = book.seconds("prepare", "fetch and load", "compare")
        book.add(
            "restore time",
            took <= plan.rto_minutes * 60,
            f"at most {plan.rto_minutes * 60} s",
            f"{took:.1f} s",
        )
    age = (began - subject.newest).total_seconds() / 3600
    book.add(
        "data age", age <= plan.rpo_hours, f"at most {plan.rpo_hours} hours", f"{age:.1f} hours"
    )
    cold = subject.cold_start
    if subject.kind == "cold start":
        cold = ladder.verdict(book.checks)[0] == "PASSED"
    for name, did, words in (
        ("cold start", cold, "from the store and an identity alone, this month"),
        ("self-test", subject.self_test, "this month's damaged copies rejected"),
    ):
        told = {None: "not tried yet", True: "as it should be", False: "it failed"}[did]
        book.add(name, did, words, told)
    if place is not None:
        gone = place.destroyed_at is not None
        book.add("destroyed", gone, "nothing is left", "; ".join(place.proof))
