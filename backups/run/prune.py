"""Retention at work: what the plan lets go is marked, waits, and is taken apart.

For one backup, in this order; a crash after any step leaves it as the line says:

    tombstone in every store       listed and whole; a backup like any other
    grace over, plan asked anew    the same: a hold placed meanwhile keeps it
    catalog: listed no more        whole, not listed; the next prune goes on from here
    manifest, store by store       no backup any more, there; what it named are orphans
    what no kept manifest names    the same, fewer
    catalog: nothing is left       nothing

It is unlisted *before* its manifest goes, so that at no instant is something listed that
can't be read. The record of its deletion stays, so that the next prune goes on, and no rebuild
lists it again while its manifest is there. A store in which its manifest is locked keeps it.

The plan is made anew from the manifests before anything is deleted; what can't be read or
believed freezes the database (`Contents.troubles`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backups.errors import IntegrityError, ObjectExists, ObjectLocked, StoreError
from backups.format.manifest import manifest_key
from backups.format.marks import sign, tombstone_key
from backups.keeping import Deletion, Tombstone
from backups.model import ObjectInfo
from backups.policy.retention import Decision, promised_end
from backups.run.pruning import Examined, PrunePorts, examine
from backups.run.reader import read_manifest
from backups.run.shelves import Contents, Shelf


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, or could not be."""

    backup: str
    store: str | None
    """None: in the catalog."""
    did: str
    """marked, waits, cancelled, extended, unlisted, deleted, removed, locked, held, failed."""
    words: str
    until: datetime | None = None


@dataclass(slots=True)
class Pruned:
    """A plan and what came of it."""

    decisions: tuple[Decision, ...]
    frozen: str = ""
    steps: list[Step] = field(default_factory=list)
    left: int = 0
    """Backups that the limit left for the next call."""


# --- the work -------------------------------------------------------------------------


def prune(ports: PrunePorts) -> Pruned:
    """Carry out the plan as far as it goes today. Called with the database held.

    A store that fails, or whose lock is not over, is a step in the result and not an error:
    the next call goes on. Raises CatalogError.
    """
    seen = examine(ports)
    done = Pruned(seen.decisions, seen.frozen)
    done.steps.extend(_extend_locks(ports, seen))
    if done.frozen:
        return done
    entries = {entry.id: entry for entry in seen.entries}
    for decision in seen.decisions:
        if decision.keep:
            done.steps.extend(_cancel(ports, seen.contents, decision))
    going = [decision for decision in reversed(seen.decisions) if not decision.keep]
    unmarked = [d for d in going if entries[d.backup].marked_at is None]
    now = ports.clock.now()
    due = [d for d in going if d not in unmarked and d.when is not None and d.when <= now]
    for decision in unmarked[: ports.limit]:
        done.steps.extend(_mark(ports, seen.contents, decision))
    for decision in going:
        if decision not in unmarked and decision not in due:
            words = "it is deleted when its grace time is over"
            done.steps.append(Step(decision.backup, None, "waits", words, decision.when))
    pending = list(seen.pending)
    for decision in due[: ports.limit]:
        pending += _unlist(ports, decision, done)
    done.left = len(unmarked[ports.limit :]) + len(due[ports.limit :])
    done.steps.extend(take_apart(ports, seen.contents, pending))
    return done


def _mark(
    ports: PrunePorts, contents: Sequence[Contents], decision: Decision
) -> Iterator[Step]:
    """A tombstone in each store that holds it."""
    now, backup = ports.clock.now(), decision.backup
    mark = Tombstone(ports.customer, ports.database, backup, decision.words, now)
    envelope = sign(mark, ports.signing_key)
    for each in contents:
        if backup not in each.manifests or backup in each.tombstones:
            continue
        failed = _unmark(ports, each, backup)
        if failed is not None:
            yield failed
            continue
        try:
            each.shelf.pruner.put(tombstone_key(ports.database, backup), envelope)
        except ObjectExists:  # another prune's
            continue
        except StoreError as error:
            yield Step(backup, each.shelf.url, "failed", str(error))
            continue
        grace = ports.rule.deletion_grace if ports.rule else timedelta()
        yield Step(backup, each.shelf.url, "marked", decision.words, now + grace)


def _cancel(
    ports: PrunePorts, contents: Sequence[Contents], decision: Decision
) -> Iterator[Step]:
    """It stays after all: its grace time begins anew when it is to go again."""
    for each in contents:
        if tombstone_key(ports.database, decision.backup) in each.objects.get(
            decision.backup, {}
        ):
            failed = _unmark(ports, each, decision.backup)
            yield failed or Step(decision.backup, each.shelf.url, "cancelled", decision.words)


