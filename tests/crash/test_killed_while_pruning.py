"""A process killed at any call to a store leaves every listed backup whole, and the next calls
bring what was begun to its end."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from prune_kit import DAY, Shop

from backups.run.prune import prune
from backups.wiring.pruning import prune_ports
from providers.faults import Fault, Faulty, Method

STEPS: list[tuple[str, Method, str]] = [
    ("pruner", "put", "kill_before"),
    ("pruner", "put", "kill_after"),
    ("pruner", "delete", "kill_before"),
    ("pruner", "delete", "kill_after"),
    ("reader", "list", "kill_before"),
    ("reader", "open", "kill_before"),
]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """One backup is due, one may be marked; two stay."""
    place = tmp_path / "place"
    for name in ("one", "two"):
        (place / name).mkdir(parents=True)
    stores = (f"file://{place}/one", f"file://{place}/two")
    shop = Shop(place / "home", stores).start()
    (shop.home / "settings.yaml").write_text("prune_grace_days: 1\nprune_limit: 1\n")
    shop.daily(6, newest=5)
    shop.daily(0)
    assert not shop.prune().frozen
    shop.clock.time += DAY
    shop.take(shop.clock.now())
    return shop


def prune_once(shop: Shop, role: str = "", fault: Fault | None = None) -> None:
    with shop.opened() as app, prune_ports(app, "acme", "shop") as ports:
        first, *others = ports.shelves
        if fault is not None:
            first = replace(first, **{role: Faulty(getattr(first, role), [fault])})
        prune(replace(ports, shelves=(first, *others)))


def killed(shop: Shop, role: str, fault: Fault) -> bool:
    """Whether the fault was reached: a child prunes, and the fault kills it."""
    child = os.fork()
    if child == 0:
        try:
            prune_once(shop, role, fault)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(("role", "call", "action"), STEPS)
def test_killed_at_every_call(
    role: str, call: Method, action: str, shop: Shop, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(shop.home.parent, before)
    started = shop.clock.now()
    wanted = outcome(shop)
    reached = 0
    while True:
        shutil.rmtree(shop.home.parent)
        shutil.copytree(before, shop.home.parent)
        shop.clock.time = started
        fault = Fault(call, action, nth=reached + 1)  # type: ignore[arg-type]
        if not killed(shop, role, fault):
            break
        reached += 1
        shop.require_whole()
        assert outcome(shop) == wanted
        shop.require_whole()
    assert reached >= {"put": 1, "delete": 4, "list": 1, "open": 4}[call]


def outcome(shop: Shop) -> tuple[list[str], list[str]]:
    """What is listed, and what lies in the stores, once nothing is left to do."""
    for _ in range(3):
        prune_once(shop)
        shop.clock.time += DAY
    shop.require_whole()
    keys = sorted(key for keys in shop.there().values() for key in keys)
    assert {key.split("/")[2] for key in keys} == shop.listed()
    with shop.opened() as app:
        assert all(deletion.removed_at for deletion in app.ledger.deletions("shop"))
    return sorted(shop.listed()), keys
