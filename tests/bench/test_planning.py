"""The benchmark of planning in a small form: it runs, and neither time nor memory grows faster
than the fleet."""

from __future__ import annotations

import planning
import pytest


@pytest.mark.timeout(300)
def test_planning_grows_with_the_fleet_and_no_faster(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = planning.run_all([1_000, 10_000])
    with capsys.disabled():
        print(f"\n{planning.table(rows)}")
    small, large = rows
    assert large.peak_mib < 20 * max(small.peak_mib, 2)
    assert large.plan_s + large.day_s < 30 * (small.plan_s + small.day_s)
