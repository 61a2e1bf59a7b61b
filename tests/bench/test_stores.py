"""The benchmark of stores in a small form: it runs, and memory keeps within its bound.

At this size the first request outweighs the data, so speed is shown, not judged.
"""

from __future__ import annotations

import pytest
import stores

MIB_SMALL = 64


@pytest.mark.timeout(300)
def test_memory_stays_within_its_bound(
    s3_endpoint: str, gcs_endpoint: str, azure_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(stores.run_all(list(stores.CALLS), MIB_SMALL, segment_mib=16, rounds=1))
    with capsys.disabled():
        print(f"\n{MIB_SMALL} MiB:\n{stores.table(rows)}")
    ours = [row for row in rows if row.what == stores.OURS]
    assert len(ours) == 2 * len(stores.CALLS)
    for row in ours:
        assert row.peak_mib < stores.PEAK
