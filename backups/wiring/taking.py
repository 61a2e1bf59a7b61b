"""Taking backups and copying them: no identity is read here, so nothing can be decrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from backups.errors import (
    BucketMissing,
    IntegrityError,
    ObjectMissing,
    StoreDenied,
    StoreError,
)
from backups.model import Backup, Copy, Destination, Manifest, Policy, Source
from backups.ports import Progress
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.applying import refuse_backup
from backups.wiring.roles import require
from backups.wiring.stores import destination_at, manifest_of, place_of, places, store_of

if TYPE_CHECKING:
    from backups.run.backup import BackupPorts
    from backups.run.copies import CopyPorts


@contextmanager
def backup_ports(
    app: App,
    policy: Policy,
    *,
    anyway: bool = False,
    name: Callable[[tuple[str, ...]], None] = lambda _names: None,
) -> Iterator[BackupPorts]:
    """What a backup under `policy` needs; no file that decrypts is opened. `name` is told what
    the backup does not carry.

    Raises ConfigError when their state allows none (`anyway`: as for a last one)."""
    from backups import keys
    from backups.engines.registry import open_engine
    from backups.format.age import Recipient
    from backups.run.backup import BackupPorts
    from backups.wiring.holding import held

    require(app, "backup", "taking a backup")
    refuse_backup(app, policy, anyway=anyway)
    with (
        _way_back(policy.customer),
        store_of(app, policy.customer, policy.stores[0], "writer") as store,
    ):
        yield BackupPorts(
            catalog=app.catalog,
            clock=app.clock,
            entropy=app.entropy,
            engine=open_engine(policy.engine, app.clock, app.entropy),
            store=store,
            signing_key=keys.load_signing_key(app.home),
            recipients=(
                *map(Recipient.parse, policy.recipients),
                keys.load_restore_recipient(app.home, policy.customer),
            ),
            level=load_settings(app.home).zstd_level,
            exclusive=partial(held, app),
            name=name,
        )


@contextmanager
def _way_back(customer: str) -> Iterator[None]:
    """Rights that were taken away and buckets that moved are found out here: say what then."""
    try:
        yield
    except (BucketMissing, StoreDenied) as error:
        error.hint += (
            f" `backups store check {customer}` tells what is refused, `backups store policy "
            f"{customer}` what to grant. A bucket that moved: write the new URL into the fleet "
            "file and apply it; what lies in the old place is restored from there."
        )
        raise


def source_of(policy: Policy) -> Source:
    """Where a policy's database lives, its password resolved. Raises ConfigError."""
    from backups.fleet import resolve_password

    reference = policy.password_ref
    return Source(policy.source_url, resolve_password(reference) if reference else None)


@contextmanager
def copy_ports(
    app: App, entry: Backup, source: Copy, target: Destination
) -> Iterator[tuple[Manifest, CopyPorts]]:
    """A backup as it lies in one store, and what copying it into another needs. Nothing in
    it can decrypt: segments travel as they are."""
    from backups import keys
    from backups.run.copies import CopyPorts

    with ExitStack() as stack:
        reader = stack.enter_context(place_of(app, entry, source))
        yield (
            manifest_of(app, reader, entry, source),
            CopyPorts(
                catalog=app.catalog,
                clock=app.clock,
                source=reader,
                target=stack.enter_context(store_of(app, entry.customer, target, "writer")),
                beside=stack.enter_context(store_of(app, entry.customer, target, "restorer")),
                signing_key=keys.load_signing_key(app.home),
            ),
        )


def unwhole(app: App, policy: Policy, entry: Backup) -> tuple[Destination, ...]:
    """The stores whose listed copy is not whole any more: something of it is missing, or not
    what was listed. Raises StoreError's kinds when a store can't be looked at."""
    from backups.run.reader import require_whole

    found = []
    for place in places(app, entry):
        destination = destination_at(app, entry.database, place.store_url)
        if destination not in policy.stores:
            continue
        with place_of(app, entry, place) as store:
            try:
                require_whole(store, manifest_of(app, store, entry, place))
            except (IntegrityError, ObjectMissing):
                found.append(replace(destination, url=place.store_url))
    return tuple(found)


def copy_to(app: App, entry: Backup, target: Destination, progress: Progress) -> Copy:
    """Copy a backup into one more store, or heal it there, from the nearest other one that
    gives it whole.

    Raises ObjectMissing when no other store holds it, what the nearest was refused for, or
    what the target answered; Busy while the database is pruned, NotFound when that took the
    backup away.
    """
    from backups.wiring.holding import together

    with together(app, f"{entry.database}.copies", "pruning"):
        entry = app.catalog.backup(entry.id)
        sources = [place for place in places(app, entry) if place.store_url != target.url]
        if not sources:
            raise ObjectMissing(
                f"no other store holds backup {entry.id}: there is nothing to copy it from"
            )
        first, *others = sources
        try:
            return _copied(app, entry, first, target, progress)
        except (IntegrityError, StoreError):
            for place in others:
                with suppress(IntegrityError, StoreError):
                    return _copied(app, entry, place, target, progress)
            raise


def _copied(
    app: App, entry: Backup, source: Copy, target: Destination, progress: Progress
) -> Copy:
    from backups.run.copies import copy

    with copy_ports(app, entry, source, target) as (manifest, ports):
        return copy(ports, manifest, target.url, progress)
