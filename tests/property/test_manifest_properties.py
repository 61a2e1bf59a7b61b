"""Every manifest comes back; no altered envelope does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import IntegrityError
from backups.format import canonical
from backups.format.manifest import (
    parse_manifest_key,
    parse_segment_key,
    segment_key,
    sign,
    verify,
)
from backups.model import Artifact, Manifest, Segment

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
IDS = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
LINES = st.text(st.characters(exclude_categories=("C", "Zl", "Zp", "Zs")), max_size=40)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(0, 10**16).map(lambda micros: EPOCH + timedelta(microseconds=micros))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    database, backup = draw(IDS), draw(IDS)
    names = draw(st.lists(IDS.filter(lambda n: n != "fingerprint"), max_size=3, unique=True))
    artifacts, number = [], 0
    for name in (*names, "fingerprint"):
        segments = []
        for _ in range(draw(st.integers(1, 3))):
            segments.append(
                Segment(
                    segment_key(database, backup, number),
                    draw(st.integers(0, 1 << 30)),
                    draw(st.integers(1, 128 << 20)),
                    draw(DIGESTS),
                    draw(
                        st.none() | st.from_regex(r"[A-Za-z0-9._~=+/-]{1,50}", fullmatch=True)
                    ),
                )
            )
            number += 1
        artifacts.append(Artifact(name, tuple(segments)))
    snapshot_at = draw(INSTANTS)
    return Manifest(
        draw(IDS),
        database,
        backup,
        draw(IDS),
        snapshot_at,
        draw(LINES),
        snapshot_at + timedelta(microseconds=draw(st.integers(1, 10**15))),
        draw(st.integers(0, (1 << 31) - 1)),
        draw(LINES),
        draw(LINES),
        draw(LINES),
        tuple(sorted(draw(st.sets(DIGESTS, min_size=1, max_size=4)))),
        tuple(artifacts),
        draw(DIGESTS),
        draw(st.none() | DIGESTS),
        tuple(draw(st.lists(LINES, max_size=3))),
    )


@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    assert verify(sign(manifest, KEY), [KEY.public_key()]) == manifest


@given(manifests(), st.data())
def test_no_altered_envelope_is_read(manifest: Manifest, data: st.DataObject) -> None:
    envelope = sign(manifest, KEY)
    at = data.draw(st.integers(0, len(envelope) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "extend"]))
    altered = {
        "flip": envelope[:at]
        + bytes([envelope[at] ^ data.draw(st.integers(1, 255))])
        + envelope[at + 1 :],
        "cut": envelope[:at],
        "insert": envelope[:at] + data.draw(st.binary(min_size=1, max_size=3)) + envelope[at:],
        "remove": envelope[:at] + envelope[at + 1 :],
        "extend": envelope + data.draw(st.binary(min_size=1, max_size=3)),
    }[kind]
    if altered == envelope:  # an inserted byte may equal the next ones, never all of it
        return
    with pytest.raises(IntegrityError):
        verify(altered, [KEY.public_key()])


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_read_the_answer_is_an_integrity_error(envelope: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify(envelope, [KEY.public_key()])


@given(JSON)
def test_canonical_text_is_stable_and_means_the_value(value: object) -> None:
    text = canonical.dumps(value)
    assert json.loads(text) == value
    assert canonical.dumps(json.loads(text)) == text


@given(st.dictionaries(st.text(), st.none(), max_size=8))
def test_names_are_ordered_by_utf16(value: dict[str, None]) -> None:
    names = list(json.loads(canonical.dumps(value)))
    assert names == sorted(names, key=lambda name: name.encode("utf-16-be"))


@pytest.mark.parametrize("value", [1.0, float("nan"), {1: 2}, b"", {"a": {2}}, "\ud800"])
def test_what_canonical_json_has_not(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - surrogates raise a subclass of it
        canonical.dumps(value)


def test_canonical_text_of_rfc_8785() -> None:
    # RFC 8785, 3.2.2 (strings) and 3.2.3 (sorting)
    value = {
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical.dumps(value).decode() == expected
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical.dumps(dict.fromkeys(keys)))) == ordered


@given(st.text(max_size=60) | st.from_regex(r"v1/[a-z/.-]*/[0-9]*\.age"))
def test_a_parsed_key_is_the_one_we_make(key: str) -> None:
    parsed = parse_segment_key(key)
    assert parsed is None or segment_key(*parsed) == key
    assert parse_manifest_key(key) is None
