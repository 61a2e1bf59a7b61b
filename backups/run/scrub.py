"""Scrub: one of a customer's stores against the manifests in it and the catalog.

What is found, by kind:

- `missing`: a manifest names it and it is gone; or the catalog lists a backup here and its
  manifest is gone: deleted behind our back.
- `altered`: size, version, digest, or bytes read as a sample differ from the manifest; or the
  manifest is another one than the catalog lists.
- `unreadable`: a manifest that is damaged, signed by nobody we trust, or another customer's;
  or a sample that has its digest but does not open.
- `unreachable`: the store could not be looked at, or not to the end.
- `unlisted`: a backup that the catalog does not know to lie here.
- `orphan`: a part of a backup that no manifest names, older than the safety age.
- `foreign`: below `v1/`, but named like nothing of ours.
- `upload`: begun in parts by somebody else, older than the safety age and not ended: its parts
  are stored, and no listing shows them. We put whole, so none is ours, and none is removed.

The first three break a promise (`BROKEN`), the fourth leaves it unknown; the others cost
storage, and break nothing.

An orphan is removed on request only, and never

- while it is of an unfinished run, or named by the manifest that such a run has prepared;
- while the catalog lists its backup and its manifest is not here: it may be on its way as a
  copy, or its manifest may be brought back;
- where any manifest of the store could not be read: it may name the orphan.

Runs and listed backups are looked up before the store is listed: what is finished by then has
its manifest in the listing. Memory is bounded by the largest backup, not by the store.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, islice

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backups.errors import (
    ConfigError,
    Damaged,
    IntegrityError,
    ObjectMissing,
    StoreDenied,
    StoreError,
)
from backups.format.age import Identity
from backups.format.manifest import manifest_key, parse_manifest_key, verify
from backups.ids import uuid7
from backups.model import Backup, Manifest, ObjectInfo, Run, Scrub, Segment
from backups.ports import Catalog, Clock, Entropy, Ledger, ObjectStore, Progress
from backups.run.confirming import compare, read_one, twice
from backups.run.orphans import lock_of, remove
from backups.run.reader import read_manifest
from backups.run.scrubbing import (
    Drawable,
    Tally,
    drawable,
    folder_of,
    is_foreign,
    orphans_of,
    segments_of,
    unnamed,
)

BROKEN = frozenset({"missing", "altered", "unreadable"})
"""Kinds of findings that break a promise."""


@dataclass(frozen=True, slots=True)
class ScrubPorts:
    """What comparing one store needs."""

    catalog: Catalog
    ledger: Ledger
    clock: Clock
    entropy: Entropy
    customer: str
    store_url: str
    restorer: Callable[[], AbstractContextManager[ObjectStore]]
    """The store, to be read."""
    pruner: Callable[[], AbstractContextManager[ObjectStore]]
    """The same, to delete orphans; not opened otherwise."""
    listed: Callable[[], Mapping[str, Backup]]
    """What the catalog lists in this store by now, by the manifest's key; each with the
    digest of the manifest here."""
    uploads: Callable[[], Iterable[tuple[str, datetime]]]
    """Key and start of each upload that was begun in parts and not ended."""
    verify_keys: Sequence[Ed25519PublicKey]
    identities: Sequence[Identity]
    """Without any, samples are compared by digest alone."""


@dataclass(frozen=True, slots=True)
class ScrubOptions:
    """What a person may choose."""

    orphan_age: timedelta = timedelta(days=7)
    """Younger ones may be a run's that is under way."""
    remove_orphans: bool = False
    sample: int | None = 3
    """Segments to read; None reads all."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the catalog knew before the store was listed."""

    unfinished: tuple[Run, ...]
    listed: Mapping[str, Backup]
    """See `ScrubPorts.listed`."""
    anywhere: frozenset[str]
    """Keys that the manifests of all the customer's backups have, in whichever store."""


