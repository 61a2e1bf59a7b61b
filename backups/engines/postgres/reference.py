"""What the vendor's own restore makes of an archive's definitions, to compare a copy with.

The text of a definition is not stable: a view may be printed otherwise after it was restored,
on another major version of the server, or beside another version of an extension. Where a
copy's text is not the source's, a second database is made of the same archive by pg_restore
alone, without rows. What both print alike is what one restore makes of the source's
definition; anything else in the copy is a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from backups.engines.postgres import create
from backups.engines.postgres.archive import ArchiveParser, Head
from backups.engines.postgres.content import object_digests, object_key
from backups.engines.postgres.dump import open_dump
from backups.engines.postgres.process import running
from backups.engines.postgres.remove import beside, drop_database
from backups.engines.postgres.server import Login, connected
from backups.engines.postgres.structure import SESSION, Job, listed
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import DumpFailed
from backups.model import Fingerprint, ObjectDigest

_NOT_MADE = frozenset({"MATERIALIZED VIEW DATA", "SEQUENCE SET"})

Key = tuple[str, str, str]
"""Kind, schema and name of an object."""


def differing(expected: Fingerprint, found: Fingerprint) -> bool:
    """Whether any definition differs, or is on one side only."""
    return set(expected.objects) != set(found.objects)


def settled(
    expected: Fingerprint, found: Fingerprint, reference: Iterable[ObjectDigest]
) -> tuple[Fingerprint, tuple[Key, ...]]:
    """`found` with the expected digest for each object that differs from the source's text
    and not from the reference's; and which those are. Pure."""
    wanted, there, made = (
        _by_key(objects) for objects in (expected.objects, found.objects, reference)
    )
    same = [
        key
        for key, digest in there.items()
        if key in wanted and wanted[key] != digest and made.get(key) == digest
    ]
    # Large objects are one entry each up to pg_dump 16, and one for many from 17 on.
    regrouped = {key for key in wanted.keys() ^ there.keys() if _is_large_object(key)}
    if {key: there[key] for key in regrouped & there.keys()} == {
        key: made[key] for key in regrouped & made.keys()
    }:
        there = {key: digest for key, digest in there.items() if key not in regrouped}
        there |= {key: wanted[key] for key in regrouped & wanted.keys()}
        same += sorted(regrouped)
    there |= {key: wanted[key] for key in same if key in wanted}
    objects = tuple(ObjectDigest(*key, digest) for key, digest in sorted(there.items()))
    return replace(found, objects=objects), tuple(same)


def _is_large_object(key: Key) -> bool:
    return key[0] in ("BLOB", "BLOB METADATA") or key[2].startswith("LARGE OBJECT")


def digests(
    job: Job, server: Login, entries: Iterable[TocEntry], settings: Mapping[str, str], jobs: int
) -> tuple[ObjectDigest, ...]:
    """The definitions in a database that pg_restore makes of these entries, which is dropped
    again. What pg_restore can't make is not in it. Raises Unreachable, AccessDenied."""
    name = beside(job.copy.database, "reference", job.copy.database[-8:])
    with connected(server) as connection:
        major = connection.info.server_version // 10000
        drop_database(connection, server, name)  # of an attempt that died
        try:
            connection.execute(create.create_database(name, settings, major))
            create.apply_settings(connection, name, settings, late=False)
            opened = server.to(name)
            if settings.get("public schema") == "absent":
                with connected(opened) as inside:
                    inside.execute("DROP SCHEMA public")
            _restore(replace(job, copy=opened), entries, jobs)
            return object_digests(toc_of(opened).entries)
        finally:
            drop_database(connection, server, name)


def toc_of(opened: Login) -> Toc:
    """The table of contents of a dump without rows. Raises what a dump raises."""
    parser, toc = ArchiveParser(), None
    with open_dump(opened, rows=False) as dump:
        for name, blocks in dump.artifacts():
            for block in blocks:
                if name == "archive" and toc is None:
                    toc = next((e.toc for e in parser.feed(block) if isinstance(e, Head)), None)
    if toc is None:
        raise DumpFailed("the archive ends inside its table of contents")
    return toc


def definition(toc: Toc, key: Key) -> str:
    """The text of an object's definition, with its owner; empty: it is not there."""
    found = [e for e in toc.entries if object_key(e) == key]
    return "\n".join(
        entry.defn.strip() + (f"\n-- owner: {entry.owner}" if entry.owner else "")
        for entry in found
    )


def _restore(job: Job, entries: Iterable[TocEntry], jobs: int) -> None:
    """Errors are passed over: what is missing then is no reference for anything."""
    chosen = job.toc.with_name("reference.list")
    chosen.write_bytes(listed([e for e in entries if e.desc not in _NOT_MADE]))
    argv = [job.tools.path("pg_restore"), f"--use-list={chosen}", f"--jobs={jobs}"]
    with running(
        [*argv, str(job.toc)], job.copy, options=SESSION, reads=[job.toc.parent]
    ) as child:
        for _ in child.blocks():
            pass
        child.wait()


def _by_key(objects: Iterable[ObjectDigest]) -> dict[Key, str]:
    return {(item.kind, item.schema, item.name): item.digest for item in objects}
