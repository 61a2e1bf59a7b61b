"""The contract, in memory, bare and under every decorator."""

from __future__ import annotations

import pytest

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.ports import ObjectStore
from providers.contract import CHECKS, Check, Trial
from providers.faults import Faulty
from providers.memory import MemoryStore
from providers.observe import Observed
from providers.retry import Pace, Retrying
from providers.roles import RoleBound

CLOCK = SystemClock()


def bare() -> ObjectStore:
    return MemoryStore(CLOCK)


def decorated() -> ObjectStore:
    store: ObjectStore = Faulty(MemoryStore(CLOCK), ())
    store = Observed(store, CLOCK, lambda _: None)
    store = Retrying(store, CLOCK, SystemEntropy(), Pace(attempts=2, first=0.001))
    return RoleBound(store, "pruner")


@pytest.mark.parametrize("make", [bare, decorated])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_contract(check: Check, make: object) -> None:
    assert callable(make)
    check.run(Trial(make(), CLOCK, "contract/"))
