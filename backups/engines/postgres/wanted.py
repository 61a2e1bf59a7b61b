"""What a restore is to make of an archive, and what the copy is to contain then. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from backups.engines.postgres.archive import Head
from backups.engines.postgres.content import object_digests, object_key
from backups.engines.postgres.create import only_rights_of
from backups.engines.postgres.partial import of_part, part
from backups.engines.postgres.toc import Toc, TocEntry
from backups.engines.postgres.toc_edit import edited
from backups.model import Fingerprint, RestoreOptions

_PRIVILEGES = frozenset({"ACL", "DEFAULT ACL"})
_OWNS_NOTHING = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})
_BUILT_IN = re.compile("pg_")
"""Begins the names of roles that every server has."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the target's server offers."""

    tablespaces: frozenset[str]
    extensions: Mapping[str, frozenset[str]]
    """Name to the versions that can be made."""
    defaults: Mapping[str, str]
    """Name of an extension to the version that is made when none is named."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What pg_restore is given, and what is expected of it."""

    toc: Toc
    """The entries to be made, with their owners in the copy."""
    head: bytes
    """An archive without rows."""
    expected: Fingerprint
    roles: tuple[str, ...]
    """Those that must be there."""
    owners: frozenset[str]
    """Those of them that are to own something."""
    notes: tuple[str, ...]
    """What is made otherwise than at the source, in words."""
    no_tablespaces: bool


def wanted(
    head: Head, expected: Fingerprint, options: RestoreOptions, server: Server
) -> Wanted:
    """Decide what is made of this archive. Raises NotFound for a part that it has not."""
    toc, notes = head.toc, []
    if options.only:
        chosen = part(toc, options.only)
        expected = of_part(expected, toc, chosen.toc)
        toc, notes = chosen.toc, [*chosen.notes]
    if options.owner or options.no_privileges:
        toc, expected = _mapped(toc, expected, options)
    missing = {entry.tablespace for entry in toc.entries} - server.tablespaces - {""}
    if missing:
        notes.append("tablespaces that the server lacks were left out")
    older = dict(_replaced_versions(toc, expected.extensions, server))
    for name, version in sorted(older.items()):
        had = expected.extensions[name]
        notes.append(f"extension {name!r} is {version} here: the server has no {had}")
    versions = {**expected.extensions, **older}
    expected = replace(expected, extensions=versions)

    def change(entry: TocEntry) -> TocEntry:
        if entry.desc == "EXTENSION" and entry.tag in versions:
            return _of_version(entry, versions[entry.tag])
        return _owned(entry, options.owner)

    return Wanted(
        toc=toc,
        head=edited(head.raw, head.toc.entries, change),
        expected=expected,
        roles=_roles(toc, expected, options),
        owners=frozenset(_owners(toc, expected)),
        notes=tuple(notes),
        no_tablespaces=bool(missing),
    )


def without(
    found: Fingerprint,
    names: Collection[tuple[str, str, str]],
    tables: Collection[tuple[str, str]],
) -> Fingerprint:
    """The fingerprint without those objects (kind, schema, name), and without the rows and
    columns of those tables (schema, name)."""
    return replace(
        found,
        objects=tuple(o for o in found.objects if (o.kind, o.schema, o.name) not in names),
        tables=tuple(t for t in found.tables if (t.schema, t.name) not in tables),
    )


# --- one role that owns everything ----------------------------------------------------


def _mapped(
    toc: Toc, expected: Fingerprint, options: RestoreOptions
) -> tuple[Toc, Fingerprint]:
    entries = tuple(
        _owned(entry, options.owner)
        for entry in toc.entries
        if not (options.no_privileges and entry.desc in _PRIVILEGES)
    )
    toc = replace(toc, entries=entries)
    owner = options.owner or expected.settings["owner"]
    settings = {**expected.settings, "owner": owner}
    if options.no_privileges:
        kept = only_rights_of(settings, (owner,))
        settings = {**kept, "rights": json.dumps(_default_rights(owner), ensure_ascii=False)}
    elif options.owner:
        renamed = [
            [owner if role == expected.settings["owner"] else role, *rest]
            for role, *rest in json.loads(expected.settings["rights"])
        ]
        settings["rights"] = json.dumps(sorted(renamed), ensure_ascii=False)
    named = {object_key(entry) for entry in entries}
    gone = {(o.kind, o.schema, o.name) for o in expected.objects} - named
    if options.owner:
        # Owners are part of the digests, so these are made anew from the archive, which was
        # authenticated like the fingerprint.
        objects = object_digests(entries)
    else:
        objects = tuple(o for o in expected.objects if (o.kind, o.schema, o.name) not in gone)
    return toc, replace(expected, objects=objects, settings=settings, roles=())


def _owned(entry: TocEntry, owner: str) -> TocEntry:
    if not owner or not entry.owner or _BUILT_IN.match(entry.owner):
        return entry
    return replace(entry, owner=owner)


def _default_rights(owner: str) -> list[list[object]]:
    """As the server gives a new database (acldefault)."""
    rights = [("", "CONNECT"), ("", "TEMPORARY"), (owner, "CONNECT"), (owner, "CREATE")]
    return [[role, right, False] for role, right in (*rights, (owner, "TEMPORARY"))]


# --- roles ----------------------------------------------------------------------------


def _roles(toc: Toc, expected: Fingerprint, options: RestoreOptions) -> tuple[str, ...]:
    if not (options.owner or options.no_privileges):
        return expected.roles
    owners = _owners(toc, expected)
    texts = "\n".join(entry.defn for entry in toc.entries)
    named = {role for role in expected.roles if role in texts}
    return tuple(sorted(owners | named))


def _owners(toc: Toc, expected: Fingerprint) -> set[str]:
    found = {e.owner for e in toc.entries if e.owner and e.desc not in _OWNS_NOTHING}
    found.add(expected.settings["owner"])
    return {role for role in found if not _BUILT_IN.match(role)}


# --- extensions -----------------------------------------------------------------------


def _replaced_versions(
    toc: Toc, extensions: Mapping[str, str], server: Server
) -> Iterator[tuple[str, str]]:
    """Extensions that the server has, but not in the version of the source."""
    made = {entry.tag for entry in toc.entries if entry.desc == "EXTENSION"}
    for name, version in extensions.items():
        versions = server.extensions.get(name)
        default = server.defaults.get(name)
        if versions is None or default is None or version in versions:
            continue
        if name in made or name == "plpgsql":
            yield name, default


def _of_version(entry: TocEntry, version: str) -> TocEntry:
    literal = version.replace("'", "''")
    defn = re.sub(r";\s*\Z", f" VERSION '{literal}';\n", entry.defn)
    return replace(entry, defn=defn)
