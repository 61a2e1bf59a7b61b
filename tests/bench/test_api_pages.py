"""The API's pages in a small form: they cost what they show, not what there is."""

from __future__ import annotations

import statistics

import api_pages
import pytest


@pytest.mark.timeout(300)
def test_pages_take_no_longer_when_there_is_more_to_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few, many = api_pages.measure(1_000, 5), api_pages.measure(10_000, 5)
    with capsys.disabled():
        print(f"\n{api_pages.table(many)}")
    slower = statistics.median(
        late.median_ms / early.median_ms for early, late in zip(few, many, strict=True)
    )
    print(f"ten times as many: {slower:.2f} of the time")
    assert slower < 3
