"""One contract for the queue of one process and the queue of many machines."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import get_args
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from schedule_kit import FakeClock

from backups.errors import CatalogError
from backups.model import Secret
from backups.ports import Job, Lane, Queue
from backups.queue.embedded import EmbeddedQueue
from backups.queue.shared import SharedQueue

A, B, C = (Job(name, "backup") for name in "abc")
RESTORE = Job("restore", "restore", 300)
DRILL = Job("drill", "drill", 100)
LANES = get_args(Lane)


@dataclass
class Kind:
    """How to open one more queue on the same jobs; `lost_after` seconds, or at once."""

    open: Callable[[float], Queue]


@pytest.fixture(params=["embedded", pytest.param("shared", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    opened: list[Queue] = []
    if request.param == "embedded":
        only = EmbeddedQueue(FakeClock(), 60)

        def again(lost_after: float) -> Queue:
            only._lost_after = lost_after
            return only

        yield Kind(again)
        return
    url = request.getfixturevalue("make_database")(request.getfixturevalue("pg15_url"))

    def one_more(lost_after: float) -> Queue:
        opened.append(SharedQueue(Secret(url), lost_after))
        return opened[-1]

    yield Kind(one_more)
    for queue in opened:
        queue.close()
        queue.close()


@pytest.fixture
def queue(kind: Kind) -> Queue:
    return kind.open(60)


def test_what_is_put_is_taken_once_and_done(queue: Queue) -> None:
    with queue.seat() as one, queue.seat() as other:
        assert one.take(LANES) is None
        assert queue.put([A, B]) == [A, B]
        assert queue.open() == {"a": "waiting", "b": "waiting"}
        assert one.take(LANES) == A
        assert other.take(LANES) == B
        assert one.take(LANES) is None
        assert queue.open() == {"a": "running", "b": "running"}
        assert one.done("a")
        assert not one.done("a")
        assert not one.done("b")  # the other's
        assert other.done("b")
        assert queue.open() == {}


def test_a_name_is_open_once(queue: Queue) -> None:
    with queue.seat() as seat:
        assert queue.put([A]) == [A]
        assert queue.put([A, B, B]) in ([B], [B, B][:1])
        assert seat.take(LANES) == A
        assert queue.put([A]) == []
        seat.done("a")
        assert queue.put([A]) == [A]


def test_by_priority_then_by_age(queue: Queue) -> None:
    with queue.seat() as seat:
        queue.put([A, B, DRILL, RESTORE])
        taken = [job.name for _ in range(4) if (job := seat.take(LANES))]
    assert taken == ["restore", "drill", "a", "b"]


def test_only_of_the_lanes_that_have_room(queue: Queue) -> None:
    with queue.seat() as seat:
        queue.put([RESTORE, A])
        assert seat.take(["backup"]) == A
        assert seat.take(["backup", "prune"]) is None
        assert seat.take(["drill", "restore"]) == RESTORE


def test_of_one_lock_one_runs(queue: Queue) -> None:
    first, second = (Job(name, "backup", lock="db.internal/0") for name in "ab")
    with queue.seat() as one, queue.seat() as other:
        queue.put([first, second, C])
        assert one.take(LANES) == first
        assert other.take(LANES) == C
        assert other.take(LANES) is None
        one.done("a")
        assert other.take(LANES) == second


def test_what_waits_is_cancelled_and_what_runs_is_told(queue: Queue) -> None:
    with queue.seat() as seat:
        queue.put([A, B])
        assert seat.take(LANES) == A
        assert queue.cancel("b")
        assert not queue.cancel("b")
        assert not queue.cancel("nothing")
        assert queue.open() == {"a": "running"}
        assert seat.beat().cancelled == frozenset()
        assert queue.cancel("a")
        assert seat.beat().cancelled == {"a"}
        assert seat.done("a")
        assert queue.open() == {}


def test_who_is_not_heard_of_loses_its_jobs(kind: Kind) -> None:
    queue, hasty = kind.open(60), kind.open(0)
    with queue.seat() as frozen, queue.seat() as other:
        queue.put([A, B])
        assert frozen.take(LANES) == A
        assert hasty.reap() == ["a"]
        kind.open(60)
        assert queue.open() == {"a": "waiting", "b": "waiting"}
        assert {job.name for _ in range(2) if (job := other.take(LANES))} == {"a", "b"}
        # It wakes up: told so, it ends its own, and it can't end the other's.
        assert frozen.beat().lost == {"a"}
        assert frozen.beat().lost == frozenset()
        assert not frozen.done("a")
        assert queue.open() == {"a": "running", "b": "running"}
        assert other.beat().lost == frozenset()
        assert other.done("a")
        # And goes on to work, as if it were new.
        queue.put([C])
        assert frozen.take(LANES) == C
        assert frozen.beat().lost == frozenset()
        assert frozen.done("c")


def test_who_wakes_before_it_is_told_can_end_nobody_elses(kind: Kind) -> None:
    queue = kind.open(60)
    with queue.seat() as frozen, queue.seat() as other:
        queue.put([A])
        frozen.take(LANES)
        kind.open(0).reap()
        kind.open(60)
        assert other.take(LANES) == A
        assert not frozen.done("a")
        assert queue.open() == {"a": "running"}
        assert other.done("a")


def test_who_lives_keeps_them(queue: Queue) -> None:
    with queue.seat() as seat:
        queue.put([A])
        seat.take(LANES)
        seat.beat()
        assert queue.reap() == []
        assert queue.open() == {"a": "running"}


def test_who_leaves_puts_back_and_what_was_cancelled_is_over(queue: Queue) -> None:
    with queue.seat() as seat:
        queue.put([A, B])
        seat.take(LANES)
        seat.take(LANES)
        queue.cancel("b")
    assert queue.open() == {"a": "waiting"}


def test_a_lost_one_that_was_cancelled_does_not_come_back(kind: Kind) -> None:
    queue = kind.open(60)
    with queue.seat() as seat:
        queue.put([A])
        seat.take(LANES)
        queue.cancel("a")
        assert kind.open(0).reap() == ["a"]
        assert queue.open() == {}


def test_a_reaped_job_keeps_its_rank(kind: Kind) -> None:
    queue = kind.open(60)
    with queue.seat() as one, queue.seat() as other:
        locked = Job("a", "backup", 7, "db/0")
        queue.put([locked])
        one.take(LANES)
        kind.open(0).reap()
        kind.open(60)
        assert other.take(LANES) == locked


# --- of the shared one alone ----------------------------------------------------------


@pytest.mark.postgres
def test_a_put_wakes_other_machines(kind: Kind, request: pytest.FixtureRequest) -> None:
    queue = kind.open(60)
    if isinstance(queue, EmbeddedQueue):
        with queue.seat() as seat:
            assert seat.wakes == -1  # who puts is who takes
            seat.heard()
        return
    with queue.seat() as seat:
        for number in range(100):  # until its ear is at the door
            kind.open(60).put([Job(f"{number}", "backup")])
            if select.select([seat.wakes], [], [], 0.1)[0]:
                break
        seat.heard()
        assert not select.select([seat.wakes], [], [], 0.3)[0]


@pytest.mark.postgres
def test_cut_off_it_says_so_and_comes_back(
    pg15_url: str, make_database: Callable[..., str]
) -> None:
    url = make_database(pg15_url)
    parts = urlsplit(url)
    server = make_conninfo(**dict(parse_qsl(parts.query)), user="postgres", dbname="postgres")
    with closing(SharedQueue(Secret(url), 60)) as queue, queue.seat() as seat:
        queue.put([A])
        assert seat.take(LANES) == A
        with psycopg.connect(server, autocommit=True) as admin:
            name = parts.path.strip("/")
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')  # type: ignore[arg-type]
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [name],
            )
            with pytest.raises(CatalogError):
                seat.beat()
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # type: ignore[arg-type]
        for _ in range(20):
            try:
                assert seat.beat().lost == frozenset()
                break
            except CatalogError:
                continue
        assert seat.done("a")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(CatalogError, match="can't be opened"):
        SharedQueue(Secret("postgresql://nobody@127.0.0.1:1/none"), 60)
