"""Each kind of difference is found, named once and put in words; the bytes are strict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from backups.errors import Damaged, UnknownFormat
from backups.format import canonical
from backups.format.fingerprint import Difference, differences, quote, read, write
from backups.model import Fingerprint, ObjectDigest, SequenceValue, TableContent

SALT = bytes(range(16))
USERS = TableContent("public", "users", ("id", "e-mail"), 3, "0123456789abcdef")
ORDERS = TableContent("shop", "Orders", ("id",), 0, "0" * 16)
FINGERPRINT = Fingerprint(
    engine="postgresql",
    server_version="15.20",
    settings={"encoding": "UTF8", "collation": "C.UTF-8"},
    extensions={"plpgsql": "1.0", "uuid-ossp": "1.1"},
    roles=("app", "owner"),
    objects=(
        ObjectDigest("TABLE", "public", "users", "d1"),
        ObjectDigest("TABLE", "shop", "Orders", "d2"),
        ObjectDigest("VIEW", "public", "v", "d3"),
    ),
    tables=(USERS, ORDERS),
    sequences=(SequenceValue("public", "users_id_seq", 3, True),),
    large_objects=TableContent("", "large objects", ("oid", "data"), 1, "00000000000000ff"),
    not_compared=("materialised view public.m: refreshed by a restore",),
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_was_written_is_read() -> None:
    data = write(FINGERPRINT, SALT)
    assert read(data, digest(data)) == FINGERPRINT


def test_order_given_does_not_matter() -> None:
    shuffled = replace(
        FINGERPRINT,
        tables=FINGERPRINT.tables[::-1],
        objects=FINGERPRINT.objects[::-1],
        roles=FINGERPRINT.roles[::-1],
        settings=dict(reversed(FINGERPRINT.settings.items())),
    )
    assert write(shuffled, SALT) == write(FINGERPRINT, SALT)
    assert differences(FINGERPRINT, shuffled) == ()


def test_the_salt_hides_equal_content() -> None:
    assert digest(write(FINGERPRINT, SALT)) != digest(write(FINGERPRINT, SALT[::-1]))


@pytest.mark.parametrize("salt", [b"", bytes(15), bytes(17)])
def test_a_salt_has_sixteen_bytes(salt: bytes) -> None:
    with pytest.raises(Damaged):
        write(FINGERPRINT, salt)


def test_another_fingerprint_is_refused() -> None:
    data = write(FINGERPRINT, SALT)
    with pytest.raises(Damaged, match="not the one"):
        read(data, digest(data + b" "))


def test_a_newer_version_is_named_so() -> None:
    data = canonical.dumps({"v": 2, "else": []})
    with pytest.raises(UnknownFormat, match="version 2"):
        read(data, digest(data))


def document() -> Any:
    return json.loads(write(FINGERPRINT, SALT))


def spoil(path: tuple[Any, ...], value: object) -> bytes:
    whole = inner = document()
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return canonical.dumps(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b'{"v":1}',
        b"[" * 100_000,
        b"\xff",
        write(FINGERPRINT, SALT) + b"\n",
        write(FINGERPRINT, SALT).replace(b'"v":1', b'"v":1,"v":1'),
        write(FINGERPRINT, SALT).replace(b'"v":1', b'"v":1.0'),
        write(FINGERPRINT, SALT).replace(b'"v":1', b'"v":true'),
        spoil(("more",), 1),
        spoil(("salt",), "AB" * 16),
        spoil(("fingerprint", "more"), 1),
        spoil(("fingerprint", "roles"), ["owner", "app"]),
        spoil(("fingerprint", "tables", 0, "more"), 1),
        spoil(("fingerprint", "tables", 0, "rows"), -1),
        spoil(("fingerprint", "tables", 0, "rows"), "3"),
        spoil(("fingerprint", "tables", 0, "content"), "0123456789ABCDEF"),
        spoil(("fingerprint", "tables", 1), document()["fingerprint"]["tables"][0]),
        spoil(("fingerprint", "sequences", 0, "last_value"), 1 << 63),
        spoil(("fingerprint", "settings"), {"a": 1}),
        spoil(("fingerprint", "large_objects"), []),
    ],
)
def test_a_fingerprint_has_one_spelling(data: bytes) -> None:
    with pytest.raises(Damaged):
        read(data, digest(data))


@pytest.mark.parametrize(
    "bad",
    [
        {"tables": (USERS, replace(USERS, rows=4))},
        {"tables": (replace(USERS, content="ff"),)},
        {"roles": ("\ud800",)},
    ],
    ids=str,
)
def test_what_could_not_be_read_is_not_written(bad: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        write(replace(FINGERPRINT, **bad), SALT)


LARGEST = replace(
    FINGERPRINT,
    sequences=(
        SequenceValue("public", "up", (1 << 63) - 1, True),
        SequenceValue("public", "down", -(1 << 63), False),
    ),
)


def test_sequences_keep_their_64_bits() -> None:
    data = write(LARGEST, SALT)
    again = read(data, digest(data))
    assert {s.last_value for s in again.sequences} == {(1 << 63) - 1, -(1 << 63)}


# --- differences ----------------------------------------------------------------------


def test_equal_is_no_difference() -> None:
    assert differences(FINGERPRINT, FINGERPRINT) == ()


@pytest.mark.parametrize(
    "unlike",
    [{"server_version": "18.6"}, {"not_compared": ()}],
    ids=["version", "not compared"],
)
def test_what_is_not_compared(unlike: dict[str, Any]) -> None:
    assert differences(FINGERPRINT, replace(FINGERPRINT, **unlike)) == ()


CHANGES: dict[str, tuple[dict[str, Any], Difference]] = {
    "another engine": (
        {"engine": "sqlite"},
        Difference("engine", "database", "postgresql", "sqlite"),
    ),
    "a row more": (
        {"tables": (replace(USERS, rows=4, content="f" * 16), ORDERS)},
        Difference("rows", "table public.users", "3", "4"),
    ),
    "rows as many but not the same": (
        {"tables": (replace(USERS, content="f" * 16), ORDERS)},
        Difference("content", "table public.users", "0123456789abcdef", "f" * 16),
    ),
    "a column renamed": (
        {"tables": (replace(USERS, columns=("id", "email")), ORDERS)},
        Difference(
            "structure", "table public.users", 'columns id, "e-mail"', "columns id, email"
        ),
    ),
    "a table missing, said once": (
        {"tables": (USERS,), "objects": (FINGERPRINT.objects[0], FINGERPRINT.objects[2])},
        Difference("structure", 'table shop."Orders"', "columns id", "missing"),
    ),
    "a table too many": (
        {"tables": (USERS, ORDERS, replace(USERS, name="new"))},
        Difference("structure", "table public.new", "missing", 'columns id, "e-mail"'),
    ),
    "a definition changed": (
        {"objects": (*FINGERPRINT.objects[:2], ObjectDigest("VIEW", "public", "v", "d4"))},
        Difference("structure", "view public.v", "definition d3", "definition d4"),
    ),
    "a second object of the same name": (
        {"objects": (*FINGERPRINT.objects, ObjectDigest("VIEW", "public", "v", "d4"))},
        Difference("structure", "view public.v", "definition d3", "definition d3 d4"),
    ),
    "a sequence behind": (
        {"sequences": (SequenceValue("public", "users_id_seq", 1, False),)},
        Difference(
            "sequences", "sequence public.users_id_seq", "at 3, used", "at 1, not yet used"
        ),
    ),
    "large objects lost": (
        {"large_objects": None},
        Difference("large objects", "count", "1", "0"),
    ),
    "a large object changed": (
        {"large_objects": replace(FINGERPRINT.large_objects, content="0" * 16)},  # type: ignore[type-var]
        Difference("large objects", "content", "00000000000000ff", "0" * 16),
    ),
    "an extension of another version": (
        {"extensions": {"plpgsql": "1.0", "uuid-ossp": "1.2"}},
        Difference("extensions", '"uuid-ossp"', '"1.1"', '"1.2"'),
    ),
    "an extension missing": (
        {"extensions": {"plpgsql": "1.0"}},
        Difference("extensions", '"uuid-ossp"', '"1.1"', "missing"),
    ),
    "a setting changed": (
        {"settings": {"encoding": "LATIN1", "collation": "C.UTF-8"}},
        Difference("settings", "encoding", '"UTF8"', '"LATIN1"'),
    ),
    "a role missing": ({"roles": ("app",)}, Difference("roles", "owner", "present", "missing")),
}


@pytest.mark.parametrize(("change", "difference"), CHANGES.values(), ids=CHANGES)
def test_each_difference_is_named_once(change: dict[str, Any], difference: Difference) -> None:
    copy = replace(FINGERPRINT, **change)
    assert differences(FINGERPRINT, copy) == (difference,)
    back = Difference(
        difference.check, difference.subject, difference.actual, difference.expected
    )
    assert differences(copy, FINGERPRINT) == (back,)


def test_no_large_objects_and_none_known_are_the_same() -> None:
    empty = replace(FINGERPRINT, large_objects=TableContent("", "", (), 0, "0" * 16))
    assert differences(empty, replace(FINGERPRINT, large_objects=None)) == ()


def test_a_value_that_reads_missing_is_not_missing() -> None:
    one = replace(FINGERPRINT, settings={"zone": "missing"})
    assert differences(one, replace(FINGERPRINT, settings={})) != ()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("users", "users"),
        ("Users", '"Users"'),
        ("a.b", '"a.b"'),
        ("größe", '"größe"'),
        ('a"b', r'"a\"b"'),
        ("a\nb", r'"a\nb"'),
        ("a\u202eb", r'"a\u202eb"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("", '""'),
    ],
)
def test_a_name_is_shown_so_that_it_cannot_pass_for_another(name: str, shown: str) -> None:
    assert quote(name) == shown


def test_a_difference_in_one_line() -> None:
    shown = str(Difference("rows", "table public.users", "3", "4"))
    assert shown == "rows: table public.users: expected 3, is 4"
