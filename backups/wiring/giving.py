"""Giving backups back: the only side that reads identities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import IntegrityError, NotFound, StoreError
from backups.ids import uuid7
from backups.model import Backup, Manifest, Operation
from backups.ports import ObjectStore
from backups.wiring.app import App
from backups.wiring.stores import bare_store, manifest_of, place_of, places
from backups.wiring.unsealing import identities_of

if TYPE_CHECKING:
    from backups.format.age import Identity
    from backups.run.restore import RestorePorts

T = TypeVar("T")


def choose(app: App, wanted: str, at: datetime | None) -> Backup:
    """The backup with that id, or the newest (at `at`) of the database with that id.

    Raises NotFound."""
    from backups.run.choose import newest

    entries = app.catalog.backups(wanted)
    if entries:
        return newest(entries, wanted, at)
    try:
        return app.catalog.backup(wanted)
    except NotFound:
        raise NotFound(
            f"there is no backup, and no database with backups, {wanted!r}"
        ) from None


def from_nearest(
    app: App,
    entry: Backup,
    use: Callable[[ObjectStore, Manifest], T],
    say: Callable[[str], None],
) -> T:
    """What `use` makes of the nearest copy that is whole; a copy that turns out damaged or
    out of reach is named by `say`, and the next one is used.

    Raises what the nearest one was refused for when none is left.
    """
    from backups.run.reader import require_whole

    candidates = places(app, entry)
    refused: list[IntegrityError | StoreError] = []
    for place in candidates:
        try:
            with place_of(app, entry, place) as store:
                manifest = manifest_of(app, store, entry, place)
                if len(candidates) > 1:
                    require_whole(store, manifest)
                return use(store, manifest)
        except (IntegrityError, StoreError) as error:
            refused.append(error)
            if len(candidates) > 1:
                say(f"the copy in {place.store_url} is of no use: {error}")
    raise refused[0]


def giving_back(
    app: App,
    entry: Backup,
    use: Callable[[Manifest, RestorePorts], T],
    say: Callable[[str], None],
) -> T:
    """`use` on the nearest copy that is whole; the restore agent's identity is read."""
    identities = restore_identities(app, entry)

    def opened(store: ObjectStore, manifest: Manifest) -> T:
        return use(manifest, restore_ports(store, manifest, identities))

    return from_nearest(app, entry, opened, say)


def restore_identities(app: App, entry: Backup) -> tuple[Identity, ...]:
    """The restore agent's identities, to open that backup with; every use is recorded."""
    identities = identities_of(app, entry.customer, f"backup {entry.id}")
    app.audit.note("identity.used", entry.customer, entry.id, {"database": entry.database})
    return identities


def restore_ports(
    store: ObjectStore, manifest: Manifest, identities: Sequence[Identity]
) -> RestorePorts:
    """What giving a backup back needs."""
    from backups.engines.registry import open_engine
    from backups.run.restore import RestorePorts

    clock = SystemClock()
    engine = open_engine(manifest.engine, clock, SystemEntropy())
    return RestorePorts(clock, engine, store, identities)


@contextmanager
def recovery(
    store_url: str, identity: Path, find: Callable[[ObjectStore], Manifest]
) -> Iterator[tuple[Manifest, RestorePorts]]:
    """The backup that `find` finds, and what giving it back needs: no home, no catalog."""
    from backups import keys

    identities = keys.load_identities(identity)
    with bare_store(store_url) as store:
        manifest = find(store)
        yield manifest, restore_ports(store, manifest, identities)


def last_time(app: App, database: str) -> timedelta | None:
    """How long the last restore that a person asked for took. None: there was none."""
    restored = [
        (each.ended_at, each.ended_at - each.started_at)
        for each in app.catalog.operations(database)
        if each.state == "done" and each.ended_at is not None
    ]
    return max(restored)[1] if restored else None


@dataclass(slots=True)
class Ending:
    """What is to be recorded when an operation ends well."""

    exceptions: tuple[str, ...] = ()
    """What could not be made, in words."""


@contextmanager
def operation(
    app: App, entry: Backup, target: str, *, by: str = "", ticket: str = "", consent: str = ""
) -> Iterator[Ending]:
    """The durable record of a restore, brought to its end whatever happens. Who asked for it,
    and support's ticket and the customer's consent to it, are in the audit chain. One that is
    done with exceptions names them where another one has its error."""
    from backups.run.backup import how_it_ended
    from backups.run.restore import summary

    now = app.clock.now()
    record = Operation(
        id=uuid7(now, app.entropy.bytes(10)),
        customer=entry.customer,
        database=entry.database,
        backup=entry.id,
        target=target,
        state="running",
        started_at=now,
    )
    asked = {"by": by, "ticket": ticket, "consent": consent}
    app.catalog.start_operation(record, {name: each for name, each in asked.items() if each})
    ending = Ending()
    try:
        yield ending
    except BaseException as error:
        state, words = how_it_ended(error)
        app.catalog.end_operation(record.id, state, app.clock.now(), words)
        raise
    lacks = summary(ending.exceptions) if ending.exceptions else None
    app.catalog.end_operation(record.id, "done", app.clock.now(), lacks)
