"""What starts first when more is due than may run."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backups.schedule.choose import LAST_CALL, Item, Limits, choose

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def item(
    database: str,
    customer: str = "acme",
    source: str = "",
    bucket: str = "",
    slot: float = -1.0,
    ends: float = 20.0,
) -> Item:
    return Item(
        database, customer, source or database, bucket or customer,
        NOW + slot * HOUR, NOW + ends * HOUR,
    )  # fmt: skip


def names(
    waiting: list[Item],
    limits: Limits,
    running: tuple[Item, ...] = (),
    served: dict[str, datetime] | None = None,
) -> list[str]:
    return [each.database for each in choose(waiting, running, limits, served or {}, NOW)]


def test_newest_slot_first() -> None:
    waiting = [item("old", slot=-9), item("new", slot=-0.1), item("mid", slot=-3)]
    assert names(waiting, Limits(2, 9, 9)) == ["new", "mid"]


def test_what_would_miss_its_day_goes_before_all() -> None:
    edge = LAST_CALL / HOUR
    waiting = [item("new", slot=-0.1), item("last", slot=-9, ends=edge)]
    waiting.append(item("very-last", slot=-9, ends=edge / 2))
    assert names(waiting, Limits(3, 9, 9)) == ["very-last", "last", "new"]


def test_customers_take_turns() -> None:
    waiting = [item(f"big-{n}", "big") for n in range(5)]
    waiting += [item("small-0", "small"), item("tiny-0", "tiny")]
    first = names(waiting, Limits(4, 9, 9), served={"tiny": NOW - HOUR})
    assert first == ["big-0", "small-0", "tiny-0", "big-1"]
    busy = (item("big-9", "big"),)
    assert names(waiting, Limits(3, 9, 9), busy) == ["small-0", "tiny-0"]


def test_a_server_and_a_bucket_are_spared() -> None:
    waiting = [item(f"db-{n}", f"c{n}", source="one") for n in range(4)]
    waiting += [item(f"x-{n}", f"d{n}", bucket="b") for n in range(4)]
    assert len(names(waiting, Limits(9, 1, 2))) == 3
    held = (item("r", "r", source="one", bucket="b"),)
    assert names(waiting, Limits(9, 1, 2), held) == ["x-0"]


items = st.builds(
    item,
    st.integers(0, 99).map(lambda n: f"db-{n}"),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["s", "t", "u"]),
    st.sampled_from(["x", "y"]),
    st.floats(-20, 0),
    st.floats(0.1, 24),
)


@given(
    st.lists(items, max_size=30, unique_by=lambda one: one.database),
    st.integers(0, 6),
    st.builds(Limits, st.integers(1, 8), st.integers(1, 3), st.integers(1, 4)),
)
def test_limits_hold_and_no_place_stays_empty(
    all_: list[Item], count: int, limits: Limits
) -> None:
    running: list[Item] = []
    for one in all_[:count]:
        running += choose([one], running, limits, {}, NOW)
    waiting = [one for one in all_ if one not in running]
    chosen = choose(waiting, running, limits, {}, NOW)
    after = running + chosen
    assert len(set(after)) == len(after) <= limits.total
    sources = Counter(one.source for one in after)
    buckets = Counter(one.bucket for one in after)
    assert max(sources.values(), default=0) <= limits.per_source
    assert max(buckets.values(), default=0) <= limits.per_bucket
    for one in waiting:
        if one not in chosen and len(after) < limits.total:
            assert (
                sources[one.source] == limits.per_source
                or buckets[one.bucket] == limits.per_bucket
            )