@dataclass(slots=True)
class _Look:
    """What was seen of a store so far."""

    seed: str
    tally: Tally = field(default_factory=Tally)
    objects: int = 0
    read_bytes: int = 0
    found: dict[str, str] = field(default_factory=dict)
    """Manifests that are believed: key to digest."""
    unread: set[str] = field(default_factory=set)
    """Keys of manifests that are not, for whatever reason."""
    named: dict[str, Segment] = field(default_factory=dict)
    """Segments named by the manifest of another folder than theirs."""
    unnamed: list[ObjectInfo] = field(default_factory=list)
    """Parts of backups, old enough, that the manifest beside them does not name."""
    sample: list[Drawable] = field(default_factory=list)


def scrub(ports: ScrubPorts, options: ScrubOptions, progress: Progress) -> Scrub:
    """Compare a store with its manifests, and record what was found.

    A store that fails is a finding, not an error. Raises CatalogError.
    """
    started = ports.clock.now()
    scrub_id = uuid7(started, ports.entropy.bytes(10))
    look = _Look(scrub_id)
    try:
        with ports.restorer() as store:
            known = _known(ports)
            _compare(ports, options, store, look, progress)
            _compare_catalog(ports, known, look)
            _read(ports, store, look.sample, look, progress)
            _report_uploads(ports, options, look)
            _settle_orphans(ports, options, store, known, look, progress)
    except (StoreError, ConfigError) as error:
        look.tally.add("unreachable", ports.store_url, str(error))
    done = Scrub(
        id=scrub_id,
        customer=ports.customer,
        store_url=ports.store_url,
        started_at=started,
        ended_at=ports.clock.now(),
        objects=look.objects,
        backups=len(look.found),
        read_bytes=look.read_bytes,
        findings=look.tally.findings(),
    )
    ports.catalog.add_scrub(done)
    return done


# --- the store and its manifests ------------------------------------------------------


def _compare(
    ports: ScrubPorts,
    options: ScrubOptions,
    store: ObjectStore,
    look: _Look,
    progress: Progress,
) -> None:
    oldest = ports.clock.now() - options.orphan_age
    listed_bytes = 0
    for folder, infos in groupby(store.list("v1/"), lambda info: folder_of(info.key)):
        there: dict[str, ObjectInfo] = {}
        for info in infos:
            look.objects += 1
            listed_bytes += info.size
            if is_foreign(info.key):
                words = "it is named like nothing of ours"
                look.tally.add("foreign", info.key, words, info.size)
            else:
                there[info.key] = info
        progress(f"comparing {ports.store_url}", listed_bytes, None)
        manifest = None
        for key in there:
            if place := parse_manifest_key(key):
                manifest = _believed(ports, store, key, place, look)
        if manifest is not None:
            own = [s for s in segments_of(manifest) if s.key.startswith(folder)]
            look.named.update(
                (s.key, s) for s in segments_of(manifest) if not s.key.startswith(folder)
            )
            wrong = compare(store, folder, there, own, look.tally)
            candidates = drawable(manifest, wrong, look.seed)
            if options.sample is None:
                _read(ports, store, candidates, look, progress)
            else:
                lowest = heapq.merge(look.sample, sorted(candidates, key=_rank), key=_rank)
                look.sample = list(islice(lowest, options.sample))
        look.unnamed.extend(
            info for info in unnamed(there.values(), manifest) if info.modified <= oldest
        )
    for folder, keys in groupby(sorted(look.named), folder_of):
        compare(store, folder, {}, [look.named[key] for key in keys], look.tally)


def _rank(drawn: Drawable) -> bytes:
    return drawn.rank


def _believed(
    ports: ScrubPorts, store: ObjectStore, key: str, place: tuple[str, str], look: _Look
) -> Manifest | None:
    try:
        found = twice(partial(read_manifest, store, *place, ports.verify_keys))
        if found.manifest.customer != ports.customer:
            raise Damaged(f"object {key} is the manifest of another customer's backup")
    except ObjectMissing:  # deleted since it was listed
        look.unread.add(key)
    except IntegrityError as error:
        look.unread.add(key)
        look.tally.add("unreadable", key, str(error))
    else:
        look.found[key] = found.sha256
        return found.manifest
    return None


