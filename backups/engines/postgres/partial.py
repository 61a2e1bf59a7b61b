"""Which entries of an archive make up one schema or table. Pure.

What is chosen: the named relations, or all of the named schemas; then whatever those depend
on, as pg_dump wrote it down (types, functions, extensions, the tables of a view); and what
hangs on a chosen relation (rows, defaults, indexes, constraints, triggers, rights, comments).
A foreign key comes along when both of its tables do; a partitioned table with its partitions.

Source of the dependencies: PostgreSQL, src/bin/pg_dump/pg_dump.c, BuildArchiveDependencies.
What a function's text names is no dependency there. It is followed (see `bodies`) from every
function that loading may run: of a CHECK, a default, an index, a generated column, a view. Its
tables come with their rows, for it may read them. A function that only triggers and policies
run is not run by a load, and would bring half of the database along: what it names is left,
and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from backups.engines.postgres.bodies import FUNCTIONS, by_name, named_by
from backups.engines.postgres.content import not_compared, object_digests
from backups.engines.postgres.toc import Toc, TocEntry
from backups.errors import NotFound
from backups.model import Fingerprint

RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"})
_ALWAYS = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})
_HANGS_ON = frozenset({
    "TABLE DATA", "MATERIALIZED VIEW DATA", "SEQUENCE SET", "SEQUENCE OWNED BY", "DEFAULT",
    "CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "TRIGGER", "RULE", "POLICY", "ROW SECURITY",
    "STATISTICS", "STATISTICS DATA", "COMMENT", "ACL", "SECURITY LABEL",
})  # fmt: skip
_JOINS = frozenset({"FK CONSTRAINT", "INDEX ATTACH", "TABLE ATTACH"})
"""Of use only with both of its sides."""

_LATER = frozenset({"TRIGGER", "EVENT TRIGGER", "POLICY", "COMMENT", "ACL", "SECURITY LABEL"})
"""Whose functions no load runs."""

_OF_A_WHOLE = frozenset({"INDEX", "CONSTRAINT"})


@dataclass(frozen=True, slots=True)
class Part:
    """What a restore brings of an archive."""

    toc: Toc
    """With the chosen entries only."""
    notes: tuple[str, ...]
    """What came along unasked, and what could not, in words."""


def part(toc: Toc, only: Sequence[str]) -> Part:
    """The entries that `only` asks for: names like `schema` and `schema.table`, without
    quotes. Raises NotFound for one that the archive does not have."""
    by_id = {entry.dump_id: entry for entry in toc.entries}
    needs = _needs(by_id)
    chosen: set[int] = {e.dump_id for e in toc.entries if e.desc in _ALWAYS}
    roots = {entry.dump_id for name in only for entry in _named(toc.entries, name)}
    _add(needs, chosen, roots)
    bodies = _Bodies(toc.entries)
    before = -1
    while before < len(chosen):
        before = len(chosen)
        for entry in toc.entries:
            if entry.dump_id not in chosen:
                _add(needs, chosen, _comes(by_id, chosen, entry))
        _add(needs, chosen, bodies.named(needs, chosen))
    entries = tuple(entry for entry in toc.entries if entry.dump_id in chosen)
    notes = tuple(_notes(toc.entries, chosen, roots, bodies))
    return Part(replace(toc, entries=entries), notes)


class _Bodies:
    """What the functions that a load may run name in their texts."""

    def __init__(self, entries: Sequence[TocEntry]) -> None:
        self._by_id = {entry.dump_id: entry for entry in entries}
        self._known = by_name(entries)
        self.because: dict[int, TocEntry] = {}
        """Dump id of what came along by itself, to the function that names it."""

    def named(self, needs: Mapping[int, list[int]], chosen: set[int]) -> list[int]:
        """What is to be added to `chosen`; its reason is kept."""
        added = []
        for function in self._run(needs, chosen):
            for each in named_by(function, self._known):
                if each.dump_id not in chosen and not _hangs(each):
                    self.because.setdefault(each.dump_id, function)
                    added.append(each.dump_id)
        return added

    def left(self, chosen: set[int]) -> Iterator[tuple[TocEntry, list[TocEntry]]]:
        """Chosen functions that name what is no part, with that."""
        for function in self._functions(chosen):
            lost = [e for e in named_by(function, self._known) if e.dump_id not in chosen]
            if lost:
                yield function, lost

    def _run(self, needs: Mapping[int, list[int]], chosen: set[int]) -> Iterator[TocEntry]:
        """Chosen functions that something else than a trigger or a policy needs."""
        needed = {
            each for one in chosen if self._by_id[one].desc not in _LATER for each in needs[one]
        }
        for function in self._functions(chosen):
            one = function.dump_id
            if one in needed or one in self.because:
                yield function

    def _functions(self, chosen: set[int]) -> list[TocEntry]:
        return [self._by_id[each] for each in chosen if self._by_id[each].desc in FUNCTIONS]


def of_part(whole: Fingerprint, all_: Toc, chosen: Toc) -> Fingerprint:
    """What a copy of the part is to contain, by the fingerprint of the whole. Roles are not
    compared by themselves: owners and rights are, as parts of definitions."""
    objects = {(each.kind, each.schema, each.name) for each in object_digests(chosen.entries)}
    rows = {(e.namespace, e.tag) for e in chosen.entries if e.desc == "TABLE DATA"}
    values = {(e.namespace, e.tag) for e in chosen.entries if e.desc == "SEQUENCE SET"}
    left = _extensions(all_) - _extensions(chosen)
    return replace(
        whole,
        roles=(),
        extensions={n: version for n, version in whole.extensions.items() if n not in left},
        objects=tuple(o for o in whole.objects if (o.kind, o.schema, o.name) in objects),
        tables=tuple(t for t in whole.tables if (t.schema, t.name) in rows),
        sequences=tuple(s for s in whole.sequences if (s.schema, s.name) in values),
        large_objects=None,
        not_compared=not_compared(chosen.entries),
    )


def _named(entries: Sequence[TocEntry], name: str) -> list[TocEntry]:
    found = [
        entry
        for entry in entries
        if (entry.namespace == name and not _hangs(entry) and entry.desc not in _JOINS)
        or (entry.desc == "SCHEMA" and entry.tag == name)
        or (_is_relation(entry) and _full(entry) == name)
    ]
    if not found:
        known = {_full(entry) for entry in entries if _is_relation(entry)}
        known |= {entry.namespace for entry in entries if _is_relation(entry)}
        near = get_close_matches(name, known, 3, 0.5)
        raise NotFound(
            f"the backup has no schema and no table {name!r}",
            hint=f"It has: {', '.join(near or sorted(known)[:10])}. Tables are named with "
            "their schema: public.customer",
        )
    return found


def _is_relation(entry: TocEntry) -> bool:
    return entry.desc in RELATIONS or entry.desc == "SEQUENCE"


def _full(entry: TocEntry) -> str:
    return f"{entry.namespace}.{entry.tag}"


def _hangs(entry: TocEntry) -> bool:
    identity = entry.desc == "SEQUENCE" and entry.defn.startswith("ALTER TABLE")
    return identity or entry.desc in _HANGS_ON


def _needs(by_id: dict[int, TocEntry]) -> dict[int, list[int]]:
    """What must come with each entry. A partition and its indexes do without the whole's: the
    archive makes them by themselves and attaches them afterwards."""
    wholes: dict[str, set[int]] = {}
    for entry in by_id.values():
        if entry.desc == "TABLE ATTACH":
            wholes.setdefault(_full(entry), set()).update(entry.dependencies)
    found = {}
    for entry in by_id.values():
        without = wholes.get(_full(entry), set()) if entry.desc == "TABLE" else set()
        found[entry.dump_id] = [
            each
            for each in entry.dependencies
            if each in by_id
            and each not in without
            and not (_hangs(entry) and by_id[each].desc in _OF_A_WHOLE)
        ]
    return found


def _add(needs: dict[int, list[int]], chosen: set[int], wanted: Iterable[int]) -> None:
    """With all that must come with it."""
    stack = list(wanted)
    while stack:
        one = stack.pop()
        if one not in chosen:
            chosen.add(one)
            stack += needs[one]


def _comes(by_id: dict[int, TocEntry], chosen: set[int], entry: TocEntry) -> list[int]:
    """What is to be added because of this entry, which is not chosen yet."""
    known = [each for each in entry.dependencies if each in by_id]
    if entry.desc == "TABLE ATTACH":
        parents = [each for each in known if _full(by_id[each]) != _full(entry)]
        return [entry.dump_id] if parents and chosen.issuperset(parents) else []
    if entry.desc in _JOINS:
        return [entry.dump_id] if known and chosen.issuperset(known) else []
    if not _hangs(entry):
        return []
    on = [each for each in known if by_id[each].desc in RELATIONS] or known
    return [entry.dump_id] if on and chosen.issuperset(on) else []


def _notes(
    entries: Sequence[TocEntry],
    chosen: set[int],
    roots: set[int],
    bodies: _Bodies,
) -> Iterator[str]:
    for entry in entries:
        because = bodies.because.get(entry.dump_id)
        if because is not None:
            told = f"the body of {because.desc.lower()} {_full(because)} names it"
            yield f"{entry.desc.lower()} {_full(entry)} came along: {told}"
        elif entry.desc in RELATIONS and entry.dump_id in chosen - roots:
            yield f"{entry.desc.lower()} {_full(entry)} came along: it is needed"
    for function, lost in bodies.left(chosen):
        listed = ", ".join(_full(each) for each in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        yield (
            f"{function.desc.lower()} {_full(function)}, which no load runs, names what may be "
            f"needed and is no part: {listed}{more}"
        )
    ours = {_full(e) for e in entries if e.dump_id in chosen and e.desc in RELATIONS}
    for entry in entries:
        if entry.dump_id in chosen or not (_hangs(entry) or entry.desc in _JOINS):
            continue
        if not ours.isdisjoint(_tables_named(entry)):
            yield f"{entry.desc.lower()} {_full(entry)} was left out: what it needs is no part"
    if any(entry.desc == "BLOBS" for entry in entries):
        yield "large objects were left out"


def _tables_named(entry: TocEntry) -> set[str]:
    """Tags are `table name` where a name means something on its table only; either may have
    spaces, so that each beginning may be the table's."""
    words = entry.tag.split(" ")
    return {f"{entry.namespace}.{' '.join(words[:n])}" for n in range(1, len(words) + 1)}


def _extensions(toc: Toc) -> set[str]:
    return {entry.tag for entry in toc.entries if entry.desc == "EXTENSION"}
