"""Cold start: what a restore test is told by the store and an identity alone.

No catalog, no settings, no home: as on the day when all of it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import NotFound
from backups.model import Policy
from backups.ports import ObjectStore
from backups.proving import Pick
from backups.run.backup import as_backup
from backups.run.choose import newest
from backups.run.reader import Found, list_manifests
from verify.drill import Subject
from verify.ports import Questions


def cold_subject(
    store: ObjectStore,
    store_url: str,
    verify_keys: Sequence[Ed25519PublicKey],
    drill_id: str,
    policy: Policy,
    *,
    limit: timedelta,
    region: str = "",
    jobs: int = 2,
) -> Subject:
    """The newest backup that the store itself tells of; `policy` names the database, and what
    its plan promises. Raises NotFound when the store has none that is believed."""
    database = policy.database
    found = {
        entry.manifest.backup: entry
        for entry in list_manifests(store, verify_keys)
        if isinstance(entry, Found)
        and (entry.manifest.customer, entry.manifest.database) == (policy.customer, database)
    }
    if not found:
        raise NotFound(f"{store_url} holds no backup of {database!r} that can be believed")
    manifest = newest([entry.manifest for entry in found.values()], database, None)
    chosen = found[manifest.backup]
    earlier = [
        entry.manifest.snapshot_at
        for entry in found.values()
        if entry.manifest.snapshot_at < manifest.snapshot_at
    ]
    return Subject(
        id=drill_id,
        entry=as_backup(manifest, store_url, chosen.sha256),
        store_url=store_url,
        manifest_sha256=chosen.sha256,
        policy=policy,
        pick=Pick("newest", among=len(found)),
        questions=Questions(),
        before=max(earlier, default=None),
        newest=manifest.snapshot_at,
        listed=frozenset(entry.sha256 for entry in found.values()),
        limit=limit,
        region=region,
        jobs=jobs,
        kind="cold start",
    )
