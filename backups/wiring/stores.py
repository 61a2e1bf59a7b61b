"""Customers' stores, and where in them a backup lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import Damaged, NotFound
from backups.model import Backup, Copy, Destination, Manifest, Policy
from backups.ports import ObjectStore
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.roles import require_store, sees_data

if TYPE_CHECKING:
    from providers.access import Access, Role


@contextmanager
def store_of(
    app: App, customer: str, destination: Destination, role: Role
) -> Iterator[ObjectStore]:
    """A customer's store, reached as one of our roles. Raises ConfigError, RoleMissing."""
    from providers.registry import open_store

    require_store(app, role)
    access = access_of(app, customer, destination, role)
    store = open_store(destination.url, clock=app.clock, entropy=app.entropy, access=access)
    with closing(store):
        yield store


def access_of(app: App, customer: str, destination: Destination, role: Role) -> Access:
    """As whom, and over which network, a role reaches a customer's store."""
    from backups import keys
    from backups.enrolment import external_id
    from backups.fleet import resolve_key
    from providers.access import Access
    from providers.network import Network

    settings = load_settings(app.home)
    return Access(
        role=role,
        customer=customer,
        principal=getattr(destination, role),
        external_id=external_id(keys.load_enrolment_key(app.home, app.entropy), customer),
        key=resolve_key(destination.key_ref) if destination.key_ref else None,
        network=Network(settings.hosted, tuple(settings.hosted_allow)),
        sees_data=sees_data(app),
    )


@contextmanager
def bare_store(url: str) -> Iterator[ObjectStore]:
    """A store that no policy names, to be read with the credentials at hand."""
    from providers.access import Access
    from providers.registry import open_store

    access = Access("restorer")
    store = open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=access)
    with closing(store):
        yield store


def declared_stores(app: App, customer: str | None) -> list[tuple[str, Destination]]:
    """Every store of the policies in force, first ones first, each once with its customer."""
    found: dict[tuple[str, str], Destination] = {}
    policies = [p for p in app.catalog.policies() if customer in (None, p.customer)]
    for nth in range(max((len(policy.stores) for policy in policies), default=0)):
        for policy in policies:
            for store in policy.stores[nth : nth + 1]:
                found.setdefault((policy.customer, store.url), store)
    return [(owner, store) for (owner, _), store in found.items()]


def destination_at(app: App, database: str, url: str) -> Destination:
    """The store as the newest policy that names it has it; by its URL alone if none does."""
    from providers.urls import parse_store_url

    wanted = parse_store_url(url)
    try:
        newest = app.catalog.policy(database).version
    except NotFound:  # listed by a rebuild, declared nowhere
        newest = 0
    for version in range(newest, 0, -1):
        for destination in app.catalog.policy(database, version).stores:
            found = parse_store_url(destination.url)
            if (found.root, found.folders) == (wanted.root, wanted.folders):
                return destination
    return Destination(url)


def places(app: App, entry: Backup) -> list[Copy]:
    """Where a backup lies, nearest first: the stores as its policy orders them, then others."""
    from providers.urls import parse_store_url

    listed = [
        Copy(entry.id, entry.store_url, entry.manifest_sha256),
        *app.catalog.copies(entry.id),
    ]
    try:
        policy = app.catalog.policy(entry.database)
    except NotFound:
        return listed
    order = [(url.root, url.folders) for url in (parse_store_url(d.url) for d in policy.stores)]

    def nearness(copy: Copy) -> int:
        url = parse_store_url(copy.store_url)
        where = (url.root, url.folders)
        return order.index(where) if where in order else len(order)

    return sorted(listed, key=nearness)


def lacking(app: App, policy: Policy, entry: Backup) -> tuple[Destination, ...]:
    """The stores that the policy asks for and that hold no copy; none: it is complete."""
    from providers.urls import parse_store_url

    urls = [parse_store_url(place.store_url) for place in places(app, entry)]
    held = {(url.root, url.folders) for url in urls}
    wanted = [(parse_store_url(each.url), each) for each in policy.stores]
    return tuple(each for url, each in wanted if (url.root, url.folders) not in held)


def place_of(app: App, entry: Backup, place: Copy) -> AbstractContextManager[ObjectStore]:
    """The store of one copy, to be read only."""
    destination = destination_at(app, entry.database, place.store_url)
    return store_of(app, entry.customer, destination, "restorer")


def manifest_of(app: App, store: ObjectStore, entry: Backup, place: Copy) -> Manifest:
    """The signed manifest of a listed backup, from the store of one of its copies.

    Raises Damaged when it is another one than was listed."""
    from backups import keys
    from backups.run.reader import read_manifest

    trusted = keys.load_verify_keys(app.home)
    found = read_manifest(store, entry.database, entry.id, trusted)
    if found.sha256 != place.manifest_sha256 or found.manifest.customer != entry.customer:
        raise Damaged(f"object {found.key} is not the manifest that the catalog lists")
    return found.manifest
