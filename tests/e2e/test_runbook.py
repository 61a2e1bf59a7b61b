"""Every page of the runbook, followed word for word: its blocks are given to a shell as they
stand, with values of the test's own."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
import yaml
from gate_kit import gate
from machines_kit import until
from scratch_kit import short_folder

from backups.entropy import SystemEntropy
from backups.format.age import Identity
from backups.notify import metrics

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = [pytest.mark.s3, pytest.mark.timeout(240)]
RUNBOOK = Path(metrics.__file__).parents[1] / "deploy" / "runbook"
SYSTEMCTL = """#!/usr/bin/env bash
# What systemd does with backups-serve.service, on a machine without systemd.
set -euo pipefail
[[ "$2" == backups-serve ]]
pid="$BACKUPS_HOME.pid"
case "$1" in
  start)
    setsid backups serve >"$BACKUPS_HOME.log" 2>&1 </dev/null &
    echo $! >"$pid"
    ;;
  stop)
    [[ -f "$pid" ]] || exit 0
    kill "$(cat "$pid")"
    while [[ "$(ps -o stat= -p "$(cat "$pid")" || true)" == [!Z]* ]]; do sleep 0.05; done
    rm "$pid"
    ;;
esac
"""
FOLLOWED: set[tuple[str, str]] = set()


@dataclass
class Page:
    """One file: the values at its top, and what is to be done under each heading, by the shell
    or, a sentence of its own in bold, by somebody else."""

    values: list[str] = field(default_factory=list)
    steps: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def read(name: str) -> Page:
    page, heading = Page(), ""
    pattern = r"^## (?P<heading>[^\n]+)$|^```sh\n(?P<sh>.*?)^```$|^\*\*(?P<other>[^*]+)\*\*$"
    for found in re.finditer(pattern, (RUNBOOK / name).read_text(), re.DOTALL | re.MULTILINE):
        if found["heading"]:
            heading = found["heading"]
        elif found["sh"] and not page.values:
            page.values = re.findall(r"^export (\w+)=", found["sh"], re.MULTILINE)
        else:
            step = ("sh", found["sh"]) if found["sh"] else ("other", found["other"])
            page.steps.setdefault(heading, []).append(step)
    return page


def follows(name: str, heading: str = "") -> pytest.MarkDecorator:
    """Gives the test `(name, heading)` to follow."""
    FOLLOWED.add((name, heading))
    return pytest.mark.parametrize("procedure", [(name, heading)], ids=[name])


@dataclass
class Desk:
    """Where an operator sits."""

    house: House
    env: dict[str, str]
    operator: Identity
    values: dict[str, str]
    said: str = ""
    """By the shell, so far."""

    def follow(
        self,
        procedure: tuple[str, str],
        others: Mapping[str, Callable[[], object]] | None = None,
    ) -> str:
        """What was printed by the shell, all of it."""
        page, others = read(procedure[0]), dict(others or {})
        values = {name: self.values[name] for name in page.values}
        for kind, step in page.steps[procedure[1]]:
            if kind == "other":
                others.pop(step)()
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", step],
                env={**os.environ, **self.env, **values}, capture_output=True, text=True,
                check=False, timeout=200, cwd=self.house.path, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            self.said += done.stdout + done.stderr
            assert done.returncode == 0, f"{step}\n{self.said}"
        assert not others
        return self.said

    def systemctl(self, verb: str) -> None:
        argv = ["systemctl", verb, "backups-serve"]
        subprocess.run(argv, env={**os.environ, **self.env}, check=True)

    def serves(self) -> None:
        """Or will, in a moment."""
        log = Path(f"{self.house.home}.log")
        until(lambda: "leading" in log.read_text(), "the unit", 30)

    def state(self, state: str) -> None:
        path = self.house.path / "fleet.yaml"
        fleet = yaml.safe_load(path.read_text())
        fleet["customers"][0]["state"] = state
        path.write_text(yaml.safe_dump(fleet))

    def restores(self, backup: str = "shop", **env: str) -> int:
        """The rows that come back."""
        target = self.house.path / f"back-{SystemEntropy().bytes(4).hex()}.db"
        said = self.house.call("restore", backup, "--to", f"sqlite://{target}", env=env)
        assert said.code == 0, said.err
        with closing(sqlite3.connect(target)) as connection:
            return int(connection.execute("select count(*) from t").fetchone()[0])

    def backups(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.house.must("list", "--json").json
        return found


@pytest.fixture
def desk(house: House, tmp_path: Path) -> Iterator[Desk]:
    """A home with one SQLite database, `shop`, in a folder; its settings; an operator's key."""
    source = tmp_path / "shop.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript("create table t(a); insert into t values (1), (2), (3)")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    unit = bin_ / "systemctl"
    unit.write_text(SYSTEMCTL)
    unit.chmod(0o755)
    operator = Identity.generate(SystemEntropy())
    identity = tmp_path / "operator.txt"
    identity.touch(mode=0o600)
    identity.write_text(operator.reveal() + "\n")
    for name in ("ours", "store", "second"):
        (tmp_path / name).mkdir()
    house.declare(f"file://{tmp_path}/store", shop=f"sqlite://{source}")
    tools = Path(sys.executable).parent
    with short_folder() as scratch:
        (house.home / "settings.yaml").write_text(
            f"drain_minutes: 0\nscratch: {{directory: {scratch}}}\n"
        )
        desk = Desk(
            house,
            {"PATH": f"{bin_}:{tools}:{os.environ['PATH']}", "BACKUPS_HOME": str(house.home)},
            operator,
            {
                "BACKUPS_HOME": str(house.home),
                "OPERATOR_STORE": f"file://{tmp_path}/ours",
                "OPERATOR_RECIPIENT": str(operator.recipient),
                "OPERATOR_IDENTITY": str(identity),
                "FLEET": str(tmp_path / "fleet.yaml"),
                "KEPT": str(tmp_path / "kept.tar.age"),
                "CUSTOMER": "acme",
                "DATABASE": "shop",
                "OUT": str(tmp_path / "handover"),
                "TARGET": f"sqlite://{tmp_path}/back.db",
            },
        )
        try:
            yield desk
        finally:
            desk.systemctl("stop")


