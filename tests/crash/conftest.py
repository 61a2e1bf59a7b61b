"""A home, a store and a database, made anew for one run that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backups import keys, wiring
from backups.entropy import SystemEntropy
from backups.format import segment
from backups.format.age import Identity
from backups.model import Destination, Plan, Policy
from backups.run.backup import back_up
from backups.run.reader import Found, list_manifests
from backups.run.restore import check
from backups.settings import Home


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@dataclass
class Place:
    home: Path
    policy: Policy

    def run(self, **other: Callable[[Any], Any]) -> None:
        """One backup; `run(store=f)` puts `f(store)` in the store's place."""
        with wiring.opened(self.home) as app, wiring.backup_ports(app, self.policy) as ports:
            wrapped = {name: wrap(getattr(ports, name)) for name, wrap in other.items()}
            back_up(replace(ports, **wrapped), self.policy, self.source, silent)

    @property
    def store_url(self) -> str:
        return self.policy.stores[0].url

    @property
    def source(self) -> Any:
        return wiring.source_of(self.policy)

    def whole_backups(self) -> set[str]:
        """Ids of the backups whose manifest is in the store; each is read to its end."""
        home = Home.at(self.home)
        trusted = keys.load_verify_keys(home)
        with wiring.bare_store(self.store_url) as store:
            found = list(list_manifests(store, trusted))
        manifests = [entry.manifest for entry in found if isinstance(entry, Found)]
        assert len(manifests) == len(found), found
        for manifest in manifests:
            with wiring.recovery(
                self.store_url, home.restore_identity, lambda _, it=manifest: it
            ) as (_, ports):
                check(ports, manifest, silent)
        return {manifest.backup for manifest in manifests}

    def listed(self) -> set[str]:
        with wiring.opened(self.home) as app:
            return {backup.id for backup in app.catalog.backups()}

    def prepared(self) -> bool:
        """Whether a run has stored everything but is not known to have put its manifest."""
        with wiring.opened(self.home) as app:
            return any(run.envelope for run in app.catalog.unfinished_runs("shop"))

    def unfinished(self) -> int:
        with wiring.opened(self.home) as app:
            return len(app.catalog.unfinished_runs("shop"))


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


@pytest.fixture
def new_place(
    tmp_path: Path,
    pg15_url: str,
    make_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[int], str]], Place]:
    monkeypatch.setattr(segment, "PLAIN_SIZE", 256 << 10)  # several segments, quickly
    rows = "select g, repeat(md5(g::text), 9) from generate_series(1, 3000) g"
    url = make_database(pg15_url, sql=f"create table t as {rows}")
    customer = str(Identity.generate(SystemEntropy()).recipient)
    made: list[int] = []

    def make(new_store: Callable[[int], str]) -> Place:
        made.append(1)
        home = tmp_path / f"home{len(made)}"
        wiring.init(str(home))
        with wiring.opened(home) as app:
            policy = app.catalog.save_policy(
                Policy(
                    "acme", "shop", 0, Plan("pro", 30), "postgresql", url, None,
                    (Destination(new_store(len(made))),), (customer,),
                )
            )  # fmt: skip
        return Place(home, policy)

    return make
