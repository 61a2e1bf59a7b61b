"""Finding a backup with nothing but its store: no catalog, no settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import NotFound
from backups.model import Manifest
from backups.ports import ObjectStore
from backups.run.choose import newest
from backups.run.reader import Found, Unbelieved, list_manifests


def find(
    store: ObjectStore,
    verify_keys: Sequence[Ed25519PublicKey],
    *,
    database: str | None,
    backup: str | None,
    at: datetime | None,
) -> Manifest:
    """The backup a person asked for. Raises NotFound, or what is wrong with the one that
    was asked for."""
    found = list(list_manifests(store, verify_keys))
    manifests = [entry.manifest for entry in found if isinstance(entry, Found)]
    wrong = [entry for entry in found if isinstance(entry, Unbelieved)]
    if backup:
        for entry in wrong:
            if f"/{backup}/" in entry.key:
                raise entry.error
        manifests = [manifest for manifest in manifests if manifest.backup == backup]
        if not manifests:
            raise NotFound(f"the store holds no backup {backup!r}")
    names = sorted({manifest.database for manifest in manifests})
    if not names:
        if wrong:
            raise wrong[0].error
        raise NotFound("the store holds no backup", hint="Check the prefix in the store's URL.")
    if database is None and len(names) > 1:
        raise NotFound(
            f"the store holds backups of {len(names)} databases: {', '.join(names)}",
            hint="Say which one with --database.",
        )
    return newest(manifests, database or names[0], at)
