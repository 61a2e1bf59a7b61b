"""The audit chain: nothing of it can be changed, taken out, added or put in another order
without being noticed by whoever holds a later digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import BadSignature, Damaged, UnknownFormat
from backups.format import dsse
from backups.format.audit import (
    Head,
    chained,
    digest,
    follow,
    head_key,
    is_head_key,
    leaf,
    sign_head,
    text_of,
    verify_head,
)
from backups.keeping import FIRST, Record

T0 = datetime(2026, 11, 20, 3, 0, 0, 123456, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
contents = st.tuples(
    words, words, st.none() | words, words, st.dictionaries(words, words, max_size=3)
)


def chain(drawn: list[tuple[str, str, str | None, str, dict[str, str]]]) -> list[Record]:
    records: list[Record] = []
    for number, (actor, action, customer, subject, details) in enumerate(drawn):
        salt = bytes([number % 256]) * 32
        at = T0 + timedelta(seconds=number)
        previous = digest(records[-1]) if records else FIRST
        records.append(
            Record(
                number + 1, at, actor, action, customer, subject, details, salt.hex(), previous
            )
        )
    return records


def whole(records: list[Record], wanted: str) -> bool:
    try:
        followed = list(follow(records))
    except Damaged:
        return False
    return bool(followed) and digest(followed[-1]) == wanted


@given(st.lists(contents, min_size=1, max_size=6), st.data())
def test_every_change_is_noticed(
    drawn: list[tuple[str, str, str | None, str, dict[str, str]]], data: st.DataObject
) -> None:
    records = chain(drawn)
    last = digest(records[-1])
    assert whole(records, last)
    at = data.draw(st.integers(0, len(records) - 1))
    victim = records[at]
    changes = [
        {"actor": victim.actor + "x"},
        {"action": victim.action + "x"},
        {"customer": "other" if victim.customer is None else None},
        {"subject": victim.subject + "x"},
        {"details": {**victim.details, "more": "x"} | {"more2": "y"}},
        {"at": victim.at + timedelta(microseconds=1)},
        {"salt": "ff" * 32},
        {"sequence": victim.sequence + 1},
        {"previous": "ab" * 32},
    ]
    changed = replace(victim, **data.draw(st.sampled_from(changes)))
    assert not whole([*records[:at], changed, *records[at + 1 :]], last)
    assert not whole(records[:at] + records[at + 1 :], last)
    assert not whole([*records[: at + 1], *records[at:]], last)
    if len(records) > 1:
        assert not whole(records[::-1], last)


@given(st.lists(contents, min_size=1, max_size=6))
def test_leaves_alone_make_the_same_digests(
    drawn: list[tuple[str, str, str | None, str, dict[str, str]]],
) -> None:
    previous = FIRST
    for record in chain(drawn):
        previous = chained(record.sequence, record.at, leaf(record), previous)
        assert previous == digest(record)


def test_the_digest_of_a_known_record_never_changes() -> None:
    record = Record(
        1, T0, "root@host", "backup.committed", "acme", "b-1", {"bytes": "17"}, "00" * 32
    )
    assert leaf(record) == "d535da626de02306c65197bd2b756e4ee71a6a78c87283bc9b3fa5165b2c1991"
    assert digest(record) == (
        "9de14b403ba100095e8460cb635c99ea60153e488d341e593f7785f039972a5b"
    )


def test_a_head_is_signed_and_strict() -> None:
    head = Head(text_of(T0), "ab" * 32, 17)
    envelope = sign_head(head, KEY)
    assert verify_head(envelope, [KEY.public_key()]) == head
    other = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    with pytest.raises(BadSignature):
        verify_head(envelope, [other.public_key()])
    for at in range(len(envelope)):
        damaged = envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]
        with pytest.raises((BadSignature, Damaged, UnknownFormat)):
            verify_head(damaged, [KEY.public_key()])
    with pytest.raises(UnknownFormat):
        verify_head(dsse.seal(b"{}", "text/plain", KEY), [KEY.public_key()])
    for payload in (
        b"{}",
        b'{"at":"x","digest":"y"}',
        b'{"at":"x","digest":"y","sequence":"1"}',
    ):
        kind = "application/vnd.bloomneo.backups.audit-head.v1+json"
        with pytest.raises(Damaged):
            verify_head(dsse.seal(payload, kind, KEY), [KEY.public_key()])


def test_heads_have_a_key_of_their_day() -> None:
    assert head_key(T0) == "v1/audit/2026-11-20.head"
    assert is_head_key(head_key(T0))
    assert not is_head_key("v1/audit/x.head")
