"""The table of checks that people read is the one that decides."""

from __future__ import annotations

from pathlib import Path

from verify.ladder import CHECKS, PROMISES

README = Path(__file__).parents[2] / "verify" / "README.md"


def test_every_check_is_in_the_table() -> None:
    rows = [
        f"| {rung.level} | {name}{' (promise)' if name in PROMISES else ''} | {rung.words} |"
        for name, rung in CHECKS.items()
    ]
    table = README.read_text().partition("| level | check | |\n|---|---|---|\n")[2]
    assert table.splitlines()[: len(rows)] == rows