def lose_catalog(house: House) -> None:
    for file in house.home.glob("catalog.sqlite3*"):
        file.unlink()


def test_every_procedure_is_followed() -> None:
    there = {
        (path.name, heading)
        for path in RUNBOOK.glob("*.md")
        for heading in read(path.name).steps
    }
    assert there == FOLLOWED


def test_the_list_of_pages_is_whole() -> None:
    named = set(re.findall(r"\]\((\S+\.md)\)", (RUNBOOK / "README.md").read_text()))
    assert named == {path.name for path in RUNBOOK.glob("*.md")} - {"README.md"}


@follows("README.md")
def test_done_once(desk: Desk, procedure: tuple[str, str]) -> None:
    desk.follow(procedure)
    assert any((desk.house.path / "ours").rglob("*.age"))
    opened = ["age", "-d", "-i", desk.values["OPERATOR_IDENTITY"], desk.values["KEPT"]]
    assert b"AGE-SECRET-KEY" in subprocess.run(opened, check=True, capture_output=True).stdout


@follows("lost-catalog.md", "It was stored")
def test_a_lost_catalog_that_was_stored(desk: Desk, procedure: tuple[str, str]) -> None:
    desk.house.must("run", "shop")
    desk.follow(("README.md", ""))
    late = desk.house.must("run", "shop", "--json").json["backup_id"]
    desk.systemctl("start")
    lose_catalog(desk.house)
    desk.follow(procedure)
    desk.serves()
    assert late in {row["backup_id"] for row in desk.backups()}
    assert desk.restores(late) == 3


@follows("lost-catalog.md", "It was not stored, or that is lost too")
def test_a_lost_catalog_that_was_not(desk: Desk, procedure: tuple[str, str]) -> None:
    backup = desk.house.must("run", "shop", "--json").json["backup_id"]
    desk.house.must("hold", "add", backup, "--reason", "court", "--name", "Ann")
    lose_catalog(desk.house)
    assert "court" in desk.follow(procedure)
    desk.serves()
    assert backup in {row["backup_id"] for row in desk.backups()}
    assert desk.restores(backup) == 3


