"""The manifest: its payload, envelope, rules and keys; checked with openssl too."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from backups.errors import (
    BadSignature,
    ConfigError,
    Damaged,
    IntegrityError,
    UnknownFormat,
    UsageError,
)
from backups.format import canonical, dsse
from backups.format import manifest as manifest_module
from backups.format.manifest import (
    PAYLOAD_TYPE,
    context,
    manifest_key,
    parse_manifest_key,
    parse_segment_key,
    segment_key,
    sign,
    verify,
)
from backups.model import Artifact, Context, Manifest, Segment

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PKEYUTL = ("openssl", "pkeyutl", "-inkey", "key", "-rawin", "-in", "pae")
SNAPSHOT = datetime(2026, 11, 23, 1, 2, 3, 4, UTC)


def segment(number: int, *, backup: str = "b-2", version_id: str | None = None) -> Segment:
    return Segment(segment_key("acme-main", backup, number), 1000, 500, "ab" * 32, version_id)


MANIFEST = Manifest(
    customer="acme",
    database="acme-main",
    backup="b-2",
    engine="postgresql",
    snapshot_at=SNAPSHOT,
    position="0/16B3748",
    expires_at=SNAPSHOT + timedelta(days=30),
    policy_version=3,
    server_version="15.20",
    tool_version="pg_dump 15.20",
    program_version="0.1.0",
    recipients=("11" * 32, "22" * 32),
    artifacts=(
        Artifact("archive", (segment(0, version_id="v.1_x="), segment(1))),
        Artifact("roles", (segment(2),)),
        Artifact("fingerprint", (segment(0, backup="b-1"),)),
    ),
    fingerprint_sha256="cd" * 32,
    previous="ef" * 32,
    warnings=("größer: 2 foreign tables carry no rows",),
)


def sealed(payload: object, payload_type: str = PAYLOAD_TYPE) -> bytes:
    data = payload if isinstance(payload, bytes) else canonical.dumps(payload)
    return dsse.seal(data, payload_type, KEY)


def payload_of(envelope: bytes) -> dict[str, object]:
    payload = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    assert isinstance(payload, dict)
    return payload


def test_what_was_signed_is_read() -> None:
    assert verify(sign(MANIFEST, KEY), [OTHER.public_key(), KEY.public_key()]) == MANIFEST


def test_signing_again_gives_the_same_bytes() -> None:
    assert sign(MANIFEST, KEY) == sign(MANIFEST, KEY)


def test_the_payload_is_as_format_md_says() -> None:
    payload = payload_of(sign(MANIFEST, KEY))
    assert payload["snapshot_at"] == "2026-11-23T01:02:03.000004Z"
    assert payload["artifacts"][2] == {  # type: ignore[index]
        "name": "fingerprint",
        "segments": [
            {
                "key": "v1/acme-main/b-1/00000.age",
                "plain_bytes": 1000,
                "sha256": "ab" * 32,
                "stored_bytes": 500,
                "version_id": None,
            }
        ],
    }
    assert set(payload) == {
        *("customer", "database", "backup", "engine", "snapshot_at", "position", "expires_at"),
        *("policy_version", "server_version", "tool_version", "program_version"),
        *("recipients", "artifacts", "fingerprint_sha256", "previous", "warnings"),
    }


def test_an_instant_of_another_zone_is_written_in_utc() -> None:
    east = SNAPSHOT.astimezone(timezone(timedelta(hours=9)))
    assert sign(replace(MANIFEST, snapshot_at=east), KEY) == sign(MANIFEST, KEY)


def test_dsse_pae_is_the_one_of_the_specification() -> None:
    assert (
        dsse.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_openssl_verifies_what_we_signed(tmp_path: Path) -> None:
    envelope = json.loads(sign(MANIFEST, KEY))
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "pae").write_bytes(dsse.pae(envelope["payloadType"], payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "key").write_bytes(dsse.public_pem(KEY.public_key()))
    argv = [*PKEYUTL, "-verify", "-pubin", "-sigfile", "sig"]
    subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "pae").write_bytes(dsse.pae(envelope["payloadType"], payload + b" "))
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True)


def test_we_verify_what_openssl_signed(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(dsse.private_pem(KEY))
    envelope = sign(MANIFEST, KEY)
    parsed = json.loads(envelope)
    (tmp_path / "pae").write_bytes(dsse.pae(PAYLOAD_TYPE, base64.b64decode(parsed["payload"])))
    subprocess.run([*PKEYUTL, "-sign", "-out", "sig"], cwd=tmp_path, check=True)
    parsed["signatures"][0]["sig"] = base64.b64encode((tmp_path / "sig").read_bytes()).decode()
    assert verify(canonical.dumps(parsed), [KEY.public_key()]) == MANIFEST


def test_an_unknown_signer_is_refused() -> None:
    envelope = sign(MANIFEST, KEY)
    with pytest.raises(BadSignature, match="not trusted"):
        verify(envelope, [OTHER.public_key()])
    with pytest.raises(BadSignature):
        verify(envelope, [])


def test_a_key_id_is_no_proof() -> None:
    forged = json.loads(sign(MANIFEST, OTHER))
    forged["signatures"][0]["keyid"] = dsse.key_id(KEY.public_key())
    with pytest.raises(BadSignature, match="does not fit"):
        verify(canonical.dumps(forged), [KEY.public_key()])


def test_a_newer_version_is_named_so_only_if_it_is_signed() -> None:
    newer = sealed({"whatever": 1}, PAYLOAD_TYPE.replace("v1", "v2"))
    with pytest.raises(UnknownFormat, match=r"manifest\.v2"):
        verify(newer, [KEY.public_key()])
    relabelled = sign(MANIFEST, KEY).replace(b"manifest.v1", b"manifest.v2")
    with pytest.raises(BadSignature):
        verify(relabelled, [KEY.public_key()])


def test_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Damaged, match="longer"):
        verify(b"[" * (dsse.MAX_ENVELOPE + 1), [KEY.public_key()])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b" " + text,
        lambda text: text + b"\n",
        lambda text: text.replace(b'{"payload"', b'{"more":1,"payload"'),
        lambda text: text.replace(b'{"payload"', b'{"payload":"","payload"'),
        lambda text: text.replace(b"signatures", b"signatur\\u0065s"),
        lambda text: text.replace(b'"signatures":[', b'"signatures":[{"keyid":"","sig":""},'),
        lambda text: b"",
        lambda text: b"null",
        lambda text: b"[" * 100_000,
        lambda text: b"\xff\xfe",
    ],
)
def test_an_envelope_has_one_spelling(spoil) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Damaged):
        verify(spoil(sign(MANIFEST, KEY)), [KEY.public_key()])


def test_no_byte_can_be_altered_or_cut() -> None:
    envelope = sign(MANIFEST, KEY)
    for at in range(len(envelope)):
        for bit in (1, 32):
            flipped = envelope[:at] + bytes([envelope[at] ^ bit]) + envelope[at + 1 :]
            with pytest.raises(IntegrityError):
                verify(flipped, [KEY.public_key()])
        with pytest.raises(IntegrityError):
            verify(envelope[:at], [KEY.public_key()])


def test_unused_bits_of_base64_are_refused() -> None:
    envelope = json.loads(sign(MANIFEST, KEY))
    signature = envelope["signatures"][0]["sig"]  # 64 bytes: two `=`, four unused bits
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    neighbour = alphabet[alphabet.index(signature[-3]) + 1]
    envelope["signatures"][0]["sig"] = signature[:-3] + neighbour + "=="
    with pytest.raises(Damaged):
        verify(canonical.dumps(envelope), [KEY.public_key()])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy_version", 3.0),
        ("policy_version", True),
        ("policy_version", "3"),
        ("snapshot_at", "2026-11-23T01:02:03Z"),
        ("snapshot_at", "2026-11-23T01:02:03.000004+00:00"),
        ("snapshot_at", 1795395723),
        ("snapshot_at", "0000-11-23T01:02:03.000004Z"),
        ("surplus", 1),
        ("customer", None),
        ("artifacts", {}),
        ("recipients", "11" * 32),
    ],
)
def test_a_signed_payload_of_wrong_shape_is_refused(field: str, value: object) -> None:
    payload = payload_of(sign(MANIFEST, KEY)) | {field: value}
    text = json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    with pytest.raises(Damaged):
        verify(sealed(text.encode()), [KEY.public_key()])


def test_a_number_of_many_digits_is_refused() -> None:
    text = canonical.dumps(payload_of(sign(MANIFEST, KEY)) | {"policy_version": 77777})
    for digits in (20, 4300, 5000):
        with pytest.raises(Damaged):
            verify(sealed(text.replace(b"77777", b"7" * digits)), [KEY.public_key()])


@pytest.mark.parametrize("field", sorted(payload_of(sign(MANIFEST, KEY))))
def test_a_missing_field_is_refused(field: str) -> None:
    payload = payload_of(sign(MANIFEST, KEY))
    del payload[field]
    with pytest.raises(Damaged):
        verify(sealed(payload), [KEY.public_key()])


def test_a_payload_has_one_spelling() -> None:
    text = canonical.dumps(payload_of(sign(MANIFEST, KEY)))
    assert verify(sealed(text), [KEY.public_key()]) == MANIFEST
    for other in (
        text + b" ",
        text.replace(b":", b": ", 1),
        text.replace("größer".encode(), b"gr\\u00f6\\u00dfer"),
        text.replace(b'{"artifacts"', b'{"artifacts":[],"artifacts"'),
    ):
        assert other != text
        with pytest.raises(Damaged):
            verify(sealed(other), [KEY.public_key()])


BAD_SEGMENTS = {
    "another database": replace(segment(9), key="v1/acme-other/b-2/00009.age"),
    "up and out": replace(segment(9), key="v1/acme-main/../00009.age"),
    "absolute": replace(segment(9), key="/v1/acme-main/b-2/00009.age"),
    "a manifest": replace(segment(9), key="v1/acme-main/b-2/manifest.dsse.json"),
    "short number": replace(segment(9), key="v1/acme-main/b-2/0009.age"),
    "padded number": replace(segment(9), key="v1/acme-main/b-2/000009.age"),
    "other digits": replace(segment(9), key="v1/acme-main/b-2/0000९.age"),
    "final newline": replace(segment(9), key="v1/acme-main/b-2/00009.age\n"),
    "named twice": segment(0),
    "negative": replace(segment(9), plain_bytes=-1),
    "huge": replace(segment(9), plain_bytes=(1 << 30) + 1),
    "empty object": replace(segment(9), stored_bytes=0),
    "huge object": replace(segment(9), stored_bytes=(128 << 20) + 1),
    "upper case": replace(segment(9), sha256="AB" * 32),
    "short digest": replace(segment(9), sha256="ab" * 31),
    "quote in version": replace(segment(9), version_id='a"b'),
    "bracket in version": replace(segment(9), version_id="a]b"),
    "line in version": replace(segment(9), version_id="a\nb"),
}


@pytest.mark.parametrize("bad", BAD_SEGMENTS.values(), ids=BAD_SEGMENTS)
def test_a_bad_segment_is_neither_written_nor_read(bad: Segment) -> None:
    more = (*MANIFEST.artifacts, Artifact("more", (bad,)))
    with pytest.raises(Damaged, match="breaks a rule"):
        sign(replace(MANIFEST, artifacts=more), KEY)


@pytest.mark.parametrize(
    "bad",
    [
        {"customer": "Acme"},
        {"customer": "../acme"},
        {"database": ""},
        {"backup": "b\n"},
        {"engine": "a" * 65},
        {"server_version": "15\n"},
        {"position": "x" * 4097},
        {"warnings": ("a\x1b[31m",)},
        {"warnings": ("a",) * 1001},
        {"warnings": ("\ud800",)},
        {"expires_at": SNAPSHOT},
        {"snapshot_at": SNAPSHOT.replace(tzinfo=None)},
        {"policy_version": -1},
        {"recipients": ()},
        {"recipients": ("22" * 32, "11" * 32)},
        {"recipients": ("11" * 32, "11" * 32)},
        {"fingerprint_sha256": ""},
        {"previous": "xx" * 32},
        {"artifacts": ()},
        {"artifacts": MANIFEST.artifacts[:2]},
        {"artifacts": (*MANIFEST.artifacts, Artifact("empty", ()))},
        {"artifacts": (*MANIFEST.artifacts, Artifact("roles", (segment(9),)))},
        {"artifacts": (*MANIFEST.artifacts, Artifact("Public.T", (segment(9),)))},
    ],
    ids=str,
)
def test_a_broken_rule_is_neither_written_nor_read(bad: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        sign(replace(MANIFEST, **bad), KEY)  # type: ignore[arg-type]


def test_format_md_names_every_field_and_the_type() -> None:
    text = (Path(manifest_module.__file__).parent / "FORMAT.md").read_text()
    fields = {*payload_of(sign(MANIFEST, KEY)), *(f.name for f in dataclass_fields(Segment))}
    assert {name for name in fields if f"`{name}`" not in text} == set()
    assert f"%s %d ' {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} " in text


def test_the_context_of_a_segment_follows_from_the_manifest() -> None:
    archive, _, fingerprint = MANIFEST.artifacts
    assert context(MANIFEST, archive, 0) == Context(
        "acme", "acme-main", "b-2", "archive", 0, False, "postgresql"
    )
    assert context(MANIFEST, archive, 1).last
    # A segment of an earlier backup says so itself.
    assert context(MANIFEST, fingerprint, 0).backup == "b-1"


def test_keys_of_objects() -> None:
    assert segment_key("d", "b", 0) == "v1/d/b/00000.age"
    assert segment_key("d", "b", 123456) == "v1/d/b/123456.age"
    assert parse_segment_key("v1/d/b/123456.age") == ("d", "b", 123456)
    assert manifest_key("d", "b") == "v1/d/b/manifest.dsse.json"
    assert parse_manifest_key("v1/d/b/manifest.dsse.json") == ("d", "b")
    for key in (
        "v1/d/b/00000.age",
        "x/v1/d/b/manifest.dsse.json",
        "v1/d/b/c/manifest.dsse.json",
    ):
        assert parse_manifest_key(key) is None
    for evil in ("..", "a/b", "", "A", "a" * 65, "a\n"):
        with pytest.raises(UsageError):
            segment_key(evil, "b", 0)
        with pytest.raises(UsageError):
            manifest_key("d", evil)
    for number in (-1, 10_000_000):
        with pytest.raises(ValueError, match="number"):
            segment_key("d", "b", number)


def test_keys_survive_pem() -> None:
    again = dsse.read_private_pem(dsse.private_pem(KEY))
    assert again.private_bytes_raw() == KEY.private_bytes_raw()
    public = dsse.read_public_pem(dsse.public_pem(KEY.public_key()))
    assert dsse.key_id(public) == dsse.key_id(KEY.public_key())


def test_other_keys_are_refused() -> None:
    x25519 = X25519PrivateKey.from_private_bytes(bytes(32))
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    foreign = x25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem in (b"", b"nonsense", foreign, locked, dsse.public_pem(KEY.public_key())):
        with pytest.raises(ConfigError):
            dsse.read_private_pem(pem)
    foreign = x25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for pem in (b"", b"nonsense", foreign, dsse.private_pem(KEY)):
        with pytest.raises(ConfigError):
            dsse.read_public_pem(pem)
