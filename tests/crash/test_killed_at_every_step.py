"""I1: a process killed at any step of the write path leaves a whole backup or none.

Every writing call that a run makes to its store and its catalog is a step. For each, a forked
child takes a backup and kills itself with SIGKILL before the call, then one after it. Then
the bucket is looked at, and the next run must put everything right.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backups import keys, wiring
from backups.entropy import SystemEntropy
from backups.format import segment
from backups.format.age import Identity
from backups.model import Plan, Policy
from backups.run.backup import BackupPorts, back_up
from backups.run.reader import Found, list_manifests
from backups.run.restore import check
from backups.settings import Home

STEPS = {"put", "start_run", "prepare_run", "commit_run", "end_run"}
pytestmark = pytest.mark.postgres

MakeDatabase = Callable[..., str]


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@dataclass
class Fatal:
    """A port that kills its process at one of its writing calls; `steps` is shared."""

    port: Any
    steps: list[str]
    die_at: int | None
    after: bool

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


@dataclass
class Place:
    """A home, a store and a database, made anew for one killed run."""

    home: Path
    policy: Policy

    def run(self, die_at: int | None = None, after: bool = False) -> list[str]:
        steps: list[str] = []
        with wiring.opened(self.home) as app, wiring.backup_ports(app, self.policy) as ports:
            fatal: BackupPorts = replace(
                ports,
                store=Fatal(ports.store, steps, die_at, after),
                catalog=Fatal(ports.catalog, steps, die_at, after),
            )
            back_up(fatal, self.policy, wiring.source_of(self.policy), silent)
        return steps

    def run_and_die(self, step: int, after: bool) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.run(step, after)
            finally:
                os._exit(3)  # it lived: the test sees that no signal ended it
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"step {step} was never reached"
        assert os.WTERMSIG(status) == signal.SIGKILL

    def whole_backups(self) -> set[str]:
        """Ids of the backups whose manifest is in the store; each is read to its end."""
        home = Home.at(self.home)
        trusted = keys.load_verify_keys(home)
        with wiring.reading_store(self.policy.store_url) as store:
            found = list(list_manifests(store, trusted))
        manifests = [entry.manifest for entry in found if isinstance(entry, Found)]
        assert len(manifests) == len(found), found
        for manifest in manifests:
            with wiring.recovery(
                self.policy.store_url, home.restore_identity, lambda _, it=manifest: it
            ) as (_, ports):
                check(ports, manifest, silent)
        return {manifest.backup for manifest in manifests}

    def listed(self) -> set[str]:
        with wiring.opened(self.home) as app:
            assert not app.catalog.unfinished_runs("shop")
            return {backup.id for backup in app.catalog.backups()}


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[int], str]:
    def store(number: int) -> str:
        folder = tmp_path / f"store{number}"
        folder.mkdir()
        return f"file://{folder}"

    return store


@pytest.fixture
def new_prefix(bucket: str, s3_endpoint: str) -> Callable[[int], str]:
    return lambda number: f"s3://{bucket}/{number}?endpoint={s3_endpoint}"


@pytest.fixture(params=["new_folder", "new_prefix"])
def make_place(
    request: pytest.FixtureRequest, tmp_path: Path, pg15_url: str, make_database: MakeDatabase
) -> Callable[[], Place]:
    new_store: Callable[[int], str] = request.getfixturevalue(request.param)
    rows = "select g, repeat(md5(g::text), 9) from generate_series(1, 3000) g"
    url = make_database(pg15_url, sql=f"create table t as {rows}")
    customer = str(Identity.generate(SystemEntropy()).recipient)
    made: list[int] = []

    def make() -> Place:
        made.append(1)
        home = tmp_path / f"home{len(made)}"
        wiring.init(str(home))
        with wiring.opened(home) as app:
            policy = app.catalog.save_policy(
                Policy(
                    "acme", "shop", 0, Plan("pro", 30), "postgresql", url, None,
                    new_store(len(made)), (customer,),
                )
            )  # fmt: skip
        return Place(home, policy)

    return make


@pytest.mark.timeout(600)
def test_killed_at_every_step(
    make_place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "PLAIN_SIZE", 256 << 10)  # several segments, quickly
    steps = make_place().run()
    assert steps.count("put") >= 5
    for step, name in enumerate(steps):
        for after in (False, True):
            where = f"killed {'after' if after else 'before'} step {step}, {name}"
            place = make_place()
            place.run_and_die(step, after)
            left = place.whole_backups()
            with wiring.opened(place.home) as app:
                assert {backup.id for backup in app.catalog.backups()} <= left, where
                prepared = any(run.envelope for run in app.catalog.unfinished_runs("shop"))
            place.run()
            listed = place.listed()
            assert listed == place.whole_backups(), f"{where}: catalog and store disagree"
            assert listed >= left, f"{where}: a whole backup is not listed"
            # A prepared run is carried through, and the new one stands beside it.
            assert len(listed) == 1 + (prepared or bool(left)), where
