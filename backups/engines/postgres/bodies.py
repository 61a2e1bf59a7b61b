"""What the texts of functions name: entries of the same archive. Pure.

PostgreSQL keeps no dependencies of what a function's body names, unless it was written with
BEGIN ATOMIC. So a table whose CHECK calls a function that calls another could not be loaded
without that other one. Here a body is read as words: quoted names, plain ones in lower case,
and operators. Comments and strings count too, a body may put a statement together from them.
What is found too much comes along and does no harm; what is not found breaks the load.

Source of the words' form: PostgreSQL manual, 4.1 Lexical Structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from backups.engines.postgres.toc import TocEntry

FUNCTIONS = frozenset({"FUNCTION", "PROCEDURE", "AGGREGATE"})
"""Descriptions of entries whose texts name others."""
_NAMED = FUNCTIONS | {
    "TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE", "TYPE", "DOMAIN",
    "OPERATOR", "COLLATION", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
}  # fmt: skip
_SIGNATURE = re.compile(r"\(.*\)\Z", re.DOTALL)
_WORD = re.compile(
    r'"(?P<quoted>(?:[^"]|"")+)"'
    r"|(?P<plain>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)"
    r"|(?P<operator>[-+*/<>=~!@#%^&|`?]+)"
)


def by_name(entries: Iterable[TocEntry]) -> Mapping[str, list[TocEntry]]:
    """What a body may name, by its name without schema and arguments: overloaded functions
    and things of several schemas stand together."""
    found: dict[str, list[TocEntry]] = {}
    for entry in entries:
        if entry.desc in _NAMED:
            found.setdefault(name_of(entry), []).append(entry)
    return found


def name_of(entry: TocEntry) -> str:
    """Its name alone: the tag of a function has its arguments too."""
    if entry.desc not in FUNCTIONS:
        return entry.tag
    name = _SIGNATURE.sub("", entry.tag)
    return _unquoted(name) if name.startswith('"') else name


def named_by(entry: TocEntry, known: Mapping[str, list[TocEntry]]) -> list[TocEntry]:
    """What the definition of a function names, itself left out; each thing once."""
    found: dict[int, TocEntry] = {}
    for word in _words(entry.defn):
        for each in known.get(word, ()):
            found[each.dump_id] = each
    found.pop(entry.dump_id, None)
    return list(found.values())


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        if match["quoted"] is not None:
            yield match["quoted"].replace('""', '"')
            # Within a string or a comment a quote may begin nothing: its words count too.
            yield from _words(match["quoted"])
        elif match["plain"] is not None:
            yield match["plain"]
            yield match["plain"].lower()
        else:
            yield match["operator"]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"')
