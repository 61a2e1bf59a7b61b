"""Each role tried with every operation that it must not be able to do: by the program's own
rules, and by the keys that its home holds. What the buckets themselves refuse to each of our
principals is in tests/contract/test_s3_roles.py, test_gcs_endpoint_rights.py and
test_azure_roles.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from backups import keys, wiring
from backups.errors import BackupsError, ConfigError, RoleMissing, StoreDenied
from backups.model import Backup, Destination
from backups.ports import Role
from backups.settings import Home
from backups.wiring import keeping_keys, proving, pruning, replacing, stores, unsealing
from backups.wiring.app import App
from backups.wiring.working import room

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

ROLES = get_args(Role)


@pytest.fixture
def shop(house: House, tmp_path: Path) -> Iterator[tuple[House, Backup, Destination]]:
    store, file = tmp_path / "bucket", tmp_path / "shop.db"
    store.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("create table t(a); insert into t values (1)")
    house.declare(f"file://{store}", shop=f"sqlite://{file}")
    house.must("run", "shop")
    with wiring.opened(house.home) as app:
        yield house, app.catalog.backups("shop")[0], app.catalog.policy("shop").stores[0]


def data_key(entry: Backup) -> str:
    return f"v1/shop/{entry.id}/00000.age"


def decrypt(app: App, entry: Backup, _: Destination) -> None:
    wiring.giving_back(app, entry, lambda *_: None, lambda _: None)


def unseal(app: App, entry: Backup, _: Destination) -> None:
    unsealing.identities_of(app, entry.customer, "a test")


def try_a_restore(app: App, entry: Backup, _: Destination) -> None:
    with proving.drill_ports(app, entry):
        pass


def rotate_keys(app: App, _: Backup, __: Destination) -> None:
    keeping_keys.rotate(app, "", lambda *_: None, lambda _: None)


def replace_live(app: App, entry: Backup, _: Destination) -> None:
    replacing.plan(app, entry, "ann", lambda *_: None, lambda _: None)


def back_up(app: App, _: Backup, __: Destination) -> None:
    with wiring.backup_ports(app, app.catalog.policy("shop")):
        pass


def put(app: App, _: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "writer") as store:
        store.put("v1/shop/new", b"x")


def put_as_reader(app: App, _: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "restorer") as store:
        store.put("v1/shop/new", b"x")


def delete(app: App, entry: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "pruner") as store:
        store.delete(data_key(entry))


def delete_as_writer(app: App, entry: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "writer") as store:
        store.delete(data_key(entry))


def delete_as_reader(app: App, entry: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "restorer") as store:
        store.delete(data_key(entry))


def prune(app: App, _: Backup, __: Destination) -> None:
    pruning.prune(app, "acme", "shop")


def read_data(app: App, entry: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "restorer") as store:
        store.open(data_key(entry)).close()


def read_data_as_pruner(app: App, entry: Backup, place: Destination) -> None:
    with stores.store_of(app, "acme", place, "pruner") as store:
        store.open(data_key(entry)).close()


Try = Callable[[App, Backup, Destination], None]
EVERYTHING: tuple[Try, ...] = (
    decrypt, unseal, try_a_restore, rotate_keys, replace_live, back_up, put, put_as_reader,
    delete, delete_as_writer, delete_as_reader, prune, read_data, read_data_as_pruner,
)  # fmt: skip
MAY: dict[str, tuple[Try, ...]] = {
    "backup": (back_up, put, read_data),  # copies are made by reading back, encrypted
    "restore": (decrypt, unseal, try_a_restore, read_data),
    "prune": (delete, prune),
    "api": (),
}
"""Everything else is refused."""
ELSEWHERE: dict[str, tuple[Try, ...]] = {"restore": (replace_live,)}
"""What a role may do whose engine can't do it here: a SQLite file is replaced only alone."""


@pytest.mark.parametrize("what", EVERYTHING, ids=lambda each: each.__name__)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_its_own_work_only(
    shop: tuple[House, Backup, Destination], role: Role, what: Try
) -> None:
    house, entry, place = shop
    stored = Path(place.url.removeprefix("file://"))
    before = sorted(path for path in stored.rglob("*") if path.is_file())
    with wiring.opened(house.home, roles=[role]) as app:
        if what in MAY[role] or what in ELSEWHERE.get(role, ()):
            what(app, entry, place)
            return
        with pytest.raises((RoleMissing, StoreDenied)):
            what(app, entry, place)
    assert sorted(path for path in stored.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("role", ROLES)
def test_a_home_of_one_role_has_no_other_keys(
    shop: tuple[House, Backup, Destination], role: Role, tmp_path: Path
) -> None:
    """Even a program without rules of its own finds nothing to break them with."""
    house, _, _ = shop
    from backups.entropy import SystemEntropy
    from backups.init import init_like

    made = init_like(tmp_path / role, Home.at(house.home), [role], SystemEntropy())
    assert made.path.stat().st_mode & 0o777 == 0o700
    loads: dict[str, Callable[[], object]] = {
        "decrypts": lambda: keys.load_identities(made.restore_identity),
        "signs": lambda: keys.load_signing_key(made),
    }
    can = {"backup": {"signs"}, "restore": {"decrypts"}, "prune": {"signs"}, "api": set()}
    for name, load in loads.items():
        if name in can[role]:
            load()
            continue
        with pytest.raises(ConfigError):
            load()
    with pytest.raises(BackupsError, match="no home was made"):
        init_like(tmp_path / role, Home.at(house.home), [role], SystemEntropy())


def test_lanes_are_those_of_the_roles() -> None:
    from backups.settings import Settings

    settings = Settings()
    assert set(room(settings, ["backup"])) == {"backup", "house"}
    assert set(room(settings, ["restore"])) == {"restore", "drill"}
    assert set(room(settings, ["prune"])) == {"prune"}
    assert room(settings, ["api"]) == {}
    assert "posture" in room(settings, ["backup", "restore", "prune"])


def test_one_machines_home_can_not_be_joined(
    shop: tuple[House, Backup, Destination], tmp_path: Path
) -> None:
    house, _, _ = shop
    like = ["--like", str(house.home), "--roles", "backup"]
    said = house.call("--home", str(tmp_path / "other"), "init", *like)
    assert said.code == 10
    assert "catalog move" in said.err
    assert house.call("worker", "--roles", "backup").code == 10
    assert house.call("worker", "--roles", "none").code == 2
    assert house.call("worker", "--roles", "king").code == 2
    assert house.call("queue", "list").code == 10
    assert house.call("init", "--roles", "backup").code == 2