@follows("lost-host.md", "With what was kept")
def test_a_lost_host(desk: Desk, procedure: tuple[str, str]) -> None:
    desk.follow(("README.md", ""))
    backup = desk.house.must("run", "shop", "--json").json["backup_id"]
    shutil.rmtree(desk.house.home)
    desk.follow(procedure)
    desk.serves()
    assert desk.restores(backup) == 3
    desk.house.must("run", "shop")
    desk.house.must("scrub")


@follows("leaked-key.md", "The restore identity")
def test_a_leaked_restore_identity(desk: Desk, procedure: tuple[str, str]) -> None:
    backup = desk.house.must("run", "shop", "--json").json["backup_id"]
    leaked = (desk.house.home / "keys" / "restore-identity.txt").read_text()
    desk.follow(procedure)
    assert (
        leaked.splitlines()[-1]
        not in (desk.house.home / "keys" / "restore-identity.txt").read_text()
    )
    assert desk.restores(backup) == 3
    # What comes is not for who has the old one.
    old = desk.house.path / "leaked.txt"
    old.touch(mode=0o600)
    old.write_text(leaked)
    fresh = desk.house.must("run", "shop", "--json").json["backup_id"]
    assert recovered(desk, fresh, old) == 33
    assert recovered(desk, backup, old) == 0  # as the page says


@follows("leaked-key.md", "A customer's key")
def test_a_leaked_customers_key(desk: Desk, procedure: tuple[str, str]) -> None:
    backup = desk.house.must("run", "shop", "--json").json["backup_id"]
    fresh = Identity.generate(SystemEntropy())
    own = desk.house.path / "fresh.txt"
    own.touch(mode=0o600)
    own.write_text(fresh.reveal() + "\n")

    def declare() -> None:
        path = desk.house.path / "fleet.yaml"
        fleet = yaml.safe_load(path.read_text())
        fleet["customers"][0]["recipients"] = [str(fresh.recipient)]
        path.write_text(yaml.safe_dump(fleet))

    sentence = "Put the new recipient into the fleet file, in the place of the old one."
    desk.follow(procedure, {sentence: declare})
    assert recovered(desk, backup, own) == 0
    after = desk.house.must("run", "shop", "--json").json["backup_id"]
    assert recovered(desk, after, own) == 0
    assert recovered(desk, after, desk.house.customer_identity) == 33


def recovered(desk: Desk, backup: str, identity: Path) -> int:
    """The exit code of getting it back without a home."""
    target = desk.house.path / f"got-{SystemEntropy().bytes(4).hex()}.db"
    said = desk.house.call(
        "recover", "--store", f"file://{desk.house.path}/store", "--identity", str(identity),
        "--verify-key", str(desk.house.home / "keys" / "verify.pem"),
        "--backup", backup, "--to", f"sqlite://{target}",
    )  # fmt: skip
    return said.code


AGAIN = (
    "The customer makes the bucket again, with the rights that `backups store policy` prints."
)


PROVE = "The customer runs that command."


def prove(desk: Desk, client: Any, bucket: str) -> None:
    """By the command that the check prints, with what of `aws` it takes."""
    said = " ".join(desk.said.split())
    for key in re.findall(r"aws s3api put-object --bucket \S+ --key (\S+)", said):
        client.put_object(Bucket=bucket, Key=key, IfNoneMatch="*")
    for command in re.findall(r"mkdir -p \S+ && touch \S+", said):
        subprocess.run(["bash", "-c", command], check=True)


def others(desk: Desk, client: Any, bucket: str) -> dict[str, Callable[[], object]]:
    return {
        AGAIN: lambda: client.create_bucket(Bucket=bucket),
        PROVE: lambda: prove(desk, client, bucket),
    }


def delete(client: Any, bucket: str) -> None:
    for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_object(Bucket=bucket, Key=entry["Key"])
    client.delete_bucket(Bucket=bucket)


