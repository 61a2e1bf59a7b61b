"""The benchmark in a small form: it runs, and memory and files keep within their bounds.

At this size the start of processes outweighs the data, so times are shown, not judged.
"""

from __future__ import annotations

import data_path
import pytest

MIB_SMALL = 256


@pytest.mark.timeout(900)
def test_backup_and_restore_stay_within_bounds(
    pg15_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with data_path.prepared(pg15_url, MIB_SMALL) as bench:
        rows = list(data_path.run_all(bench, rounds=1, slow=True))
    with capsys.disabled():
        print(f"\n{MIB_SMALL} MiB:\n{data_path.table(rows)}")
        print(data_path.share(rows), data_path.told(rows), sep="\n")
        for what, found, most in data_path.verdicts(rows):
            print(f"{what}: {found:.3g} (at full size at most {most:g})")
    ours = [row for row in rows if row.what == data_path.OURS]
    assert {row.job for row in ours} == {"backup", "restore"}
    for row in ours:
        assert row.cost.peak_mib < data_path.PEAKS[row.job]
        assert row.cost.file_mib < MIB_SMALL / 16, "no temporary file of the dump's size"
