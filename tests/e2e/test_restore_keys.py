"""Restore keys: sealed, a customer's own with a grant, rotated and killed in the middle."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import pytest
import yaml

from backups import keys, wiring
from backups.errors import StoreUnavailable
from backups.format.age import Identity
from backups.settings import Home
from backups.wiring import keeping_keys, unsealing

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.s3


@pytest.fixture
def source(tmp_path: Path) -> str:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("create table t(a); insert into t values (1), (2), (3)")
    return f"sqlite://{file}"


@pytest.fixture
def shop(house: House, source: str, bucket: str, s3_endpoint: str) -> House:
    house.declare(f"s3://{bucket}/b?endpoint={quote(s3_endpoint, safe='')}", shop=source)
    return house


@pytest.fixture
def kms_key(s3_endpoint: str) -> str:
    client: Any = boto3.client("kms", endpoint_url=s3_endpoint, region_name="us-east-1")  # type: ignore[call-overload]
    key = client.create_key()["KeyMetadata"]["KeyId"]
    return f"aws-kms://{key}?region=us-east-1&endpoint={quote(s3_endpoint, safe='')}"


def restores(house: House, backup: str, name: str) -> bool:
    target = house.path / f"{name}.db"
    said = house.call("restore", backup, "--to", f"sqlite://{target}")
    if said.code:
        return False
    with closing(sqlite3.connect(target)) as connection:
        return connection.execute("select count(*) from t").fetchone() == (3,)


def run(house: House) -> str:
    return str(house.must("run", "shop", "--json").json["backup_id"])


def actions(house: House) -> list[str]:
    with wiring.opened(house.home) as app:
        return [record.action for record in app.audit.records()]


def test_sealed_by_a_key_service_and_by_another(
    shop: House, kms_key: str, tmp_path: Path
) -> None:
    home = Home.at(shop.home)
    backup = run(shop)
    plain = home.restore_identity.read_text().splitlines()[-1]
    shop.must("key", "seal", "--with", kms_key)
    assert not home.restore_identity.exists()
    assert plain not in home.sealed_identity.read_text()
    assert home.sealed_identity.stat().st_mode & 0o777 == 0o600
    assert run(shop)  # which opens nothing
    assert "identity.unsealed" not in actions(shop)
    assert restores(shop, backup, "one")
    assert actions(shop).count("identity.unsealed") == 1
    (row,) = shop.must("key", "show", "--json").json
    assert row["sealed_by"] == kms_key

    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("ab" * 32)
    shop.must("key", "seal", "--with", f"keyfile:{key}")
    assert restores(shop, backup, "two")
    key.write_text("cd" * 32)
    said = shop.call("restore", backup, "--to", f"sqlite://{tmp_path}/three.db")
    assert said.code == 15
    assert "this is not the key" in said.err
    key.write_text("ab" * 32)
    assert shop.call("key", "seal", "--with", "vault://nowhere").code == 10


def test_a_key_that_does_not_give_back_seals_nothing(shop: House, tmp_path: Path) -> None:
    home = Home.at(shop.home)
    before = home.restore_identity.read_bytes()
    assert shop.call("key", "seal", "--with", "keyfile:/nowhere").code == 10
    assert (
        shop.call(
            "key",
            "seal",
            "--with",
            "aws-kms://k?region=eu-central-1&endpoint=http%3A%2F%2F127.0.0.1%3A1",
        ).code
        == 16
    )
    assert home.restore_identity.read_bytes() == before
    assert not home.sealed_identity.exists()


def test_a_customer_with_a_key_of_their_own_decides(
    shop: House, kms_key: str, s3_endpoint: str
) -> None:
    before = run(shop)
    shop.must("key", "new", "acme", "--with", kms_key)
    assert shop.call("key", "new", "acme", "--with", kms_key).code == 10
    assert shop.call("key", "new", "nobody", "--with", kms_key).code == 11
    after = run(shop)
    said = shop.call("restore", after, "--to", f"sqlite://{shop.path}/no.db")
    assert said.code == 15
    assert "grants no use" in said.err
    shop.must("key", "grant", "acme", "--until", "2099-01-01", "--reason", "a restore",
              "--name", "Ann")  # fmt: skip
    assert restores(shop, after, "yes")
    assert restores(shop, before, "earlier")
    rows = {row["customer"]: row for row in shop.must("key", "show", "--json").json}
    assert rows["acme"]["granted_until"].startswith("2099")
    assert "acme" in shop.must("key", "show").out

    # Time-boxed: over by itself, or taken back.
    shop.must("key", "revoke", "acme", "--name", "Ann")
    assert not restores(shop, after, "revoked")
    with wiring.opened(shop.home) as app:
        now = app.clock.now()
        keeping_keys.grant(app, "acme", now + timedelta(hours=1), "a test", "Ann")
        assert app.grants.in_force("acme", now + timedelta(minutes=59))
        assert app.grants.in_force("acme", now + timedelta(hours=1)) is None
    assert restores(shop, after, "again")

    # The key is theirs: what they do to it counts at once, whatever we recorded.
    client: Any = boto3.client("kms", endpoint_url=s3_endpoint, region_name="us-east-1")  # type: ignore[call-overload]
    client.disable_key(KeyId=kms_key.removeprefix("aws-kms://").partition("?")[0])
    said = shop.call("restore", after, "--to", f"sqlite://{shop.path}/off.db")
    assert said.code == 15
    assert "disabled" in said.err
    found = actions(shop)
    assert {"identity.made", "key.granted", "key.revoked"} <= set(found)
    for bad in (["--until", "2020-01-01"], ["--until", "soon"]):
        assert shop.call("key", "grant", "acme", *bad, "--reason", "x", "--name", "y").code == 2
    # With the customer's own identity it never was a question.
    target = shop.path / "theirs.db"
    with wiring.opened(shop.home) as app:
        store = app.catalog.backup(after).store_url
    shop.must("recover", "--store", store, "--backup", after, "--identity",
              str(shop.customer_identity), "--verify-key", str(shop.home / "keys/verify.pem"),
              "--to", f"sqlite://{target}")  # fmt: skip


def old_and_new(house: House) -> list[Identity]:
    return list(keys.load_identities(Home.at(house.home).restore_identity))


def test_rotated_killed_and_gone_on_with(shop: House, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = [run(shop) for _ in range(3)]
    (old,) = old_and_new(shop)
    with wiring.opened(shop.home) as app:
        done = 0
        put = keeping_keys._rewrap

        def dies_later(*args: Any) -> None:
            nonlocal done
            done += 1
            if done == 2:
                raise KeyboardInterrupt
            put(*args)

        with monkeypatch.context() as patch:
            patch.setattr(keeping_keys, "_rewrap", dies_later)
            with pytest.raises(KeyboardInterrupt):
                keeping_keys.rotate(app, "", lambda *_: None, lambda _: None)
    new, kept = old_and_new(shop)
    assert kept == old
    assert all(restores(shop, backup, f"between-{backup}") for backup in backups)

    said = shop.must("key", "rotate", "--json").json
    assert (said["rewrapped"], said["already"]) == (2, 1)
    assert said["recipient"] == str(new.recipient)
    assert said["proven"] == {"shop": backups[0]}
    assert not said["finished"]
    assert shop.must("key", "rotate", "--json").json["rewrapped"] == 0  # the same one goes on
    fresh = run(shop)

    assert shop.must("key", "rotate", "--finish", "--json").json["finished"]
    assert old_and_new(shop) == [new]
    assert all(restores(shop, backup, f"after-{backup}") for backup in (*backups, fresh))
    for backup in (*backups, fresh):
        shop.must("check", backup)
    shop.must("scrub", "acme")
    assert shop.call("key", "rotate", "--finish").code == 2
    found = actions(shop)
    assert found.count("backup.rewrapped") == 3
    assert found.count("identity.rotated") == found.count("identity.forgotten") == 1

    # Once more: from headers that a rotation made, not the data's own.
    again = shop.must("key", "rotate", "--json").json
    assert again["rewrapped"] == 4
    shop.must("key", "rotate", "--finish")
    assert all(restores(shop, backup, f"twice-{backup}") for backup in (*backups, fresh))
    # The customer's own identity opens what it did, and new headers too.
    with wiring.opened(shop.home) as app:
        store = app.catalog.backup(backups[0]).store_url
    shop.must("recover", "--store", store, "--backup", backups[0], "--identity",
              str(shop.customer_identity), "--verify-key", str(shop.home / "keys/verify.pem"),
              "--to", f"sqlite://{shop.path}/theirs.db")  # fmt: skip


def test_a_sealed_identity_is_rotated_and_stays_sealed(shop: House, kms_key: str) -> None:
    backup = run(shop)
    shop.must("key", "seal", "--with", kms_key)
    shop.must("key", "rotate")
    shop.must("key", "rotate", "--finish")
    assert not Home.at(shop.home).restore_identity.exists()
    assert restores(shop, backup, "copy")


def test_a_customers_own_key_is_rotated(shop: House, kms_key: str) -> None:
    before = run(shop)
    shop.must("key", "new", "acme", "--with", kms_key)
    after = run(shop)
    assert shop.call("key", "rotate", "acme").code == 15  # not without their word
    shop.must("key", "grant", "acme", "--until", "2099-01-01", "--reason", "r", "--name", "n")
    assert shop.must("key", "rotate", "acme", "--json").json["rewrapped"] == 2
    shop.must("key", "rotate", "acme", "--finish")
    assert restores(shop, before, "before")
    assert restores(shop, after, "after")
    # That of all goes on without what is not for it.
    said = shop.must("key", "rotate", "--json").json
    assert said["failed"] == {}
    assert restores(shop, after, "after-all")


def test_what_can_not_be_rewrapped_keeps_the_old_key(
    shop: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = run(shop)

    def unreachable(*_: object) -> None:
        raise StoreUnavailable("no answer")

    with wiring.opened(shop.home) as app, monkeypatch.context() as patch:
        patch.setattr(keeping_keys, "_rewrap", unreachable)
        done = keeping_keys.rotate(app, "", lambda *_: None, lambda _: None)
        assert len(done.failed) == 1
        assert done.proven == {}
        done = keeping_keys.rotate(app, "", lambda *_: None, lambda _: None, finish=True)
        assert not done.finished
    assert len(old_and_new(shop)) == 2
    assert restores(shop, backup, "copy")


def test_a_wrapped_key_for_one_customer_is_not_taken_for_anothers(
    shop: House, kms_key: str, source: str
) -> None:
    document = yaml.safe_load((shop.path / "fleet.yaml").read_text())
    other = json.loads(json.dumps(document["customers"][0]))
    other["id"], other["stores"][0]["url"] = (
        "birch",
        other["stores"][0]["url"].replace("/b?", "/c?"),
    )
    other["databases"][0]["id"] = "blog"
    document["customers"].append(other)
    (shop.path / "fleet.yaml").write_text(yaml.safe_dump(document))
    shop.must("apply", str(shop.path / "fleet.yaml"))
    shop.must("key", "new", "acme", "--with", kms_key)
    shop.must("key", "new", "birch", "--with", kms_key)
    home = Home.at(shop.home)
    home.customer_identity("acme").write_bytes(home.customer_identity("birch").read_bytes())
    for customer in ("acme", "birch"):
        shop.must(
            "key", "grant", customer, "--until", "2099-01-01", "--reason", "r", "--name", "n"
        )
    with wiring.opened(shop.home) as app, pytest.raises(Exception, match="another customer"):
        unsealing.identities_of(app, "acme", "a test")


def test_every_unsealing_is_on_record_before_it_happens(
    shop: House, kms_key: str, make_database: Callable[..., str]
) -> None:
    shop.must("key", "seal", "--with", kms_key)
    with wiring.opened(shop.home) as app:
        records = len(list(app.audit.records()))
        app.home.sealed_identity.write_bytes(
            app.home.sealed_identity.read_bytes().replace(b'"box":"', b'"box":"AAAA')
        )
        with pytest.raises(Exception, match="damaged"):
            unsealing.identities_of(app, "acme", "a test")
        (record,) = list(app.audit.records())[records:]
    assert record.action == "identity.unsealed"
    assert record.details["why"] == "a test"
