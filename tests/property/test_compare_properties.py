"""Each kind of difference stands under its own check, and under no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.format.fingerprint import differences
from backups.model import Fingerprint, ObjectDigest, SequenceValue, TableContent
from backups.proving import Check
from verify import ladder
from verify.compare import NAMED, compare

ONE = Fingerprint(
    engine="postgresql",
    server_version="16.1",
    settings={"encoding": "UTF8"},
    extensions={"citext": "1.6"},
    roles=("app",),
    objects=(ObjectDigest("TABLE", "public", "t", "d1"), ObjectDigest("ACL", "", "t", "d2")),
    tables=(
        TableContent("public", "t", ("a",), 3, "0" * 16),
        TableContent("public", "u", ("a",), 5, "1" * 16),
    ),
    sequences=(SequenceValue("public", "s", 7, True),),
    large_objects=TableContent("", "", (), 2, "2" * 16),
    not_compared=("view v",),
)
T, U = ONE.tables
CHANGES = {
    "environment: an extension": {"extensions": {"citext": "1.7"}},
    "environment: a setting": {"settings": {"encoding": "LATIN1"}},
    "environment: a role": {"roles": ()},
    "structure: the engine": {"engine": "sqlite"},
    "structure: a definition": {"objects": ONE.objects[:1]},
    "structure: a table": {"tables": (T,)},
    "structure: a column": {"tables": (replace(T, columns=("a", "b")), U)},
    "rows: one less": {"tables": (replace(T, rows=2, content="3" * 16), U)},
    "content: another": {"tables": (replace(T, content="3" * 16), U)},
    "sequences: behind": {"sequences": (SequenceValue("public", "s", 6, True),)},
    "large objects: less": {"large_objects": None},
    "large objects: other": {"large_objects": replace(T, schema="", name="", rows=2)},
}
NAMES = ["environment", "structure", "rows", "content", "sequences", "large objects"]


def names(checks: list[Check]) -> list[str]:
    return list(dict.fromkeys(check.name for check in checks))


def test_what_is_equal_passes_with_what_was_counted() -> None:
    checks = list(compare(ONE, replace(ONE, server_version="16.9")))
    assert names(checks) == NAMES
    assert all(check.passed and check.expected == check.actual for check in checks)
    told = {check.name: check.actual for check in checks}
    assert told["rows"] == "8 rows in 2 tables"
    assert told["content"] == "content of 2 tables; not compared: view v"
    assert set(NAMES) <= set(ladder.CHECKS)


@pytest.mark.parametrize("kind", CHANGES)
def test_each_difference_is_under_its_own_check(kind: str) -> None:
    other = replace(ONE, **CHANGES[kind])  # type: ignore[arg-type]
    checks = list(compare(ONE, other))
    assert names(checks) == NAMES
    (failed,) = {check.name for check in checks if not check.passed}
    assert failed == kind.partition(":")[0]
    assert all(c.subject and c.expected != c.actual for c in checks if not c.passed)


@given(st.sets(st.sampled_from(sorted(CHANGES)), max_size=4))
def test_differences_do_not_hide_each_other(kinds: set[str]) -> None:
    other = ONE
    for kind in sorted(kinds):
        other = replace(other, **CHANGES[kind])  # type: ignore[arg-type]
    checks = list(compare(ONE, other))
    assert names(checks) == NAMES
    assert sum(not check.passed for check in checks) == len(differences(ONE, other))
    for check in checks:
        assert (check.passed is True) == (check.expected == check.actual)


@given(st.integers(1, 3 * NAMED))
def test_many_are_counted(count: int) -> None:
    gone = tuple(SequenceValue("public", f"s{n}", 1, True) for n in range(count))
    checks = list(compare(replace(ONE, sequences=gone), replace(ONE, sequences=())))
    told = [check for check in checks if check.name == "sequences"]
    assert not any(check.passed for check in told)
    assert len(told) == min(count, NAMED + 1)
    if count > NAMED:
        assert told[-1].actual == f"{count - NAMED} more differences"
