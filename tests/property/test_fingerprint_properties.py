"""Every fingerprint comes back; two are without difference only if they say the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import IntegrityError
from backups.format.fingerprint import differences, quote, read, write
from backups.model import Fingerprint, ObjectDigest, SequenceValue, TableContent

NAMES = st.text(max_size=6) | st.sampled_from(["a", "A", "a.b", '"', "\\", "missing", "\n"])
CONTENTS = st.integers(0, (1 << 64) - 1).map("{:016x}".format)
TABLES = st.builds(
    TableContent,
    NAMES,
    NAMES,
    st.lists(NAMES, max_size=3).map(tuple),
    st.integers(0, 9),
    CONTENTS,
)
SEQUENCES = st.builds(
    SequenceValue, NAMES, NAMES, st.integers(-(1 << 63), (1 << 63) - 1), st.booleans()
)
OBJECTS = st.builds(ObjectDigest, st.sampled_from(["TABLE", "VIEW"]), NAMES, NAMES, NAMES)
PAIRS = st.dictionaries(NAMES, NAMES, max_size=3)


def different(things: st.SearchStrategy, **limits: int) -> st.SearchStrategy:  # type: ignore[type-arg]
    by_name = st.lists(things, unique_by=lambda item: (item.schema, item.name), max_size=3)
    return by_name.map(sorted).map(tuple)


FINGERPRINTS = st.builds(
    Fingerprint,
    engine=st.sampled_from(["postgresql", "sqlite"]),
    server_version=st.just("15.20"),
    settings=PAIRS,
    extensions=PAIRS,
    roles=st.sets(NAMES, max_size=3).map(sorted).map(tuple),
    objects=st.sets(OBJECTS, max_size=3).map(sorted).map(tuple),
    tables=different(TABLES),
    sequences=different(SEQUENCES),
    large_objects=TABLES,
    not_compared=st.just(()),
)


@given(FINGERPRINTS, st.binary(min_size=16, max_size=16))
def test_round_trip(fingerprint: Fingerprint, salt: bytes) -> None:
    data = write(fingerprint, salt)
    assert read(data, hashlib.sha256(data).hexdigest()) == fingerprint


@given(FINGERPRINTS, FINGERPRINTS, st.data())
def test_a_change_anywhere_is_seen(
    one: Fingerprint, other: Fingerprint, data: st.DataObject
) -> None:
    """Take one field from elsewhere: it is a difference exactly if it differs."""
    name = data.draw(
        st.sampled_from(
            ["engine", "settings", "extensions", "roles", "objects", "tables", "sequences"]
        )
    )
    mixed = replace(one, **{name: getattr(other, name)})
    found = differences(one, mixed)
    assert bool(found) == (mixed != one)
    swapped = differences(mixed, one)
    assert [(d.check, d.subject, d.actual, d.expected) for d in swapped] == [
        (d.check, d.subject, d.expected, d.actual) for d in found
    ]


@given(FINGERPRINTS, st.data())
def test_one_rows_hash_is_enough(one: Fingerprint, data: st.DataObject) -> None:
    if not one.tables:
        return
    at = data.draw(st.integers(0, len(one.tables) - 1))
    content = data.draw(CONTENTS.filter(lambda c: c != one.tables[at].content))
    tables = [*one.tables]
    tables[at] = replace(tables[at], content=content)
    (found,) = differences(one, replace(one, tables=tuple(tables)))
    assert (found.check, found.actual) == ("content", content)


@given(FINGERPRINTS, st.data())
def test_no_altered_document_is_read_as_the_same(
    fingerprint: Fingerprint, data: st.DataObject
) -> None:
    """Even where its digest is not at hand, an altered spelling is refused or means
    something else."""
    written = write(fingerprint, bytes(16))
    at = data.draw(st.integers(0, len(written) - 1))
    altered = written[:at] + data.draw(st.binary(max_size=2)) + written[at + 1 :]
    if altered == written:
        return
    with pytest.raises(IntegrityError):
        read(altered, hashlib.sha256(written).hexdigest())
    try:
        again = read(altered, hashlib.sha256(altered).hexdigest())
    except IntegrityError:
        return
    assert again != fingerprint or json.loads(altered)["salt"] != bytes(16).hex()


@given(st.text(), st.text())
def test_quoting_is_unambiguous_and_printable(one: str, other: str) -> None:
    assert (quote(one) == quote(other)) == (one == other)
    assert quote(one).isprintable()
