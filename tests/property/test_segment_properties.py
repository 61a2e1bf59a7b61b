"""Segments and their headers under attack: cut, changed, or put in another's place."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from backups.entropy import SystemEntropy
from backups.errors import ConfigError, Damaged, IntegrityError, UnknownFormat, WrongKey
from backups.format.age import Header, Identity, Stanza
from backups.format.headers import MAX_BUNDLE, read_bundle, rewrap, stored_header, write_bundle
from backups.format.payload import encrypt
from backups.format.segment import (
    PLAIN_SIZE,
    STORED_SIZE,
    BuiltSegment,
    SegmentBuilder,
    SegmentHeader,
    context_stanza,
    open_segment,
)
from backups.model import Context

ENTROPY = SystemEntropy()
CUSTOMER, AGENT, NEXT = (Identity.generate(ENTROPY) for _ in range(3))
PLACE = Context("acme", "acme-main", "0199-a", "archive", 3, last=False, engine="postgresql")


def build(
    plain: bytes, place: Context = PLACE, *, block: int = 50_000, threads: int = 0
) -> BuiltSegment:
    builder = SegmentBuilder(
        [CUSTOMER.recipient, AGENT.recipient], place, ENTROPY, threads=threads
    )
    for at in range(0, len(plain), block):
        builder.write(plain[at : at + block])
    return builder.finish(place.last)


def read(
    data: bytes, place: Context = PLACE, size: int | None = None, **header: object
) -> bytes:
    size = len(PLAIN) if size is None else size
    return b"".join(open_segment(data, [AGENT], place, size, **header))  # type: ignore[arg-type]


def refused(data: bytes, place: Context = PLACE, size: int | None = None) -> int:
    """It raises; what it released before is a prefix of the truth. How much was that?"""
    blocks: list[bytes] = []
    with pytest.raises(IntegrityError):
        blocks.extend(open_segment(data, [AGENT], place, len(PLAIN) if size is None else size))
    released = b"".join(blocks)
    assert PLAIN.startswith(released)
    return len(released)


def flipped(data: bytes, bit: int) -> bytes:
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def forged(frame: bytes) -> bytes:
    """What a writer with the right context could put there instead of an honest frame."""
    return encrypt(frame, [AGENT.recipient], ENTROPY, [context_stanza(PLACE)])


PLAIN = ENTROPY.bytes(150_000) + b"rows and rows " * 20_000
SEGMENT = build(PLAIN).data
HEAD = len(Header.parse(SEGMENT).raw)


# --- what is written is read ----------------------------------------------------------


@given(st.binary(max_size=3000), st.integers(1, 1000), st.booleans(), st.sampled_from([0, 2]))
@example(b"", 1, True, 0)
def test_a_segment_gives_back_what_was_written(
    plain: bytes, block: int, last: bool, threads: int
) -> None:
    place = replace(PLACE, last=last)
    built = build(plain, place, block=block, threads=threads)
    assert built.plain_bytes == len(plain)
    assert built.sha256 == hashlib.sha256(built.data).digest()
    for identity in (CUSTOMER, AGENT):
        assert b"".join(open_segment(built.data, [identity], place, len(plain))) == plain


def test_two_segments_of_the_same_bytes_have_nothing_in_common() -> None:
    one, other = build(PLAIN), build(PLAIN)
    assert one.sha256 != other.sha256
    heads = [Header.parse(built.data) for built in (one, other)]
    assert not {s.body for s in heads[0].stanzas[:2]} & {s.body for s in heads[1].stanzas[:2]}
    assert one.data[HEAD : HEAD + 16] != other.data[HEAD : HEAD + 16]


def test_a_segment_is_full_by_either_count() -> None:
    by_plain = SegmentBuilder([AGENT.recipient], PLACE, ENTROPY)
    zeros = bytes(1 << 20)
    while not by_plain.is_full:
        by_plain.write(zeros)
    assert by_plain.plain_bytes == PLAIN_SIZE
    by_stored = SegmentBuilder([AGENT.recipient], PLACE, ENTROPY, level=1)
    noise = ENTROPY.bytes(1 << 20)
    while not by_stored.is_full:  # random blocks repeat beyond zstd's window, level 1: 512 KiB
        by_stored.write(noise)
    built = by_stored.finish(last=False)
    assert STORED_SIZE <= by_stored.stored_bytes < len(built.data) < STORED_SIZE + (1 << 21)


# --- what is changed is refused -------------------------------------------------------


def test_every_bit_of_the_header_counts() -> None:
    for bit in range(8 * HEAD):
        assert refused(flipped(SEGMENT, bit)) == 0


@given(st.integers(8 * HEAD, 8 * len(SEGMENT) - 1))
def test_every_bit_of_the_payload_counts(bit: int) -> None:
    refused(flipped(SEGMENT, bit))


@given(st.integers(0, len(SEGMENT) - 1))
def test_a_cut_segment_is_refused(length: int) -> None:
    refused(SEGMENT[:length])


@given(st.binary(min_size=1, max_size=100))
@example(SEGMENT)
@example(build(b"").data)
def test_a_longer_segment_is_refused(more: bytes) -> None:
    refused(SEGMENT + more)


OTHER_PLACES = [
    replace(PLACE, customer="globex"),
    replace(PLACE, database="acme-shop"),
    replace(PLACE, backup="0199-b"),
    replace(PLACE, artifact="roles"),
    replace(PLACE, index=4),
    replace(PLACE, last=True),
    replace(PLACE, engine="mysql"),
]


@pytest.mark.parametrize("place", OTHER_PLACES, ids=lambda place: repr(place)[8:])
def test_a_segment_from_elsewhere_is_refused_before_its_first_byte(place: Context) -> None:
    names = {"index": "segment"}
    (field,) = (
        name for name in Context.__slots__ if getattr(place, name) != getattr(PLACE, name)
    )
    told = (
        f"{names.get(field, field)} is '{getattr(place, field)}', not '{getattr(PLACE, field)}'"
    )
    with pytest.raises(Damaged, match=told):
        open_segment(build(PLAIN, place).data, [AGENT], PLACE, len(PLAIN))


ids = st.from_regex(r"\A[a-z0-9-]{1,64}\Z")
places = st.builds(Context, ids, ids, ids, ids, st.integers(0, 10**6), st.booleans(), ids)


@given(places, places)
def test_no_two_places_are_taken_for_each_other(one: Context, other: Context) -> None:
    data = build(b"rows", one).data
    assert read(data, one, 4) == b"rows"
    if one != other:
        with pytest.raises(Damaged, match="belongs elsewhere"):
            open_segment(data, [AGENT], other, 4)


@given(st.binary(max_size=300))
@example(b"[" * 60_000)
@example(b'{"v":1}')
@example(context_stanza(PLACE).body + b" ")
@example(b'{"v":1,' + context_stanza(PLACE).body[1:])
def test_a_context_is_equal_or_refused(body: bytes) -> None:
    if len(body) > 40_000:  # as base64 it must stay below a header's limit
        body = body[:40_000]
    file = encrypt(b"", [AGENT.recipient], ENTROPY, [Stanza(("bloomneo-context", "1"), body)])
    with pytest.raises(Damaged):
        open_segment(file, [AGENT], PLACE, 0)


@pytest.mark.parametrize(
    ("stanzas", "error"),
    [
        ([], Damaged),
        ([context_stanza(PLACE)] * 2, Damaged),
        ([Stanza(("bloomneo-context", "2"), b"")], UnknownFormat),
        ([Stanza(("bloomneo-context",), context_stanza(PLACE).body)], UnknownFormat),
    ],
)
def test_exactly_one_context_is_wanted(
    stanzas: list[Stanza], error: type[IntegrityError]
) -> None:
    file = encrypt(b"", [AGENT.recipient], ENTROPY, stanzas)
    with pytest.raises(error):
        open_segment(file, [AGENT], PLACE, 0)


def test_unknown_stanzas_are_left_alone() -> None:
    frame = zstandard.compress(PLAIN)
    extra = [Stanza(("joint-oil-and-vinegar", "x"), bytes(100)), context_stanza(PLACE)]
    assert read(encrypt(frame, [AGENT.recipient], ENTROPY, extra)) == PLAIN


def test_a_header_does_not_serve_another_segment() -> None:
    other = build(PLAIN)
    assert refused(SEGMENT[:HEAD] + other.data[HEAD:]) == 0


def test_a_stranger_has_the_wrong_key() -> None:
    with pytest.raises(WrongKey):
        open_segment(SEGMENT, [NEXT], PLACE, len(PLAIN))


# --- frames ---------------------------------------------------------------------------

FRAME = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(PLAIN)
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0rows"


def test_the_frame_as_forged_here_is_fine_if_honest() -> None:
    assert read(forged(FRAME)) == PLAIN


@pytest.mark.parametrize(
    "frame",
    [
        b"", FRAME[:-1], FRAME[:-4], FRAME[: len(FRAME) // 2], FRAME + b"\0", FRAME + FRAME,
        FRAME + zstandard.compress(b""), FRAME + SKIPPABLE, SKIPPABLE + FRAME, SKIPPABLE,
        flipped(FRAME, 8 * len(FRAME) - 1), flipped(FRAME, 8 * 100_000), PLAIN,
    ],
    ids=range(13),
)  # fmt: skip
def test_anything_but_one_whole_frame_is_refused(frame: bytes) -> None:
    blocks: list[bytes] = []
    with pytest.raises(Damaged):
        blocks.extend(open_segment(forged(frame), [AGENT], PLACE, len(PLAIN)))
    assert sum(map(len, blocks)) <= len(PLAIN)


@given(st.integers(0, 2 * len(PLAIN)).filter(lambda size: size != len(PLAIN)))
@example(0)
@example(len(PLAIN) - 1)
@example(len(PLAIN) + 1)
def test_the_manifests_size_is_kept(size: int) -> None:
    assert refused(SEGMENT, size=size) <= size


def test_a_small_frame_that_grows_huge_stays_within_a_segments_memory() -> None:
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    frame = (
        b"".join(compressor.compress(bytes(1 << 22)) for _ in range(256)) + compressor.flush()
    )
    file = forged(frame)
    assert len(file) < 100_000
    tracemalloc.start()
    with pytest.raises(Damaged, match="more than"):
        read(file, size=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * PLAIN_SIZE + (1 << 20)


def test_a_window_beyond_the_limit_is_refused() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(Damaged, match="compressed data"):
        read(forged(compressor.compress(PLAIN) + compressor.flush()))


# --- rotation -------------------------------------------------------------------------


def rotated(
    current: SegmentHeader, old: Identity = CUSTOMER, new: Iterable[Identity] = (NEXT,)
) -> SegmentHeader:
    return rewrap(current, [old], [identity.recipient for identity in new], ENTROPY)


def open_as(identity: Identity, header: SegmentHeader, data: bytes = SEGMENT) -> bytes:
    return b"".join(open_segment(data, [identity], PLACE, len(PLAIN), header))


def test_a_new_header_opens_the_old_payload_for_its_recipients_only() -> None:
    first = rotated(stored_header(SEGMENT))
    assert open_as(NEXT, first) == PLAIN
    with pytest.raises(WrongKey):
        open_as(CUSTOMER, first)
    second = rotated(first, old=NEXT, new=(AGENT, CUSTOMER))
    assert open_as(CUSTOMER, second) == open_as(AGENT, second) == PLAIN
    assert read(SEGMENT) == PLAIN  # and the stored header still serves whom it served


def test_only_a_holder_rotates_and_never_to_nobody() -> None:
    with pytest.raises(WrongKey):
        rotated(stored_header(SEGMENT), old=NEXT)
    with pytest.raises(ConfigError):
        rotated(stored_header(SEGMENT), new=())
    with pytest.raises(Damaged):
        rotated(stored_header(flipped(SEGMENT, 8 * (HEAD - 60))))


def test_a_header_of_another_segment_does_not_open_this_one() -> None:
    with pytest.raises(Damaged, match="belongs elsewhere"):
        open_as(NEXT, rotated(stored_header(build(PLAIN, OTHER_PLACES[2]).data)))
    with pytest.raises(Damaged):
        open_as(NEXT, rotated(stored_header(build(PLAIN).data)))


def test_a_new_header_makes_an_age_file_or_is_refused() -> None:
    new = rotated(stored_header(SEGMENT))
    with pytest.raises(Damaged, match="follow"):
        open_as(NEXT, replace(new, raw=new.raw + b"\n"))


@given(st.integers(-1, len(SEGMENT) + 1).filter(lambda skip: skip != HEAD))
def test_a_wrong_skip_is_refused(skip: int) -> None:
    with pytest.raises(Damaged):
        open_as(NEXT, replace(rotated(stored_header(SEGMENT)), skip=skip))


NEW = rotated(stored_header(SEGMENT))
BUNDLE = write_bundle("0199-a", {"v1/acme-main/0199-a/00000.age": NEW})


def test_a_bundle_is_read_as_written() -> None:
    headers = {f"key-{number}": rotated(stored_header(SEGMENT)) for number in range(20)}
    assert read_bundle(write_bundle("0199-a", headers), "0199-a") == headers
    assert json.loads(BUNDLE)["headers"]["v1/acme-main/0199-a/00000.age"]["skip"] == HEAD


def test_every_bit_of_a_bundle_counts() -> None:
    for bit in range(8 * len(BUNDLE)):
        try:
            headers = read_bundle(flipped(BUNDLE, bit), "0199-a")
        except (Damaged, UnknownFormat):
            continue
        header = headers.get("v1/acme-main/0199-a/00000.age")
        if header is not None:  # else its key was changed, and the segment has none
            with pytest.raises(IntegrityError):
                open_as(NEXT, header)


@given(st.integers(0, len(BUNDLE) - 1))
def test_a_cut_bundle_is_refused(length: int) -> None:
    with pytest.raises((Damaged, UnknownFormat)):
        read_bundle(BUNDLE[:length], "0199-a")


@pytest.mark.parametrize(
    "data",
    [
        BUNDLE + b"\n", b" " + BUNDLE, b"[" * 1_000_000, b"{}", b"\xff", b"null",
        BUNDLE.replace(b'"v":1', b'"v":2'), BUNDLE.replace(b'"v":1', b'"v":1,"w":1'),
        BUNDLE.replace(b'"skip":', b'"skip":-'), BUNDLE.replace(b'"skip":', b'"skip":1e'),
        BUNDLE.replace(b"age-enc", "äge-enc".encode()), bytes(MAX_BUNDLE + 1),
    ],
    ids=range(12),
)  # fmt: skip
def test_anything_but_a_bundle_is_refused(data: bytes) -> None:
    with pytest.raises((Damaged, UnknownFormat)):
        read_bundle(data, "0199-a")


def test_a_bundle_of_another_backup_is_refused() -> None:
    with pytest.raises(Damaged, match="another backup"):
        read_bundle(BUNDLE, "0199-b")
