"""The fingerprint: what a database contained, as bytes and as differences. Pure.

FORMAT.md section 6. An encrypted artifact; the manifest carries only its digest, which a
random salt keeps from confirming anybody's guess.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical
from backups.model import Fingerprint, TableContent

MAX_BYTES = 256 << 20
SALT_BYTES = 16
VERSION = 1

_SALT = re.compile(r"[0-9a-f]{32}")
_CONTENT = re.compile(r"[0-9a-f]{16}")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class _Versioned:
    v: int


@dataclass(frozen=True, slots=True)
class _Document:
    v: int
    salt: str
    fingerprint: Fingerprint


_VERSIONED = TypeAdapter(_Versioned)
_DOCUMENT = TypeAdapter(_Document)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a copy is not its source, in words for people."""

    check: str
    """engine, structure, rows, content, sequences, large objects: what the data is;
    extensions, settings, roles: what the server beneath it provides."""
    subject: str
    expected: str
    actual: str
    item: tuple[str, str, str] | None = field(default=None, compare=False)
    """Kind, schema and name of the object whose definition differs."""

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: expected {self.expected}, is {self.actual}"


# --- as bytes -------------------------------------------------------------------------


def write(fingerprint: Fingerprint, salt: bytes) -> bytes:
    """Canonical JSON, lists sorted; `salt` is 16 fresh random bytes.

    Raises Damaged when `read` would refuse it: what cannot be read is never written.
    """
    try:
        data = canonical.dumps(_fields(_Document(VERSION, salt.hex(), fingerprint)))
    except ValueError as error:
        raise Damaged("the fingerprint holds text that is not Unicode") from error
    read(data, hashlib.sha256(data).hexdigest())
    return data


def read(data: bytes, sha256: str) -> Fingerprint:
    """The fingerprint that `write` wrote; `sha256` is the manifest's digest of it.

    Raises Damaged, or UnknownFormat when it is of another version.
    """
    if len(data) > MAX_BYTES:
        raise Damaged(f"the fingerprint is longer than {MAX_BYTES} bytes")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged("the fingerprint is not the one that the manifest names")
    try:
        version = _VERSIONED.validate_json(data, strict=True).v
        if version != VERSION:
            raise UnknownFormat(f"the fingerprint is of version {version}")
        document = _DOCUMENT.validate_json(data, strict=True)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise Damaged(
            f"the fingerprint's field {where or 'list'} is wrong or missing"
        ) from None
    found = document.fingerprint
    tables = [*found.tables, *([found.large_objects] if found.large_objects else [])]
    named = [(thing.schema, thing.name) for thing in found.tables]
    valued = [(thing.schema, thing.name) for thing in found.sequences]
    if not (
        _SALT.fullmatch(document.salt)
        and all(
            0 <= table.rows < 1 << 63 and _CONTENT.fullmatch(table.content) for table in tables
        )
        and all(-(1 << 63) <= sequence.last_value < 1 << 63 for sequence in found.sequences)
    ):
        raise Damaged("a value in the fingerprint is out of range")
    if len(set(named)) < len(named) or len(set(valued)) < len(valued):
        raise Damaged("the fingerprint names a table or sequence twice")
    if canonical.dumps(_fields(document)) != data:
        raise Damaged("the fingerprint is not canonical JSON of the fields of version 1")
    return found


def _fields(document: _Document) -> dict[str, Any]:
    found = document.fingerprint
    ordered = replace(
        found,
        roles=tuple(sorted(found.roles)),
        objects=tuple(sorted(found.objects)),
        tables=tuple(sorted(found.tables)),
        sequences=tuple(sorted(found.sequences)),
        not_compared=tuple(sorted(found.not_compared)),
        not_backed_up=tuple(sorted(found.not_backed_up)),
        members=tuple(sorted(found.members)),
    )
    fields: dict[str, Any] = _DOCUMENT.dump_python(replace(document, fingerprint=ordered))
    for later in ("not_backed_up", "members"):  # older backups have no such lists
        if not fields["fingerprint"][later]:
            del fields["fingerprint"][later]
    return fields


# --- as differences -------------------------------------------------------------------