def _report_uploads(ports: ScrubPorts, options: ScrubOptions, look: _Look) -> None:
    oldest = ports.clock.now() - options.orphan_age
    try:
        for key, started in ports.uploads():
            if started <= oldest:
                words = f"begun in parts by somebody else on {started:%Y-%m-%d}, and not ended"
                look.tally.add("upload", key, words)
    except StoreDenied as error:  # a right that scrub can do without
        look.tally.add("upload", ports.store_url, f"could not be looked for: {error}")


# --- the catalog ----------------------------------------------------------------------


def _known(ports: ScrubPorts) -> _Known:
    policies = [p for p in ports.catalog.policies() if p.customer == ports.customer]
    unfinished = [run for p in policies for run in ports.catalog.unfinished_runs(p.database)]
    backups = [b for b in ports.catalog.backups() if b.customer == ports.customer]
    keys = frozenset(manifest_key(backup.database, backup.id) for backup in backups)
    return _Known(tuple(unfinished), ports.listed(), keys)


def _compare_catalog(ports: ScrubPorts, known: _Known, look: _Look) -> None:
    """A backup that came or went during the look is neither unlisted nor missing."""
    now = ports.listed()
    for key, backup in known.listed.items():
        if key in look.found:
            if look.found[key] != backup.manifest_sha256:
                words = "it is signed by us, and not the manifest that the catalog lists"
                look.tally.add("altered", key, words)
        elif key in now and key not in look.unread:
            look.unread.add(key)
            words = f"the catalog lists backup {backup.id} here, and its manifest is gone"
            look.tally.add("missing", key, words)
    told = {manifest_key(run.database, run.id) for run in known.unfinished}
    told.update(known.listed, now)
    for database in {key.split("/")[1] for key in look.found}:
        # Unlisted on purpose, and still there: its lock, or its deletion, is not over.
        told.update(manifest_key(database, d.backup) for d in ports.ledger.deletions(database))
    for key in look.found:
        if key not in told:
            words = "the catalog does not list this backup; `backups catalog rebuild` would"
            look.tally.add("unlisted", key, words)


def _read(
    ports: ScrubPorts,
    store: ObjectStore,
    sample: Iterable[Drawable],
    look: _Look,
    progress: Progress,
) -> None:
    for drawn in sample:
        look.read_bytes += read_one(store, ports.identities, drawn, look.tally)
        progress(f"reading a sample of {ports.store_url}", look.read_bytes, None)


# --- orphans --------------------------------------------------------------------------


def _settle_orphans(
    ports: ScrubPorts,
    options: ScrubOptions,
    store: ObjectStore,
    known: _Known,
    look: _Look,
    progress: Progress,
) -> None:
    named = set(look.named)
    spared = look.unread | (known.anywhere - look.found.keys())
    for run in known.unfinished:
        spared.add(manifest_key(run.database, run.id))
        if run.envelope is not None:
            named.update(_prepared(ports, run, run.envelope, look))
    now = ports.clock.now()
    orphans = orphans_of(look.unnamed, named, spared)
    note, failure = "", None
    if options.remove_orphans and look.unread:
        note = "; not removed: a manifest is missing or could not be read, which may name it"
    elif options.remove_orphans and orphans:
        removed = set[str]()
        try:
            with ports.pruner() as pruner:
                for info in remove(store, pruner, ports.verify_keys, orphans):
                    removed.add(info.key)
                    progress(f"removing orphans from {ports.store_url}", info.size, None)
                    words = f"removed, with the {info.size} bytes that it occupied"
                    look.tally.add("orphan", info.key, words)
        except (StoreError, ConfigError) as error:
            note, failure = "; not removed", error
        orphans = [info for info in orphans if info.key not in removed]
    for info in orphans:
        shown = failure is None and look.tally.names("orphan", info.key)
        lock = lock_of(store, info) if shown else ""
        words = f"no manifest names it, {(now - info.modified).days} days old{lock}{note}"
        look.tally.add("orphan", info.key, words, info.size)
    if failure is not None:
        raise failure


def _prepared(ports: ScrubPorts, run: Run, envelope: bytes, look: _Look) -> Iterable[str]:
    """Keys named by the manifest that a run is about to put."""
    try:
        return {s.key for s in segments_of(verify(envelope, ports.verify_keys))}
    except IntegrityError:
        look.unread.add(manifest_key(run.database, run.id))
        return ()
