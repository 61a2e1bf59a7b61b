"""The text of `mariadb-dump` and `mysqldump`, understood as it passes. Pure.

It comes in lines; a statement ends where a line ends with the delimiter, which `DELIMITER`
lines change. MariaDB's rows are lines of their own: `INSERT INTO `t` VALUES`, then `(...),` for
each, the last ending with `);`. MySQL's are many on one line: `INSERT INTO `t` VALUES (...),
(...);`. Values hold no line breaks, the tools escape them. Source: MariaDB and MySQL,
client/mysqldump.cc (dump_table, unescape), tried on 10.11 and 8.0.

- A table's content is the sum, modulo 2^64, of XXH3-64 (seed 0) of each row's text, as 16 hex
  digits: independent of order, sensitive to how often a row occurs.
- An object's digest is the SHA-256 of its statement and, of programs, of the settings it was
  made under. AUTO_INCREMENT is told among the sequences, and whether an event is enabled not
  at all: a copy's stay disabled until it is published.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO

import xxhash

from backups.errors import DumpFailed
from backups.model import ObjectDigest, SequenceValue, TableContent

END = b"-- Dump completed"
_MASK = (1 << 64) - 1
_NAME = rb"`(?P<name>(?:[^`]|``)+)`"
_ANY_NAME = rb"(?:`(?P<name>(?:[^`]|``)+)`|\"(?P<ansi>(?:[^\"]|\"\")+)\")"
"""Programs are written as in their own sql_mode, where that is ANSI_QUOTES in double quotes."""
_COUNTER = re.compile(rb" AUTO_INCREMENT=(\d+)")
_SAID_TWICE = re.compile(rb" CHARACTER SET (\w+)(?= COLLATE \1_)")
"""MySQL says it of a copy's column though not of the column it was made from."""
_COLUMN = re.compile(rb"(?m)^  `((?:[^`]|``)+)` ")
_SETVAL = re.compile(rb"DO SETVAL\(`((?:[^`]|``)+)`, (-?\d+), ([01])\)")
_SETTING = re.compile(
    rb"(?:/\*!\d+ )?SET (character_set_client|collation_connection|sql_mode|time_zone) *= *"
    rb"([^@\s][^\n]*?)\s*(?:\*/)?\s*\Z"
)
_STATE = re.compile(rb"(ON COMPLETION (?:NOT )?PRESERVE )(ENABLE|DISABLE ON SLAVE|DISABLE)\b")
_INSERT = re.compile(
    rb"INSERT INTO " + _NAME + rb" (?:\((?:`(?:[^`]|``)+`(?:, )?)+\) )?VALUES(?P<rows>[ \n])"
)
_ROW = re.compile(rb"\((?:[^'()]++|'(?:[^'\\]++|\\.|'')*+')*+\)")
"""Parentheses are but in strings: the tools write nothing that would be computed."""
_TRIGGER = re.compile(
    rb"(?is)\btrigger\s+(?:if\s+not\s+exists\s+)?(?:(?:`(?:[^`]|``)*`|[^\s`.]+)\s*\.\s*)?"
    rb"(?:`(?P<name>(?:[^`]|``)+)`|(?P<plain>[^\s`.]+))"
)
_OBJECTS = [
    ("VIEW", re.compile(rb"/\*!50001 CREATE ALGORITHM=.*?VIEW " + _NAME + rb" AS", re.DOTALL)),
    ("EVENT", re.compile(rb"/\*!50106 CREATE.*?EVENT " + _ANY_NAME, re.DOTALL)),
    ("FUNCTION", re.compile(rb"CREATE (?:DEFINER=\S+ )?(?:AGGREGATE )?FUNCTION " + _ANY_NAME)),
    ("PROCEDURE", re.compile(rb"CREATE (?:DEFINER=\S+ )?PROCEDURE " + _ANY_NAME)),
    ("PACKAGE BODY", re.compile(rb"CREATE (?:DEFINER=\S+ )?PACKAGE BODY " + _ANY_NAME)),
    ("PACKAGE", re.compile(rb"CREATE (?:DEFINER=\S+ )?PACKAGE " + _ANY_NAME)),
    ("SEQUENCE", re.compile(rb"CREATE SEQUENCE " + _NAME)),
    ("TABLE", re.compile(rb"CREATE TABLE " + _NAME)),
]
_PROGRAMS = {"TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY"}
_PLACEHOLDER = re.compile(rb"/\*!50001 (CREATE VIEW|CREATE TABLE|DROP (VIEW|TABLE))")
_NOISE = re.compile(
    rb"(/\*M?!\d+\\?-? )?(SET|LOCK TABLES|UNLOCK TABLES|USE|COMMIT|ALTER TABLE .* KEYS"
    rb"|enable the sandbox)\b",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, or the head of rows, or a row."""

    kind: str
    """TABLE, ROWS, ROW, TRIGGER, VIEW, PLACEHOLDER, SETVAL, NOISE and so on."""
    name: str
    """Of what it makes or fills; of a trigger its own."""
    text: bytes
    """As it came, with its lines' ends."""
    table: str = ""
    """Of rows and triggers: the table that came last."""


@dataclass(slots=True)
class _Table:
    columns: tuple[str, ...]
    rows: int = 0
    content: int = 0


@dataclass(slots=True)
class Contents:
    """What was seen."""

    objects: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    tables: dict[str, _Table] = field(default_factory=dict)
    counters: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def digests(self) -> tuple[ObjectDigest, ...]:
        """Sorted; of two of one kind and name, one for both."""
        return tuple(
            sorted(
                ObjectDigest(kind, "", name, _sha256(b"\0".join(sorted(all_))))
                for (kind, name), all_ in self.objects.items()
            )
        )

    def contents(self) -> tuple[TableContent, ...]:
        """Sorted."""
        return tuple(
            sorted(
                TableContent("", name, each.columns, each.rows, f"{each.content & _MASK:016x}")
                for name, each in self.tables.items()
            )
        )

    def sequences(self) -> tuple[SequenceValue, ...]:
        """Sequences, and the next number of each AUTO_INCREMENT."""
        return tuple(
            sorted(SequenceValue("", name, *value) for name, value in self.counters.items())
        )


class Reader:
    """Follows a dump whose blocks are fed in order; memory holds one block and a statement."""

    def __init__(self) -> None:
        self.contents = Contents()
        self.ended = False
        """The end mark was seen, and nothing after it."""
        self._carry = b""
        self._statement: list[bytes] = []
        self._delimiter = b";"
        self._filled = ""
        self._last = ""
        self._settings: dict[str, str] = {}

    def feed(self, block: bytes, give: Callable[[Statement], None] | None = None) -> None:
        """What these next bytes complete, each given on. Raises DumpFailed."""
        cut = block.rfind(b"\n") + 1
        if not cut:
            self._carry += block
            return
        lines = BytesIO(self._carry + block[:cut]).readlines()
        self._carry = block[cut:]
        for statement in self._statements(lines):
            if give is not None:
                give(statement)

    def finish(self) -> None:
        """Raises DumpFailed unless the dump ended here, whole."""
        if self._carry or self._statement or self._filled or not self.ended:
            raise DumpFailed("the dump ended before its end mark")

    def _statements(self, lines: list[bytes]) -> Iterator[Statement]:
        for line in lines:
            if self._filled:
                yield self._row(line)
            elif self._statement or not self._is_noise(line):
                yield from self._more(line)
            else:
                yield Statement("NOISE", "", line)

    def _row(self, line: bytes) -> Statement:
        if not line.startswith(b"(") or not line.endswith((b"),\n", b");\n")):
            raise DumpFailed("a table's rows are not written as they should be")
        name = self._filled
        table = self.contents.tables[name]
        table.rows += 1
        table.content += xxhash.xxh3_64_intdigest(line[:-2])
        if line.endswith(b");\n"):
            self._filled = ""
        return Statement("ROW", name, line, name)

    def _count(self, table: _Table, line: bytes, at: int) -> None:
        """Rows that stand on one line."""
        for found in _ROW.finditer(line, at):
            if found.start() != at or line[found.end()] not in b",;":
                break
            table.rows += 1
            table.content += xxhash.xxh3_64_intdigest(found[0])
            at = found.end() + 1
        if line[at - 1 :] != b";\n":
            raise DumpFailed("a table's rows are not written as they should be")

    def _is_noise(self, line: bytes) -> bool:
        if line.startswith(b"DELIMITER "):
            self._delimiter = line[10:].strip()
            return True
        if line.startswith(END):
            self.ended = True
            return True
        if line.startswith(b"--") or not line.strip():
            return True
        if self.ended:
            raise DumpFailed("the dump goes on after its end mark")
        return False

    def _more(self, line: bytes) -> Iterator[Statement]:
        if not self._statement and (found := _INSERT.match(line)):
            name = _plain(found["name"])
            if name not in self.contents.tables:
                raise DumpFailed("the dump has rows of a table that it does not make")
            if found["rows"] == b"\n":
                self._filled = name
            else:
                self._count(self.contents.tables[name], line, found.end())
            yield Statement("ROWS", name, line, name)
            return
        self._statement.append(line)
        ended = line.rstrip().endswith(self._delimiter) or line.startswith(b"/*M!999999")
        if ended:
            text, self._statement = b"".join(self._statement), []
            yield self._whole(text)

    def _whole(self, text: bytes) -> Statement:
        body = text.rstrip().removesuffix(self._delimiter).rstrip()
        if found := _SETTING.match(body):
            self._settings[found[1].decode()] = found[2].decode("utf-8", "replace")
        elif found := _SETVAL.match(body):
            name = _plain(found[1])
            self.contents.counters[name] = int(found[2]), found[3] == b"1"
            return Statement("SETVAL", name, text)
        elif _PLACEHOLDER.match(body):
            return Statement("PLACEHOLDER", _first_name(body), text)
        elif not _NOISE.match(body):
            return self._object(*_kind_of(body), body, text)
        return Statement("NOISE", "", text)

    def _object(self, kind: str, name: str, body: bytes, text: bytes) -> Statement:
        if kind == "TABLE":
            self._last = name
            options = max(0, body.rfind(b"\n) "))  # before the lines about partitions
            if found := _COUNTER.search(body, options):
                self.contents.counters[name] = int(found[1]), False
                body = body[: found.start()] + body[found.end() :]
            body = _SAID_TWICE.sub(b"", body)
            columns = tuple(_plain(each) for each in _COLUMN.findall(body))
            self.contents.tables[name] = _Table(columns)
        known = self._settings if kind in _PROGRAMS else {}
        if kind == "EVENT":
            body = _STATE.sub(rb"\1", body, count=1)
        digest = json.dumps([body.decode("utf-8", "backslashreplace"), known], sort_keys=True)
        self.contents.objects.setdefault((kind, name), []).append(digest.encode())
        return Statement(kind, name, text, self._last if kind in ("TABLE", "TRIGGER") else "")


def _kind_of(body: bytes) -> tuple[str, str]:
    """And its name; what is none of those known counts as what it is."""
    for kind, pattern in _OBJECTS:
        if found := pattern.match(body):
            names = found.groupdict()
            return kind, _plain(names["name"] or names["ansi"].replace(b'""', b'"'))
    if body.startswith(b"/*!50003 CREATE") and (found := _TRIGGER.search(body)):
        return "TRIGGER", _plain(found["name"] or found["plain"])
    return "STATEMENT", _plain(body[:40])


def disabled(event: bytes) -> tuple[bytes, bool]:
    """The statement of an event that makes it disabled, and whether it was enabled."""
    found = _STATE.search(event)
    if found is None or found[2] != b"ENABLE":
        return event, False
    return _STATE.sub(rb"\1DISABLE", event, count=1), True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first_name(body: bytes) -> str:
    found = re.search(_NAME, body)
    return _plain(found["name"]) if found else ""


def _plain(name: bytes) -> str:
    return name.replace(b"``", b"`").decode("utf-8", "backslashreplace")
