"""age files under attack: every change is an error, and what came before it is true."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backups.entropy import SystemEntropy
from backups.errors import ConfigError, Damaged, IntegrityError, UnknownFormat, WrongKey
from backups.format.age import (
    MAX_HEADER,
    MAX_STANZAS,
    Header,
    Identity,
    Recipient,
    Stanza,
    parse_identities,
)
from backups.format.bech32 import _expand, _polymod, bech32_decode, bech32_encode
from backups.format.payload import CHUNK, Encryptor, decrypt, decrypt_range, encrypt

ENTROPY = SystemEntropy()
OWNER = Identity.generate(ENTROPY)
SEALED = CHUNK + 16
PLAIN = ENTROPY.bytes(3 * CHUNK + 1000)
FILE = encrypt(PLAIN, [Identity.generate(ENTROPY).recipient, OWNER.recipient], ENTROPY)
HEAD = len(Header.parse(FILE).raw)
EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 999, len(PLAIN)]

near_edges = st.one_of(st.sampled_from(EDGES), st.integers(0, len(PLAIN) + 10))


def refused(file: bytes, plain: bytes = PLAIN) -> int:
    """The file raises; what it released before is a prefix of `plain`. How much was that?"""
    chunks: list[bytes] = []
    with pytest.raises(IntegrityError):
        chunks.extend(decrypt(file, [OWNER]))  # keeps what came before the error
    released = b"".join(chunks)
    assert plain.startswith(released)
    return len(released)


def flipped(data: bytes, bit: int) -> bytes:
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def test_it_opens_when_nobody_touched_it() -> None:
    assert b"".join(decrypt(FILE, [OWNER])) == PLAIN


def test_every_bit_of_the_header_and_nonce_counts() -> None:
    for bit in range(8 * (HEAD + 16)):
        assert refused(flipped(FILE, bit)) == 0


@given(st.integers(8 * HEAD, 8 * len(FILE) - 1))
def test_every_bit_of_the_payload_counts(bit: int) -> None:
    chunk = max(0, bit // 8 - HEAD - 16) // SEALED
    assert refused(flipped(FILE, bit)) == chunk * CHUNK


@given(st.integers(0, len(FILE) - 1))
@example(0)
@example(HEAD)
@example(HEAD + 16)
@example(HEAD + 16 + SEALED)
@example(HEAD + 16 + 3 * SEALED)
def test_a_cut_file_is_refused(length: int) -> None:
    refused(FILE[:length])


@given(st.binary(min_size=1, max_size=200))
@example(FILE)
@example(FILE[HEAD + 16 :])
def test_a_longer_file_is_refused(more: bytes) -> None:
    refused(FILE + more)


@pytest.mark.parametrize("size", [0, CHUNK, 2 * CHUNK])
def test_bytes_after_a_whole_number_of_chunks_are_refused(size: int) -> None:
    refused(encrypt(PLAIN[:size], [OWNER.recipient], ENTROPY) + b"x", PLAIN[:size])


@given(st.permutations(range(4)), st.sampled_from([3, 4]))
def test_chunks_hold_their_place(order: list[int], keep: int) -> None:
    start = HEAD + 16
    chunks = [FILE[start + i * SEALED : start + (i + 1) * SEALED] for i in range(4)]
    if order[:keep] != [0, 1, 2, 3]:
        refused(FILE[:start] + b"".join(chunks[i] for i in order[:keep]))


def test_an_empty_final_chunk_is_refused() -> None:
    class Careless(Encryptor):
        def end(self) -> bytes:
            return self._seal(b"", last=True)

    key = ENTROPY.bytes(16)
    header = Header.build(key, [OWNER.recipient], ENTROPY)
    careless = Careless(key, ENTROPY.bytes(16))
    file = header.raw + careless.update(PLAIN[: CHUNK + 1]) + careless.end()
    assert refused(file) == CHUNK
    with pytest.raises(Damaged):
        read_from(file, 0, 1)


def test_a_header_does_not_open_another_payload() -> None:
    other = encrypt(PLAIN, [OWNER.recipient], ENTROPY)
    assert refused(FILE[:HEAD] + other[len(Header.parse(other).raw) :]) == 0


def test_a_stranger_has_the_wrong_key() -> None:
    with pytest.raises(WrongKey):
        decrypt(FILE, [Identity.generate(ENTROPY)])


@given(st.lists(st.integers(0, 3 * CHUNK), max_size=6))
def test_how_bytes_arrive_does_not_matter(sizes: list[int]) -> None:
    key, nonce = bytes(16), bytes(16)
    whole = Encryptor(key, nonce)
    once = whole.update(PLAIN) + whole.finish()
    parts = Encryptor(key, nonce)
    rest, out = memoryview(PLAIN), b""
    for size in sizes:
        out += parts.update(rest[:size])
        rest = rest[size:]
    assert out + parts.update(bytearray(rest)) + parts.finish() == once


# --- ranged reads ---------------------------------------------------------------------


def read_from(file: bytes, start: int, length: int) -> bytes:
    def read(offset: int, count: int) -> bytes:
        assert offset >= 0
        assert count >= 0
        assert offset + count <= len(file)
        return file[offset : offset + count]

    return decrypt_range(read, len(file), [OWNER], start, length)


@given(near_edges, near_edges, st.sampled_from([0, 1, CHUNK, 2 * CHUNK, len(PLAIN)]))
def test_a_range_is_a_slice(start: int, length: int, size: int) -> None:
    file = FILE if size == len(PLAIN) else encrypt(PLAIN[:size], [OWNER.recipient], ENTROPY)
    assert read_from(file, start, length) == PLAIN[:size][start : start + length]


@given(st.integers(0, len(FILE) - 1), near_edges)
@example(HEAD + 16 + SEALED, 0)
@example(HEAD + 16 + 3 * SEALED, 0)
def test_a_range_of_a_cut_file_is_refused(cut: int, start: int) -> None:
    with pytest.raises(IntegrityError):
        read_from(FILE[:cut], start, 10)


@given(st.integers(0, 8 * len(FILE) - 1), near_edges, near_edges)
def test_a_range_is_true_or_refused(bit: int, start: int, length: int) -> None:
    try:
        plain = read_from(flipped(FILE, bit), start, length)
    except IntegrityError:
        return
    assert plain == PLAIN[start : start + length]


# --- hostile headers ------------------------------------------------------------------

stanzas = st.builds(
    lambda args, body: Stanza(tuple(args), body).encode(),
    st.lists(st.from_regex(r"\A[!-~]{1,60}\Z"), min_size=1, max_size=4),
    st.binary(max_size=150),
)
lines = st.one_of(
    stanzas,
    st.binary(max_size=100).map(lambda line: line + b"\n"),
    st.sampled_from(
        [b"-> ", b"--- ", b"\n", b"-> X25519 a\nb\n", b"-> scrypt a 18\n\n", b"\r\n"]
    ),
)
headers = st.builds(
    lambda front, middle, end: front + b"".join(middle) + end,
    st.sampled_from([b"age-encryption.org/v1\n", b"age-encryption.org/v1\r\n", b""]),
    st.lists(lines, max_size=40),
    st.one_of(st.just(b"--- " + b"A" * 43 + b"\n"), st.binary(max_size=60)),
)


@given(headers)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_header_is_refused_or_read_back_the_same(data: bytes) -> None:
    try:
        header = Header.parse(data)
    except (Damaged, UnknownFormat):
        return
    mac = header.raw[-48:]
    assert (
        header.raw
        == b"age-encryption.org/v1\n"
        + b"".join(stanza.encode() for stanza in header.stanzas)
        + mac
    )
    with pytest.raises((Damaged, WrongKey)):
        header.open([OWNER])


def x25519_stanza() -> bytes:
    return OWNER.recipient.wrap(ENTROPY.bytes(16), ENTROPY).encode()


def test_the_limit_of_stanzas_is_where_it_is_said_to_be() -> None:
    key = ENTROPY.bytes(16)
    most = Header.build(key, [OWNER.recipient] * MAX_STANZAS, ENTROPY)
    assert Header.parse(most.raw).open([OWNER]) == key
    mac = most.raw.rindex(b"--- ")
    with pytest.raises(Damaged, match="more than 32 stanzas"):
        Header.parse(most.raw[:mac] + x25519_stanza() + most.raw[mac:])


def hostile() -> Iterator[tuple[str, bytes]]:
    version = b"age-encryption.org/v1\n"
    end = b"--- " + b"A" * 43 + b"\n"
    yield "nothing but a first line without end", version + b"-> " + b"a" * 20_000_000
    yield "a body without end", version + b"-> a\n" + (b"A" * 64 + b"\n") * 300_000
    yield "no end of stanzas", version + b"-> a\n\n" * 4_000_000
    stranger = Identity.generate(ENTROPY).recipient
    costly = b"".join(stranger.wrap(bytes(16), ENTROPY).encode() for _ in range(MAX_STANZAS))
    yield "as many stanzas as allowed, for strangers", version + costly + end
    yield "as many arguments as fit", version + b"-> a" + b" a" * 32_000 + b"\n\n" + end
    yield "one byte too long", version + b"-> a\n" + (b"A" * 64 + b"\n") * 1007 + b"\n" + end


@pytest.mark.parametrize(("_", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_hostile_headers_cost_little(_: str, data: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(IntegrityError):
        decrypt(data, [OWNER])
    spent = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 1
    assert peak < 64 * MAX_HEADER


# --- keys -----------------------------------------------------------------------------

LOW_ORDER = [bytes(32), b"\1" + bytes(31)]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(ConfigError):
        encrypt(b"", [Recipient(point)], ENTROPY)


def test_no_recipient_or_too_many_is_refused() -> None:
    with pytest.raises(ConfigError):
        encrypt(b"", [], ENTROPY)
    with pytest.raises(ConfigError):
        encrypt(b"", [OWNER.recipient] * (MAX_STANZAS + 1), ENTROPY)


def test_an_identity_does_not_show_itself() -> None:
    secret = OWNER.reveal()
    assert secret not in f"{OWNER} {OWNER!r} {[OWNER]}"
    with pytest.raises(ConfigError) as caught:
        Identity.parse(secret[:-1])
    assert secret[20:40] not in str(caught.value) + caught.value.hint


@given(st.binary(max_size=64))
def test_bech32_is_read_as_written(data: bytes) -> None:
    text = bech32_encode("age", data)
    assert bech32_decode("age", text) == data
    assert bech32_decode("age", text.upper()) == data
    assert bech32_decode("age-secret-key-", text) is None


@given(st.data())
def test_a_mistyped_recipient_is_refused(data: st.DataObject) -> None:
    text = str(OWNER.recipient)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.characters(codec="ascii", exclude_characters=text[at], min_codepoint=33)
    )
    with pytest.raises(ConfigError):
        Recipient.parse(text[:at] + other + text[at + 1 :])


def test_one_key_has_one_text() -> None:
    text = str(OWNER.recipient)
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [alphabet.index(char) for char in text[4:-6]]
    values[-1] |= 1  # a bit of the padding
    check = _polymod([*_expand("age"), *values, *[0] * 6]) ^ 1
    values += [check >> shift & 31 for shift in range(25, -1, -5)]
    with pytest.raises(ConfigError):
        Recipient.parse("age1" + "".join(alphabet[value] for value in values))


def test_an_identity_file_without_one_is_refused() -> None:
    with pytest.raises(ConfigError):
        parse_identities("# created: today\n\n")
    assert parse_identities(f"# mine\n{OWNER.reveal()}\r\n") == (OWNER,)