def differences(expected: Fingerprint, actual: Fingerprint) -> tuple[Difference, ...]:
    """Everything in which `actual` is not `expected`, sorted by check and subject.

    Not compared: the server's version (a newer server may hold an equal copy; what its
    version changes in the data shows elsewhere), `not_compared` itself and `members`.
    """
    every = [
        *_between("engine", {"database": expected.engine}, {"database": actual.engine}),
        *_between("structure", _columns(expected), _columns(actual)),
        *_definitions(expected, actual),
        *_tables(expected, actual),
        *_between("sequences", _sequences(expected), _sequences(actual)),
        *_large_objects(expected.large_objects, actual.large_objects),
        *_between("extensions", _named(expected.extensions), _named(actual.extensions)),
        *_between("settings", _named(expected.settings), _named(actual.settings)),
        *_between("roles", _roles(expected), _roles(actual)),
    ]
    # A table is both an object and rows; that it is missing is said once.
    once = {(item.check, item.subject): item for item in reversed(every)}
    return tuple(once[key] for key in sorted(once))


def quote(name: str) -> str:
    """A name as it is shown: plain if it is plain, else in quotes with JSON's escapes.

    No two names look alike through control or invisible characters.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    shown = (
        char if char.isprintable() and char not in '"\\' else json.dumps(char)[1:-1]
        for char in name
    )
    return f'"{"".join(shown)}"'


def subject_of(kind: str, schema: str, name: str) -> str:
    """An object as it is named to people."""
    prefix = f"{quote(schema)}." if schema else ""
    return f"{kind.lower()} {prefix}{quote(name)}"


def _between(
    check: str, expected: Mapping[str, str], actual: Mapping[str, str]
) -> Iterator[Difference]:
    for subject in expected.keys() | actual.keys():
        wanted, seen = expected.get(subject), actual.get(subject)
        if wanted != seen:
            yield Difference(check, subject, wanted or MISSING, seen or MISSING)


def _columns(found: Fingerprint) -> dict[str, str]:
    return {
        subject_of("table", table.schema, table.name): "columns "
        + ", ".join(quote(column) for column in table.columns)
        for table in found.tables
    }


def _definitions(expected: Fingerprint, actual: Fingerprint) -> Iterator[Difference]:
    keys = {
        subject_of(*key): key
        for found in (expected, actual)
        for key in ((item.kind, item.schema, item.name) for item in found.objects)
    }
    for item in _between("structure", _objects(expected), _objects(actual)):
        yield replace(item, item=keys[item.subject])


def _objects(found: Fingerprint) -> dict[str, str]:
    # Several objects may share kind and name (rights, comments): all their digests count.
    digests: dict[str, list[str]] = {}
    for item in sorted(found.objects):
        digests.setdefault(subject_of(item.kind, item.schema, item.name), []).append(
            item.digest
        )
    return {subject: "definition " + " ".join(all_) for subject, all_ in digests.items()}


def _tables(expected: Fingerprint, actual: Fingerprint) -> Iterator[Difference]:
    """Rows and content of the tables on both sides; a missing one is a `structure` matter."""
    seen = {(table.schema, table.name): table for table in actual.tables}
    for wanted in expected.tables:
        found = seen.get((wanted.schema, wanted.name))
        if found is not None:
            yield from _rows(subject_of("table", wanted.schema, wanted.name), wanted, found)


def _rows(subject: str, wanted: TableContent, found: TableContent) -> Iterator[Difference]:
    if wanted.rows != found.rows:
        yield Difference("rows", subject, str(wanted.rows), str(found.rows))
    elif wanted.content != found.content:
        yield Difference("content", subject, wanted.content, found.content)


def _sequences(found: Fingerprint) -> dict[str, str]:
    return {
        subject_of("sequence", item.schema, item.name): f"at {item.last_value}, "
        + ("used" if item.is_called else "not yet used")
        for item in found.sequences
    }


def _large_objects(
    expected: TableContent | None, actual: TableContent | None
) -> Iterator[Difference]:
    """A database without large objects and an engine without them are the same."""
    none = TableContent("", "", (), 0, "0" * 16)
    for item in _rows("", expected or none, actual or none):
        yield replace(item, check="large objects", subject=item.check.replace("rows", "count"))


def _named(values: Mapping[str, str]) -> dict[str, str]:
    return {quote(name): quote(value) for name, value in values.items()}


def _roles(found: Fingerprint) -> dict[str, str]:
    return {quote(name): "present" for name in found.roles}
