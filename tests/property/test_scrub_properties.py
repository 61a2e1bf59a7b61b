"""Scrub reports what was planted and nothing else, and removes nothing that is named.

Whole stores are made up (scrub_kit): backups in every state, their segments right or damaged,
borrowed by later backups, old or young.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scrub_kit import NOW, STATES, UNBELIEVED, Planned, World

from backups import wiring
from backups.format.manifest import segment_key
from backups.model import Artifact, Manifest, ObjectInfo, Segment
from backups.run.scrub import BROKEN
from backups.run.scrubbing import NAMED, Tally, differences, drawable, is_foreign, printable

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""A store takes a tenth of a second to make up: the first example that fails must do."""
KEPT = [
    "v1/shop/b-1/holds/h-1.dsse.json",
    "v1/shop/b-1/holds/h-1.release.dsse.json",
    "v1/shop/b-1/tombstone.dsse.json",
    "v1/enrolment/0123abcd",
    "v1/reports/2026-11/acme.html",
    "v1/audit/2026-11-23.head",
]

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
