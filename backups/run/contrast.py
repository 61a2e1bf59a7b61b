"""What the live database holds and what a backup holds, side by side, in words. Pure.

People approve a replacement by these words. So what would be lost whole comes first, counted;
then rows; then all else that differs, each thing by its name. No text of a definition and no
digest is among them (see `differing`); whoever wants the texts looks into the rehearsal's copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from backups.differing import is_definition
from backups.format.fingerprint import MISSING, Difference, differences, quote
from backups.model import Fingerprint, TableContent
from backups.replacing import Changes

SHOWN = 200
"""Lines that a plan or a rehearsal has; the rest is counted."""

Table = tuple[str, str]
"""Schema and name."""


def digest(fingerprint: Fingerprint) -> str:
    """SHA-256 (hex) of what a database contains, whatever server it is on."""
    return hashlib.sha256(repr(_sorted(fingerprint)).encode()).hexdigest()


def planned(now: Fingerprint, then: Fingerprint) -> tuple[str, ...]:
    """How the backup differs from the live database; nothing where both contain the same."""
    return _cut([*_whole(now, then), *_others(now, then, rows=True), *_in_no_backup(now)])


def rehearsed(
    now: Fingerprint, then: Fingerprint, changes: Iterable[Changes]
) -> tuple[str, ...]:
    """How the copy differs from the live database, `changes` being of `changed(now, then)`."""
    ours, theirs = _tables(now), _tables(then)
    rows = [
        replace(
            each,
            rows_now=ours[each.schema, each.name].rows,
            rows_then=theirs[each.schema, each.name].rows,
        )
        for each in changes
    ]
    return _cut(
        [
            *_whole(now, then),
            *map(str, rows),
            *_others(now, then, rows=False),
            *_in_no_backup(now),
            *(f"not compared: {each}" for each in _not_compared(now, then)),
        ]
    )


def changed(now: Fingerprint, then: Fingerprint) -> list[Table]:
    """Tables on both sides whose rows are not the same."""
    ours = _tables(now)
    return [
        name
        for name, theirs in _tables(then).items()
        if name in ours
        and (ours[name].rows, ours[name].content) != (theirs.rows, theirs.content)
    ]


def _whole(now: Fingerprint, then: Fingerprint) -> Iterator[str]:
    """Tables on one side only, with their rows: their sum first, then each."""
    ours, theirs = _tables(now), _tables(then)
    lost = _by_rows(each for name, each in ours.items() if name not in theirs)
    back = _by_rows(each for name, each in theirs.items() if name not in ours)
    if lost:
        yield _sum(lost, ("is lost", "are lost"))
    if back:
        yield _sum(back, ("comes back", "come back"))
    for tables, what in ((lost, "is lost"), (back, "comes back")):
        yield from (f"table {_named(t)} {what} whole: {_count(t.rows, 'row')}" for t in tables)


def _sum(tables: Sequence[TableContent], what: tuple[str, str]) -> str:
    rows = sum(table.rows for table in tables)
    verb = what[0] if len(tables) == 1 else what[1]
    return f"{_count(len(tables), 'table')} {verb} whole, with {_count(rows, 'row')}"


def _others(now: Fingerprint, then: Fingerprint, *, rows: bool) -> Iterator[str]:
    """All but whole tables; rows and contents first, where they are asked for."""
    whole = {
        f"table {_named(table)}"
        for name, table in {**_tables(now), **_tables(then)}.items()
        if (name in _tables(now)) != (name in _tables(then))
    }
    found = [
        each
        for each in differences(now, then)
        if not (each.check == "structure" and each.subject in whole)
    ]
    data = [each for each in found if each.check in ("rows", "content")]
    yield from map(_words, data if rows else [])
    yield from map(_words, (each for each in found if each not in data))


def _words(found: Difference) -> str:
    subject = found.subject
    if found.check == "rows":
        return f"rows of {subject}: now {found.expected}, then {found.actual}"
    if found.check == "content":
        return f"content of {subject}: as many rows, with other values"
    if found.check == "structure" and found.actual == MISSING:
        return f"{subject} is lost"
    if found.check == "structure" and found.expected == MISSING:
        return f"{subject} comes back"
    if is_definition(found):
        return f"{subject}: its definition differs"
    return f"{found.check} of {subject}: now {found.expected}, then {found.actual}"


def _in_no_backup(now: Fingerprint) -> Iterator[str]:
    yield from (f"in no backup, and lost: {each}" for each in now.not_backed_up)


def _not_compared(now: Fingerprint, then: Fingerprint) -> list[str]:
    return sorted({*now.not_compared, *then.not_compared})


def _cut(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= SHOWN:
        return tuple(lines)
    return (*lines[:SHOWN], f"and {len(lines) - SHOWN} more")


def _tables(found: Fingerprint) -> Mapping[Table, TableContent]:
    return {(each.schema, each.name): each for each in found.tables}


def _by_rows(tables: Iterable[TableContent]) -> list[TableContent]:
    return sorted(tables, key=lambda each: (-each.rows, each.schema, each.name))


def _named(table: TableContent) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}" if table.schema else quote(table.name)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _sorted(fingerprint: Fingerprint) -> list[tuple[str, object]]:
    fields = asdict(replace(fingerprint))
    return [
        (name, sorted(map(repr, value)) if isinstance(value, list | tuple) else repr(value))
        for name, value in sorted(fields.items())
    ]
