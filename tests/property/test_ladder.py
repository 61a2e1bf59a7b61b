"""The ladder: only what was checked and passed counts, whatever else is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.proving import Check
from verify.ladder import CHECKS, ENVIRONMENT, PROMISES, REQUIRED, level, verdict

outcomes = st.sampled_from([True, False, None])
checks = st.lists(
    st.builds(Check, st.sampled_from(sorted(CHECKS)), outcomes, st.just("e"), st.just("a"))
)


def all_well() -> list[Check]:
    return [Check(name, True, "e", "a") for name in CHECKS]


def test_all_well_is_passed_at_the_top() -> None:
    assert verdict(all_well()) == ("PASSED", "")
    assert level(all_well()) == 15


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_what_was_not_checked_is_not_passed(missing: str) -> None:
    found, why = verdict([check for check in all_well() if check.name != missing])
    assert found == "INCONCLUSIVE"
    assert missing in why


@pytest.mark.parametrize("name", sorted(set(CHECKS) - PROMISES))
@pytest.mark.parametrize("outcome", [False, None])
def test_one_check_decides(name: str, outcome: bool | None) -> None:
    found, why = verdict([*all_well(), Check(name, outcome, "this", "that", "orders")])
    wanted = "INCONCLUSIVE"
    if outcome is False:
        wanted = "ENVIRONMENT" if name in ENVIRONMENT else "FAILED"
    assert found == wanted
    assert "orders: expected this, found that" in why


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_a_missed_promise_is_told_and_takes_levels_away(name: str) -> None:
    with_it = [c for c in all_well() if c.name != name] + [Check(name, False, "this", "that")]
    found, why = verdict(with_it)
    assert (found, name in why) == ("PASSED", True)
    assert level(with_it) != 15 or not CHECKS[name].level


@given(checks)
def test_no_lucky_order(found: list[Check]) -> None:
    assert verdict(found)[0] == verdict(found[::-1])[0]
    assert level(found) == level(found[::-1])


@given(checks)
def test_passed_needs_every_required_check(found: list[Check]) -> None:
    passed = {check.name for check in found if check.passed}
    if verdict(found)[0] == "PASSED":
        assert passed >= REQUIRED
        assert all(check.passed for check in found if check.name not in PROMISES)


@given(checks, st.sampled_from(sorted(CHECKS)))
def test_a_failure_never_raises_the_level(found: list[Check], name: str) -> None:
    worse = level([*found, Check(name, False, "e", "a")])
    assert (worse or 0) <= (level(found) or 0)
    if CHECKS[name].level:
        assert (worse or 0) < CHECKS[name].level
