"""The catalog's own backups: out of a home, and into one that lost it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import CatalogError, ConfigError
from backups.ports import ObjectStore
from backups.settings import Home, load_settings
from backups.wiring.app import App, opened
from backups.wiring.placing import catalog_place, is_lost

if TYPE_CHECKING:
    from backups.format.catalog import Label
    from providers.access import Role


def back_up_catalog(app: App, store_url: str, recipients: Sequence[str]) -> Label:
    """Store a snapshot in the operator's own store, for `recipients` or those of the settings.

    Raises ConfigError, also when the store is a customer's; StoreError's kinds.
    """
    from backups import keys
    from backups.catalog.moving import copy_to_file
    from backups.catalog.snapshot import take_snapshot
    from backups.catalog.tables import HEAD
    from backups.format.age import Recipient
    from backups.run.safekeeping import SafePorts, store_catalog
    from backups.wiring.holding import alone

    who = recipients or load_settings(app.home).catalog_recipients
    if not who:
        raise ConfigError(
            "the catalog is encrypted to nobody yet",
            hint="Name the operator's age recipient: --recipient, or catalog_recipients in "
            "settings.yaml.",
        )
    _refuse_customers(app, store_url)
    with alone(app, ".catalog", "a backup"), _own(store_url, "writer") as store:
        snapshot = app.home.path / "catalog.snapshot"
        snapshot.unlink(missing_ok=True)  # of one that was killed
        try:
            place = catalog_place(app.home)
            if isinstance(place, Path):
                take_snapshot(place, snapshot)
            else:
                copy_to_file(app.catalog, snapshot)
            ports = SafePorts(
                app.clock,
                app.entropy,
                store,
                keys.load_signing_key(app.home),
                [Recipient.parse(one) for one in who],
            )
            with snapshot.open("rb") as file:
                label = store_catalog(ports, file, HEAD)
        finally:
            snapshot.unlink(missing_ok=True)
    app.audit.note("catalog.backed_up", None, label.name, {"store": store_url})
    return label


def restore_catalog(
    path: str | Path,
    store_url: str,
    identity: Path,
    verify_key: Path | None,
    say: Callable[[str], None],
) -> Label:
    """Bring the newest one back into a home that has none; it is in doubt then, because it
    does not know what was done since. What is newer and not believed is named by `say`.

    Raises CatalogError when a catalog is there, IntegrityError's and StoreError's kinds.
    """
    from backups import keys
    from backups.catalog.moving import fill
    from backups.catalog.snapshot import put_in_place
    from backups.catalog.tables import HEAD
    from backups.private import write_private
    from backups.run.safekeeping import fetch_catalog, find_catalog

    home = Home.at(Path(path))
    place = catalog_place(home)
    if not is_lost(place):
        raise CatalogError(
            f"{place!s} is there: it is not overwritten", hint="Move it away first."
        )
    identities = keys.load_identities(identity)
    trusted = (keys.load_verify_key(verify_key),) if verify_key else keys.load_verify_keys(home)
    coming = home.path / "catalog.coming"
    coming.unlink(missing_ok=True)  # of one that was killed
    try:
        with _own(store_url, "restorer") as store:
            label, unbelieved = find_catalog(store, trusted)
            for one in unbelieved:
                say(f"not believed: {one.key}: {one.error}")
            if label.schema_version > HEAD:
                raise CatalogError(
                    f"this catalog is of a newer release (schema {label.schema_version})",
                    hint="Use that release.",
                )
            write_private(coming, b"")
            with coming.open("r+b") as file:
                fetch_catalog(store, label, identities, file)
        if isinstance(place, Path):
            put_in_place(coming, place)
        else:
            fill(place, coming)
    finally:
        coming.unlink(missing_ok=True)
    with opened(path) as app:
        app.reconciliation.doubt(app.clock.now(), f"brought back as of {label.taken_at}")
    return label


def _refuse_customers(app: App, store_url: str) -> None:
    from backups.fleet.places import refuse_trespass
    from providers.urls import parse_store_url

    theirs = [
        (policy.customer, parse_store_url(store.url))
        for policy in app.catalog.policies()
        for store in policy.stores
    ]
    refuse_trespass([("the operator", parse_store_url(store_url))], theirs)


@contextmanager
def _own(url: str, role: Role) -> Iterator[ObjectStore]:
    """The operator's own store, with the credentials at hand."""
    from providers.access import Access
    from providers.registry import open_store

    access = Access(role)
    store = open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=access)
    with closing(store):
        yield store