def _unmark(ports: PrunePorts, each: Contents, backup: str) -> Step | None:
    """Take its tombstone away, if there is one; what stopped that, if something did."""
    info = each.objects[backup].get(tombstone_key(ports.database, backup))
    return None if info is None else _delete(each, backup, info)


def _unlist(ports: PrunePorts, decision: Decision, done: Pruned) -> Iterator[Deletion]:
    deletion = Deletion(
        decision.backup, ports.customer, ports.database, decision.reason, decision.words,
        ports.clock.now(),
    )  # fmt: skip
    if ports.ledger.delete_backup(deletion):
        done.steps.append(Step(decision.backup, None, "unlisted", decision.words))
        yield deletion
    else:
        words = "a hold was placed while this was under way"
        done.steps.append(Step(decision.backup, None, "held", words))


def take_apart(
    ports: PrunePorts, contents: Sequence[Contents], deletions: Sequence[Deletion]
) -> Iterator[Step]:
    """Manifests first, of all; then what no manifest that is left names; store by store."""
    for each in contents:
        for deletion in deletions:
            yield from _remove_manifest(ports, each, deletion.backup)
        named = each.named()
        for deletion in deletions:
            if deletion.backup not in each.manifests:
                yield from _remove_parts(each, deletion.backup, named)
    for deletion in deletions:
        if not any(each.objects.get(deletion.backup) for each in contents):
            ports.ledger.finish_deletion(deletion.backup, ports.clock.now())
            yield Step(deletion.backup, None, "removed", "nothing of it is left")


def _remove_manifest(ports: PrunePorts, each: Contents, backup: str) -> Iterator[Step]:
    info = each.objects.get(backup, {}).get(manifest_key(ports.database, backup))
    if info is None:
        return
    failed = _delete(each, backup, info)
    if failed is None:
        del each.manifests[backup]
    yield failed or Step(backup, each.shelf.url, "deleted", "its manifest is gone")


def _remove_parts(each: Contents, backup: str, named: set[str]) -> Iterator[Step]:
    """All that lies beside the manifest, the tombstone last: it says what happened."""
    parts = each.objects.get(backup, {})
    for info in sorted(parts.values(), key=lambda i: (i.key.endswith(".json"), i.key)):
        if info.key not in named:
            failed = _delete(each, backup, info)
            if failed is not None:
                yield failed
                return


def _delete(each: Contents, backup: str, info: ObjectInfo) -> Step | None:
    """Delete one object in its very version; what stopped it, if something did."""
    shelf = each.shelf
    try:
        shelf.pruner.delete(info.key, version_id=info.version_id)
    except ObjectLocked:
        until = _lock_of(shelf, info)
        return Step(backup, shelf.url, "locked", f"{info.key} is locked", until)
    except StoreError as error:
        return Step(backup, shelf.url, "failed", str(error))
    del each.objects[backup][info.key]
    return None


def _lock_of(shelf: Shelf, info: ObjectInfo) -> datetime | None:
    try:
        return shelf.reader.stat(info.key, version_id=info.version_id).retain_until
    except StoreError:
        return None


# --- locks ----------------------------------------------------------------------------


def _extend_locks(ports: PrunePorts, seen: Examined) -> Iterator[Step]:
    """A plan that was raised locks what is there for longer, segments first: the manifest's
    lock says that all are."""
    if ports.rule is None:
        return
    for entry in seen.entries:
        end = promised_end(entry, ports.rule.plan)
        if end <= max(entry.promised_until, ports.clock.now()):
            continue
        for shelf in ports.shelves:
            if entry.id in shelf.listed and shelf.reader.capabilities().retention:
                yield from _extend(ports, shelf, entry.id, end)


def _extend(ports: PrunePorts, shelf: Shelf, backup: str, end: datetime) -> Iterator[Step]:
    key = manifest_key(ports.database, backup)
    try:
        lies = shelf.reader.stat(key)
        # Stores keep whole seconds.
        if lies.retain_until is not None and lies.retain_until >= end.replace(microsecond=0):
            return
        keys = [ports.signing_key.public_key()]
        manifest = read_manifest(shelf.reader, ports.database, backup, keys).manifest
        for artifact in manifest.artifacts:
            for segment in artifact.segments:
                version = segment.version_id
                shelf.pruner.extend_retention(segment.key, end, version_id=version)
        shelf.pruner.extend_retention(key, end, version_id=lies.version_id)
    except (IntegrityError, StoreError) as error:
        yield Step(backup, shelf.url, "failed", str(error))
        return
    yield Step(backup, shelf.url, "extended", "its plan was raised", end)
