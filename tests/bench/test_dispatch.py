"""The benchmark of handing out in a small form: more workers get through more."""

from __future__ import annotations

import dispatch
import pytest


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_two_workers_get_through_more_than_one(
    pg15_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = dispatch.run_all(pg15_url, 300, [1, 2], 64)
    with capsys.disabled():
        print(f"\n{dispatch.table(rows)}")
    one, two = rows
    assert two.per_second > 1.3 * one.per_second
