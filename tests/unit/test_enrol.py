"""Enrolment's own reasoning, on stores in memory: what counts as what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import ConfigError, ObjectLocked, StoreDenied, StoreUnavailable
from backups.fleet.places import refuse_trespass
from backups.model import Look
from backups.ports import ObjectStore
from backups.run import enrol
from providers.contract import CHECKS, Check, Trial
from providers.faults import Fault, Faulty
from providers.memory import MemoryStore
from providers.posture.proof import put_command
from providers.roles import RoleBound
from providers.urls import parse_store_url

CLOCK = SystemClock()
ROOT = "v1/enrolment/check-0/"


def silent(*_: object) -> None:
    pass


def together(inner: ObjectStore) -> enrol.ByRole:
    return enrol.ByRole(
        RoleBound(inner, "writer"), RoleBound(inner, "restorer"), RoleBound(inner, "pruner")
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_three_bounded_roles_are_one_store_together(check: Check) -> None:
    check.run(Trial(together(MemoryStore(CLOCK)), CLOCK, ROOT, sizes=(0, 1, 70_000)))


# --- how trying goes ------------------------------------------------------------------


def raising(error: Exception) -> enrol.Judge:
    def judge() -> enrol.Judged:
        raise error

    return judge


def well() -> enrol.Judged:
    return "passed", "well"


def test_what_raises_has_failed_and_the_next_ones_go_on() -> None:
    judges = {
        "a": raising(AssertionError("not equal")),
        "b": raising(StoreDenied("no", hint="Ask for it.")),
        "c": lambda: ("unproven", "dark"),
        "d": well,
    }
    assert list(enrol.examine(well, judges, silent)) == [
        Look("reachable", "passed", "well"),
        Look("a", "failed", "not equal"),
        Look("b", "failed", "no; Ask for it."),
        Look("c", "unproven", "dark"),
        Look("d", "passed", "well"),
    ]


def test_a_store_out_of_reach_is_asked_nothing_more() -> None:
    asked: list[int] = []
    judges: dict[str, enrol.Judge] = {"a": lambda: asked.append(1) or well()}
    first, second = enrol.examine(raising(StoreUnavailable("gone")), judges, silent)
    assert (first.outcome, second.outcome, asked) == ("failed", "unproven", [])


def test_a_fault_of_our_own_is_not_a_finding() -> None:
    with pytest.raises(ZeroDivisionError):
        list(enrol.examine(raising(ZeroDivisionError()), {}, silent))


# --- what is tried --------------------------------------------------------------------


def test_ownership_is_an_object_that_only_the_owner_was_told() -> None:
    store = MemoryStore(CLOCK)
    assert enrol.owned(store, "v1/enrolment/a", "touch it") == (
        "failed",
        "nobody has proven to own this store; its owner runs: touch it",
    )
    store.put("v1/enrolment/a", b"")
    assert enrol.owned(store, "v1/enrolment/a", "touch it")[0] == "passed"


@pytest.mark.parametrize(("shared", "outcome"), [(True, "warning"), (False, "failed")])
def test_roles_that_may_everything_are_found_out(shared: bool, outcome: str) -> None:
    inner = MemoryStore(CLOCK)
    bare = dict.fromkeys(("writer", "restorer", "pruner"), inner)
    found, words = enrol.writer_rights(bare, together(inner), ROOT, shared=shared)
    assert (found, "read and list and delete" in words) == (outcome, True)
    found, words = enrol.restorer_rights(bare, together(inner), ROOT, shared=shared)
    assert (found, "write and delete" in words) == (outcome, True)
    assert list(inner.list("")) == []


def test_a_restorer_that_is_refused_has_the_right_rights() -> None:
    inner = MemoryStore(CLOCK)
    bare: dict[str, ObjectStore] = {"restorer": RoleBound(inner, "restorer")}
    assert enrol.restorer_rights(bare, together(inner), ROOT, shared=False)[0] == "passed"
    assert list(inner.list("")) == []


@dataclass
class Slow(SystemClock):
    """Each look at it is so many seconds after the one before."""

    step: float
    seen: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def monotonic(self) -> float:
        return next(self.seen) * self.step


@pytest.mark.parametrize(
    ("step", "distant", "slow"), [(0.02, "passed", "passed"), (9.0, "warning", "warning")]
)
def test_how_far_and_how_fast(step: float, distant: str, slow: str) -> None:
    store = MemoryStore(CLOCK)
    assert enrol.latency(store, Slow(step), ROOT)[0] == distant
    outcome, words = enrol.throughput(store, Slow(step), ROOT)
    assert (outcome, f"{8 / step:.1f} MiB/s there" in words) == (slow, True)
    assert list(store.list("")) == []


def test_bytes_that_come_back_changed_are_no_throughput() -> None:
    store = Faulty(MemoryStore(CLOCK), [Fault("open", "flip", at=3)])
    assert enrol.throughput(store, CLOCK, ROOT)[0] == "failed"
    store.assert_all_fired()


@dataclass(frozen=True)
class Early(SystemClock):
    """Two hours ago."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=2)