@follows("bucket-deleted.md", "There is a second store")
def test_a_deleted_bucket_that_has_a_copy(
    desk: Desk, procedure: tuple[str, str], s3_store: str, s3_client: Any, bucket: str
) -> None:
    second = f"file://{desk.house.path}/second"
    desk.house.declare([s3_store, second], shop=f"sqlite://{desk.house.path}/shop.db")
    before = [desk.house.must("run", "shop", "--json").json["backup_id"] for _ in range(2)]
    delete(s3_client, bucket)
    said = desk.follow(procedure, others(desk, s3_client, bucket))
    assert "missing" in said or "no bucket" in said
    shutil.rmtree(desk.house.path / "second")  # and what was copied back is enough
    for backup in before:
        assert desk.restores(backup) == 3
    assert len(desk.backups()) == 3


@follows("bucket-deleted.md", "There is none")
def test_a_deleted_bucket_that_has_none(
    desk: Desk, procedure: tuple[str, str], s3_store: str, s3_client: Any, bucket: str
) -> None:
    desk.house.declare(s3_store, shop=f"sqlite://{desk.house.path}/shop.db")
    lost = desk.house.must("run", "shop", "--json").json["backup_id"]
    delete(s3_client, bucket)
    desk.follow(procedure, others(desk, s3_client, bucket))
    assert lost in (desk.house.path / "scrub.json").read_text()
    assert desk.restores() == 3


@follows("provider-down.md", "A store does not answer")
def test_a_store_that_is_down(
    desk: Desk, procedure: tuple[str, str], s3_endpoint: str, bucket: str
) -> None:
    there = urlsplit(s3_endpoint)
    assert there.hostname
    assert there.port
    with gate(there.hostname, there.port) as way:
        url = f"http://127.0.0.1:{way.port}"
        store = f"s3://{bucket}/b?endpoint={quote(url, safe='')}"
        second = f"file://{desk.house.path}/second"
        desk.house.declare([store, second], shop=f"sqlite://{desk.house.path}/shop.db")
        desk.house.must("run", "shop")
        way.shut()
        assert desk.house.call("run", "shop").code == 21
        desk.follow(procedure, {"The provider is back.": way.open})
        (newest, _) = desk.backups()
        assert newest["complete"]


@follows("provider-down.md", "The key service does not answer")
def test_a_key_service_that_is_down(
    desk: Desk, procedure: tuple[str, str], s3_endpoint: str
) -> None:
    import boto3

    client: Any = boto3.client("kms", endpoint_url=s3_endpoint, region_name="us-east-1")  # type: ignore[call-overload]
    key = client.create_key()["KeyMetadata"]["KeyId"]
    there = urlsplit(s3_endpoint)
    assert there.hostname
    assert there.port
    with gate(there.hostname, there.port) as way:
        endpoint = quote(f"http://127.0.0.1:{way.port}", safe="")
        desk.house.must(
            "key", "seal", "--with", f"aws-kms://{key}?region=us-east-1&endpoint={endpoint}"
        )
        way.shut()
        desk.follow(procedure, {"The provider is back.": way.open})
    with closing(sqlite3.connect(desk.house.path / "back.db")) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (3,)


@follows("customer-leaving.md", "They leave")
def test_a_customer_who_leaves(desk: Desk, procedure: tuple[str, str]) -> None:
    sentence = "Write `state: leaving` into the fleet file, at the customer."
    said = desk.follow(procedure, {sentence: lambda: desk.state("leaving")})
    assert "age" in said
    assert (desk.house.path / "handover" / "verify.pem").is_file()
    (row,) = desk.backups()
    assert recovered(desk, row["backup_id"], desk.house.customer_identity) == 0


@follows("customer-leaving.md", "They ask for erasure")
def test_a_customer_who_asks_for_erasure(desk: Desk, procedure: tuple[str, str]) -> None:
    desk.house.must("run", "shop")
    sentence = "Write `state: erased` into the fleet file, at the customer."
    desk.follow(procedure, {sentence: lambda: desk.state("erased")})
    assert desk.backups() == []
    assert not list((desk.house.path / "store").rglob("*.age"))
