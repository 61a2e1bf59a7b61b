"""The benchmark of restore tests in a small form: it runs, memory keeps within its bound."""

from __future__ import annotations

import data_path
import pytest
import verification


@pytest.mark.timeout(900)
def test_a_restore_test_stays_within_bounds(
    pg15_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with data_path.prepared(pg15_url, 128) as bench:
        found = verification.measure(bench, 128)
    with capsys.disabled():
        print(f"\n128 MiB:\n{verification.told(found)}")
    assert found.drill.peak_mib < verification.MOST_PEAK
