"""Two sides of a table merged by key, against sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backups.engines.postgres.changes import merged
from backups.replacing import SAMPLE, Changes

SIDE = st.dictionaries(st.text(max_size=3), st.sampled_from("ab"), max_size=12)


def by_bytes(side: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(side.items(), key=lambda item: item[0].encode("utf-8", "surrogatepass"))


@given(SIDE, SIDE)
def test_all_that_comes_goes_and_changes_is_counted(
    now: dict[str, str], then: dict[str, str]
) -> None:
    found = merged(Changes("public", "t"), iter(by_bytes(now)), iter(by_bytes(then)))
    both = now.keys() & then.keys()
    changed = {key for key in both if now[key] != then[key]}
    assert (found.comes, found.goes, found.changes) == (
        len(then.keys() - both), len(now.keys() - both), len(changed),
    )  # fmt: skip
    for keys, all_ in zip(
        found.keys, (then.keys() - both, now.keys() - both, changed), strict=True
    ):
        assert set(keys) <= all_
        assert len(keys) == min(SAMPLE, len(all_))
