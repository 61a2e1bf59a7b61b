"""I1: a process killed at any step of the write path leaves a whole backup or none.

Every writing call that a run makes to its store and its catalog is a step. For each, a forked
child takes a backup and kills itself with SIGKILL before the call, then one after it. Then
the bucket is looked at, and the next run must put everything right.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Place  # type: ignore[attr-defined]

STEPS = {"put", "start_run", "prepare_run", "commit_run", "end_run"}
pytestmark = pytest.mark.postgres


@dataclass
class Fatal:
    """A port that kills its process at one of its writing calls; `steps` is shared."""

    port: Any
    steps: list[str]
    die_at: int | None = None
    after: bool = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)
        if name not in STEPS:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            mine = len(self.steps)
            self.steps.append(name)
            if mine == self.die_at and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = method(*args, **kwargs)
            if mine == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def steps_of(place: Place, die_at: int | None = None, after: bool = False) -> list[str]:
    steps: list[str] = []
    place.run(
        store=lambda port: Fatal(port, steps, die_at, after),
        catalog=lambda port: Fatal(port, steps, die_at, after),
    )
    return steps


def run_and_die(place: Place, step: int, after: bool) -> None:
    child = os.fork()
    if child == 0:
        try:
            steps_of(place, step, after)
        finally:
            os._exit(3)  # it lived: the parent sees that no signal ended it
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"step {step} was never reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["new_folder", "new_prefix"])
def test_killed_at_every_step(
    new_place: Callable[..., Place], kind: str, request: pytest.FixtureRequest
) -> None:
    new_store = request.getfixturevalue(kind)
    steps = steps_of(new_place(new_store))
    assert steps.count("put") >= 5
    for step, name in enumerate(steps):
        for after in (False, True):
            where = f"killed {'after' if after else 'before'} step {step}, {name}"
            place = new_place(new_store)
            run_and_die(place, step, after)
            left = place.whole_backups()
            assert place.listed() <= left, f"{where}: listed, but no manifest"
            prepared = place.prepared()
            place.run()
            listed = place.listed()
            assert place.unfinished() == 0, where
            assert listed == place.whole_backups(), f"{where}: catalog and store disagree"
            assert listed >= left, f"{where}: a whole backup is not listed"
            # A prepared run is carried through, and the new one stands beside it.
            assert len(listed) == 1 + (prepared or bool(left)), where
