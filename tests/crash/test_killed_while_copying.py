"""A process killed at any step of copying leaves a whole copy or none, and the next try takes
over what arrived."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups import keys, wiring
from backups.model import Destination
from backups.run.copies import copy
from backups.run.restore import check
from providers.faults import Fault, Faulty

if TYPE_CHECKING:
    from conftest import Place  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def copy_it(place: Place, target: Destination, *faults: Fault) -> None:
    with wiring.opened(place.home) as app:
        (entry,) = app.catalog.backups()
        first = wiring.places(app, entry)[0]
        with wiring.copy_ports(app, entry, first, target) as (manifest, ports):
            faulty = Faulty(ports.target, faults)
            copy(replace(ports, target=faulty), manifest, target.url, silent)
            faulty.assert_all_fired()


def killed(place: Place, target: Destination, fault: Fault) -> bool:
    """Whether the fault was reached: a child copies, and the fault kills it."""
    child = os.fork()
    if child == 0:
        try:
            copy_it(place, target, fault)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def copies(place: Place) -> list[str]:
    """Where the catalog says that copies lie; each is read to its end."""
    with wiring.opened(place.home) as app:
        (entry,) = app.catalog.backups()
        found = app.catalog.copies(entry.id)
        identities = keys.load_identities(app.home.restore_identity)
        for each in found:
            with wiring.place_of(app, entry, each) as store:
                manifest = wiring.manifest_of(app, store, entry, each)
                check(wiring.restore_ports(store, manifest, identities), manifest, silent)
        return [each.store_url for each in found]


def test_killed_at_every_put(
    new_place: Callable[..., Place], new_folder: Callable[[int], str], tmp_path: Path
) -> None:
    place = new_place(new_folder)
    place.run()
    step = 0
    while True:
        step += 1
        for action in ("kill_before", "kill_after"):
            folder = tmp_path / f"copy-{step}-{action}"
            folder.mkdir()
            target = Destination(f"file://{folder}")
            if not killed(place, target, Fault("put", action, nth=step)):
                assert step > 5, "the copy had too few steps to prove anything"
                return
            manifests = list(folder.rglob("manifest.dsse.json"))
            assert target.url not in copies(place)
            copy_it(place, target)
            assert target.url in copies(place)
            if manifests:  # the last step: put by the one that was killed, and left alone
                assert action == "kill_after"
