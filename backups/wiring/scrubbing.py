"""Comparing stores with their manifests: read as the restorer, cleaned as the pruner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from backups.format.manifest import manifest_key
from backups.model import Backup, Copy, Destination
from backups.wiring.app import App
from backups.wiring.stores import access_of, store_of
from backups.wiring.unsealing import identities_of

if TYPE_CHECKING:
    from backups.run.scrub import ScrubPorts


def scrub_ports(
    app: App, customer: str, destination: Destination, *, with_identity: bool
) -> ScrubPorts:
    """What comparing one store needs; the restore agent's identity is read `with_identity`
    only. Raises ConfigError."""
    from backups import keys
    from backups.run.scrub import ScrubPorts

    return ScrubPorts(
        catalog=app.catalog,
        ledger=app.ledger,
        clock=app.clock,
        entropy=app.entropy,
        customer=customer,
        store_url=destination.url,
        restorer=partial(store_of, app, customer, destination, "restorer"),
        pruner=partial(store_of, app, customer, destination, "pruner"),
        listed=partial(listed_at, app, customer, destination.url),
        uploads=partial(_uploads, app, customer, destination),
        verify_keys=keys.load_verify_keys(app.home),
        identities=identities_of(app, customer, f"scrub of {destination.url}")
        if with_identity
        else (),
    )


def _uploads(
    app: App, customer: str, destination: Destination
) -> Iterator[tuple[str, datetime]]:
    from providers.posture import unfinished_uploads
    from providers.urls import parse_store_url

    url = parse_store_url(destination.url)
    access = access_of(app, customer, destination, "restorer")
    for upload in unfinished_uploads(url, access, app.clock):
        yield upload.key, upload.started


def listed_at(app: App, customer: str, url: str) -> Mapping[str, Backup]:
    """What the catalog lists in that store, by the manifest's key; each with the digest of
    the manifest that lies there."""
    from providers.urls import parse_store_url

    def where(url: str) -> tuple[object, ...]:
        parsed = parse_store_url(url)
        return parsed.root, parsed.folders

    found = {}
    for entry in app.catalog.backups():
        if entry.customer != customer:
            continue
        first = Copy(entry.id, entry.store_url, entry.manifest_sha256)
        for place in (first, *app.catalog.copies(entry.id)):
            if where(place.store_url) == where(url):
                key = manifest_key(entry.database, entry.id)
                found[key] = replace(entry, manifest_sha256=place.manifest_sha256)
    return found