def test_what_a_check_that_died_left_is_removed_and_a_living_one_is_not_disturbed() -> None:
    store: Any = MemoryStore(Early())
    store.put("v1/enrolment/check-dead/x", b"")
    store.put("v1/enrolment/nonce", b"")
    store._clock = CLOCK
    store.put("v1/enrolment/check-living/x", b"")
    store.put(f"{ROOT}x", b"")
    assert enrol.tidy(store, CLOCK, ROOT) == ("passed", "nothing was left behind")
    assert [info.key for info in store.list("")] == [
        "v1/enrolment/check-living/x",
        "v1/enrolment/nonce",
    ]


def test_what_a_lock_holds_is_said() -> None:
    store = Faulty(
        MemoryStore(CLOCK), [Fault("delete", "fail_before", error=ObjectLocked("held"))]
    )
    store.put(f"{ROOT}retention/key", b"")
    outcome, words = enrol.tidy(store, CLOCK, ROOT)
    assert (outcome, "1 empty" in words) == ("passed", True)


def test_each_examination_has_a_place_of_its_own() -> None:
    places = {enrol.scratch(SystemEntropy()) for _ in range(50)}
    assert len(places) == 50
    assert all(place.startswith("v1/enrolment/check-") for place in places)


# --- commands and places --------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "command"),
    [
        (
            "s3://bucket/pre?region=eu-west-1&endpoint=http://h:1",
            "aws s3api put-object --bucket bucket --key pre/v1/enrolment/n "
            "--if-none-match '*' --region eu-west-1 --endpoint-url http://h:1",
        ),
        (
            "gs://bucket/it's",
            "gcloud storage cp --if-generation-match=0 /dev/null "
            "'gs://bucket/it'\"'\"'s/v1/enrolment/n'",
        ),
        (
            "az://account/container",
            "az storage blob upload --account-name account --container-name container "
            "--name v1/enrolment/n --data '' --auth-mode login",
        ),
        (
            "file:///srv/a%20b",
            "mkdir -p '/srv/a b/v1/enrolment' && touch '/srv/a b/v1/enrolment/n'",
        ),
    ],
)
def test_the_command_that_proves_ownership(url: str, command: str) -> None:
    assert put_command(parse_store_url(url), "v1/enrolment/n") == command


@pytest.mark.parametrize(
    ("declared", "known", "refused"),
    [
        ([("a", "s3://bucket/x")], [("b", "s3://bucket/y")], False),
        ([("a", "s3://bucket/x")], [("a", "s3://bucket/x")], False),
        ([("a", "s3://bucket/x")], [("b", "s3://bucket/x?region=eu-west-1")], True),
        ([("a", "s3://bucket/x")], [("b", "s3://bucket")], True),
        ([("a", "s3://bucket")], [("b", "s3://bucket/x/y")], True),
        ([("a", "s3://bucket/x")], [("b", "s3://bucket/xy")], False),
        ([("a", "s3://bucket/x")], [("b", "s3://bucket/x?endpoint=http://h:1")], False),
        ([("a", "s3://bucket/x"), ("b", "s3://bucket/x")], [], True),
        # What was wrong before does not stand in the way of others.
        ([("c", "gs://other")], [("a", "s3://bucket"), ("b", "s3://bucket")], False),
        ([], [("a", "s3://bucket"), ("b", "s3://bucket")], False),
    ],
)
def test_no_place_serves_two(
    declared: list[tuple[str, str]], known: list[tuple[str, str]], refused: bool
) -> None:
    asked = [
        [(customer, parse_store_url(url)) for customer, url in claims]
        for claims in (declared, known)
    ]
    if not refused:
        return refuse_trespass(*asked)
    with pytest.raises(ConfigError, match=r"of [ab] lies in .*, which is [ab]'s"):
        refuse_trespass(*asked)
