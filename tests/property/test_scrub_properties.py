"""Scrub reports what was planted and nothing else, and removes nothing that is named.

Whole stores are made up: backups in every state that a crash, a customer or an attacker
leaves, their segments right or damaged, borrowed by later backups, old or young.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from backups import keys, wiring
from backups.entropy import SystemEntropy
from backups.format.manifest import manifest_key, segment_key, sign
from backups.format.segment import SegmentBuilder
from backups.ids import uuid7
from backups.model import (
    Artifact,
    Context,
    Destination,
    Manifest,
    ObjectInfo,
    Plan,
    Policy,
    Run,
    Segment,
)
from backups.run.backup import as_backup
from backups.run.scrub import BROKEN, ScrubOptions, scrub
from backups.run.scrubbing import NAMED, Tally, differences, drawable, is_foreign, printable
from providers.memory import MemoryStore, shared

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NO_SHRINKING = (Phase.explicit, Phase.generate)
"""A store takes a tenth of a second to make up: the first example that fails must do."""
SIGNED = ("kept", "unlisted", "stranger")
UNBELIEVED = ("gone", "forged", "stranger")
STATES = [*SIGNED, "gone", "forged", "dead", "running", "prepared", "elsewhere"]
KEPT = [
    "v1/shop/holds/h-1.dsse.json",
    "v1/shop/b-1/tombstone.dsse.json",
    "v1/enrolment/0123abcd",
    "v1/reports/2026-11/acme.html",
    "v1/audit/2026-11-23.head",
]


class SetClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Planned:
    """A backup to be made up."""

    state: str
    segments: tuple[str, ...]
    """Each right, gone, cut or flipped."""
    extra: bool
    """An object of a put whose reply was lost."""
    borrows: bool
    """Names the last segment of the backup before it."""
    old: bool


planned = st.builds(
    Planned,
    st.sampled_from(STATES),
    st.lists(
        st.sampled_from(["right", "right", "right", "gone", "cut", "flipped"]),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wiring.App]:
    home = tmp_path_factory.mktemp("scrub") / "home"
    wiring.init(str(home))
    with wiring.opened(home) as app:
        yield app


class World:
    """A customer of its own, with a store made up from a plan."""

    def __init__(self, app: wiring.App) -> None:
        self.app = app
        self.clock, self.next = SetClock(), NOW
        self.name = "c" + SystemEntropy().bytes(8).hex()
        self.url = f"memory:{self.name}"
        self.store: MemoryStore = shared(self.name, self.clock)
        self.key = keys.load_signing_key(app.home)
        self.recipient = keys.load_restore_recipient(app.home)
        self.expected: set[tuple[str, str]] = set()
        self.orphans: set[str] = set()
        self.named: set[str] = set()
        destination = Destination(self.url)
        self.policy = app.catalog.save_policy(
            Policy(
                self.name, self.name, 0, Plan("pro", 30), "postgresql", "postgresql:///x",
                None, (destination,), (str(self.recipient),),
            )
        )  # fmt: skip
        self.ports = replace(
            wiring.scrub_ports(app, self.name, destination, with_identity=True),
            clock=self.clock,
        )

    def segment(self, backup: str, number: int, artifact: str, index: int, last: bool) -> bytes:
        context = Context(self.name, self.name, backup, artifact, index, last, "postgresql")
        builder = SegmentBuilder([self.recipient], context, SystemEntropy())
        builder.write(b"rows" * (number + 1))
        self.built = builder.finish(last)
        return self.built.data

    def add(self, plan: Planned, before: tuple[Planned, Manifest] | None) -> Manifest:
        """Make the backup up, and note what must be found of it."""
        self.clock.at = NOW - timedelta(days=10 if plan.old else 1)
        backup = uuid7(self.clock.at, SystemEntropy().bytes(10))
        borrowed = []
        if before and plan.borrows:
            borrowed = [before[1].artifacts[0].segments[-1]]
        segments: list[Segment] = []
        present: list[str] = []
        for number, state in enumerate(plan.segments):
            index = number + len(borrowed)
            last = number == len(plan.segments) - 1
            key = segment_key(self.name, backup, number)
            data = self.segment(backup, number, "fingerprint", index, last)
            segments.append(
                Segment(key, self.built.plain_bytes, len(data), self.built.sha256.hex())
            )
            damaged = {
                "right": data,
                "cut": data[:-1],
                "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            }
            if state in damaged:
                self.store.put(key, damaged[state])
                present.append(key)
        if plan.extra:
            key = segment_key(self.name, backup, 99)
            self.store.put(key, b"lost")
        artifact = Artifact("fingerprint", (*borrowed, *segments))
        manifest = Manifest(
            customer="another" if plan.state == "stranger" else self.name,
            database=self.name, backup=backup, engine="postgresql", snapshot_at=self.clock.at,
            position="", expires_at=self.clock.at + timedelta(days=30), policy_version=1,
            server_version="15", tool_version="15", program_version="1",
            recipients=("ab" * 32,), artifacts=(artifact,), fingerprint_sha256="cd" * 32,
        )  # fmt: skip
        self.record(plan, manifest)
        believed = plan.state in ("kept", "unlisted")
        if believed:
            kinds = {"gone": "missing", "cut": "altered", "flipped": "altered"}
            self.expected |= {
                (kinds[state], segment.key)
                for state, segment in zip(plan.segments, segments, strict=True)
                if state in kinds
            }
            if borrowed and before and before[0].segments[-1] in kinds:
                self.expected.add((kinds[before[0].segments[-1]], borrowed[0].key))
        if believed or plan.state == "prepared":
            self.named |= {segment.key for segment in (*segments, *borrowed)}
        if plan.old:
            if plan.state == "dead":
                self.orphans.update(present)
            if plan.extra and plan.state in ("dead", "kept", "unlisted"):
                self.orphans.add(segment_key(self.name, backup, 99))
        return manifest

    def record(self, plan: Planned, manifest: Manifest) -> None:
        """What store and catalog hold of a backup in that state."""
        signer = Ed25519PrivateKey.generate() if plan.state == "forged" else self.key
        envelope = sign(manifest, signer)
        key = manifest_key(self.name, manifest.backup)
        if plan.state in (*SIGNED, "forged"):
            digest = self.store.put(key, envelope).checksum.removeprefix("sha256:")
        else:
            digest = "ef" * 32
        catalog = self.app.catalog
        if plan.state in ("kept", "gone", "forged"):
            catalog.add_backup(as_backup(manifest, self.url, digest))
        if plan.state == "elsewhere":
            catalog.add_backup(as_backup(manifest, "memory:elsewhere", digest))
        if plan.state in ("running", "prepared"):
            catalog.start_run(
                Run(manifest.backup, self.name, self.name, 1, "running", self.clock.at)
            )
        if plan.state == "prepared":
            catalog.prepare_run(manifest.backup, envelope)
        told = {"forged": "unreadable", "stranger": "unreadable", "gone": "missing"}
        told["unlisted"] = "unlisted"
        if plan.state in told:
            self.expected.add((told[plan.state], key))

    def objects(self) -> dict[str, bytes]:
        return {info.key: self.store.open(info.key).read() for info in self.store.list("")}

    def scrub(self, **options: object) -> set[tuple[str, str]]:
        self.clock.at = self.next = self.next + timedelta(seconds=1)
        count = len(list(self.store.list("v1/")))
        done = scrub(self.ports, replace(ScrubOptions(), **options), silent)  # type: ignore[arg-type]
        assert done == self.app.catalog.scrubs(self.name)[0]
        assert done.objects == count
        self.words = {finding.subject: finding.words for finding in done.findings}
        return {(finding.kind, finding.subject) for finding in done.findings}


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@given(st.lists(planned, min_size=1, max_size=6), st.sampled_from([0, 2, None]))
@settings(max_examples=60, deadline=None, phases=NO_SHRINKING)
def test_what_was_planted_is_found_and_nothing_named_is_removed(
    app: wiring.App, plans: list[Planned], sample: int | None
) -> None:
    world = World(app)
    before: tuple[Planned, Manifest] | None = None
    for plan in plans:
        before = plan, world.add(plan, before)
    for key in KEPT:
        world.store.put(key, b"ours")
    world.store.put("v1/shop/notes.txt", b"theirs")
    world.store.put("README.txt", b"not below v1")
    world.expected.add(("foreign", "v1/shop/notes.txt"))
    orphans = world.orphans - world.named
    told = {("orphan", key) for key in orphans}
    objects = world.objects()

    assert world.scrub(sample=sample) == world.expected | told
    assert world.objects() == objects  # looking changes nothing

    assert world.scrub(sample=sample, remove_orphans=True) == world.expected | told
    left = world.objects()
    if any(plan.state in UNBELIEVED for plan in plans):
        assert left == objects
        assert all("not removed" in world.words[key] for key in orphans)
    else:
        assert left == {key: data for key, data in objects.items() if key not in orphans}
        assert world.scrub(sample=sample, remove_orphans=True) == world.expected


@given(st.lists(planned, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, phases=NO_SHRINKING)
def test_a_store_as_it_should_be_has_no_findings(app: wiring.App, plans: list[Planned]) -> None:
    world = World(app)
    before: tuple[Planned, Manifest] | None = None
    for plan in plans:
        right = replace(plan, state="kept", extra=False, segments=("right",) * 2)
        before = right, world.add(right, before)
    assert world.scrub(sample=None) == set()
    assert world.app.catalog.scrubs(world.name)[0].backups == len(plans)


# --- the pure parts -------------------------------------------------------------------

numbers = st.integers(0, 30)


@given(
    st.dictionaries(numbers, st.sampled_from(["same", "size", "version", "digest"])),
    st.sets(numbers),
)
def test_differences_are_those_planted(listed: dict[int, str], named: set[int]) -> None:
    def key(number: int) -> str:
        return segment_key("shop", "b-1", number)

    there = {
        key(number): ObjectInfo(
            key(number), 9 if how == "size" else 10, NOW, "w" if how == "version" else "v",
            f"sha256:{'cd' * 32 if how == 'digest' else 'ab' * 32}",
        )
        for number, how in listed.items()
    }  # fmt: skip
    segments = [Segment(key(number), 1, 10, "ab" * 32, "v") for number in sorted(named)]
    found = {each.segment.key: each.kind for each in differences(there, segments)}
    assert found == {
        key(number): "altered" if number in listed else "missing"
        for number in named
        if listed.get(number) != "same"
    }


@given(st.integers(1, 60), st.integers(0, 10), st.binary(min_size=1, max_size=8))
def test_a_sample_depends_on_the_seed_alone(count: int, size: int, seed: bytes) -> None:
    segments = tuple(
        Segment(segment_key("shop", "b-1", number), 1, 1, "ab" * 32) for number in range(count)
    )
    manifest = Manifest(
        "acme", "shop", "b-1", "postgresql", NOW, "", NOW + timedelta(1), 1, "", "", "", (),
        (Artifact("fingerprint", segments),), "",
    )  # fmt: skip
    wrong = {segment.key for segment in segments[:size]}
    first = list(drawable(manifest, wrong, seed.hex()))
    assert first == list(drawable(manifest, wrong, seed.hex()))
    assert {each.segment.key for each in first} == {s.key for s in segments} - wrong
    ranks = {each.rank for each in first}
    assert len(ranks) == len(first)
    other = {each.rank for each in drawable(manifest, wrong, seed.hex() + "0")}
    assert not ranks & other


@given(st.integers(0, 3 * NAMED), st.sampled_from(sorted(BROKEN)))
def test_many_alike_are_counted_and_lose_no_byte(count: int, kind: str) -> None:
    tally = Tally()
    for number in range(count):
        tally.add(kind, segment_key("shop", "b-1", number), "words", 7)
    found = tally.findings()
    assert len(found) == min(count, NAMED) + (count > NAMED)
    assert sum(finding.bytes for finding in found) == 7 * count


@given(st.text())
def test_any_key_can_be_printed_and_is_foreign_unless_ours(key: str) -> None:
    assert printable(key).isascii()
    assert len(printable(key)) <= 300
    assert not any(ord(sign) < 32 for sign in printable(key))
    assume(not key.startswith(("v1/enrolment/", "v1/reports/", "v1/audit/")))
    assert is_foreign(key)
    assert not any(map(is_foreign, KEPT))
