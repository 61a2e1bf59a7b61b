"""The contract, on a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.clock import SystemClock
from providers.contract import CHECKS, Check, Trial
from providers.local import LocalStore


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    yield Trial(LocalStore(tmp_path), SystemClock(), "contract/")
    leftovers = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert leftovers == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_contract(check: Check, trial: Trial) -> None:
    check.run(trial)
