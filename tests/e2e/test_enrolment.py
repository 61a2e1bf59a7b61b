"""Enrolment as an operator and a customer's administrator go through it together."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.format.age import Identity
from providers.access import Access
from providers.contract import CHECKS
from providers.registry import open_store

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

NOWHERE = "postgresql://nobody@db.invalid/shop"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in report["checks"]}


def words(report: dict[str, Any], name: str) -> str:
    return next(check["words"] for check in report["checks"] if check["name"] == name)


# --- the store ------------------------------------------------------------------------


def test_a_folder_is_examined_until_its_owner_has_proven_it(house: House, folder: Path) -> None:
    house.declare(f"file://{folder}", shop=NOWHERE)
    said = house.call("store", "check", "acme", "--json")
    assert said.code == 20
    assert "ownership" in said.err
    (report,) = said.json
    assert (report["store"], report["ok"]) == (f"file://{folder}", False)
    found = outcomes(report)
    assert {name for name, outcome in found.items() if outcome == "failed"} == {"ownership"}
    assert {check.name for check in CHECKS} <= found.keys()
    assert found["writer_rights"] == found["restorer_rights"] == "warning"
    assert "one credential for all roles" in words(report, "writer_rights")
    assert "MiB/s there" in words(report, "throughput")
    assert not [path for path in folder.rglob("*") if path.is_file()]
    # The customer's administrator does what the report says, word by word.
    command = words(report, "ownership").partition("its owner runs: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    said = house.must("store", "check", "acme")
    assert "looking at round trip" in said.err
    assert "0 failed" in said.out
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("s3_store", marks=pytest.mark.s3),
        pytest.param("gcs_store", marks=pytest.mark.gcs),
        "azure_store",
    ],
)
def test_the_bucket_of_each_cloud_is_examined(
    kind: str, house: House, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(kind)
    house.declare(url, shop=NOWHERE)
    said = house.call("store", "check", "acme", "--json")
    assert said.code == 20
    (report,) = said.json
    found = outcomes(report)
    assert {name for name, outcome in found.items() if outcome == "failed"} == {"ownership"}
    assert {check.name for check in CHECKS} <= found.keys()
    assert found["clock"] == found["latency"] == found["throughput"] == "passed"
    assert found["writer_rights"] == found["lock"] == found["credentials"] == "warning"
    command = shlex.split(words(report, "ownership").partition("its owner runs: ")[2])
    assert command[0] in ("aws", "gcloud", "az")
    full = next(word for word in command if "v1/enrolment/" in word)
    key = f"v1/enrolment/{full.rpartition('/')[2]}"
    assert full.endswith(f"bloomneo/{key}")
    access = Access("restorer")
    with closing(
        open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=access)
    ) as store:
        assert list(store.list("")) == []


@pytest.mark.s3
def test_a_store_out_of_reach_fails_at_once_and_proves_nothing(
    house: House, s3_store: str
) -> None:
    house.declare(s3_store.replace("test-", "gone-"), shop=NOWHERE)
    said = house.call("store", "check", "acme", "--json")
    assert said.code == 20
    (report,) = said.json
    first, *others = report["checks"]
    assert (first["name"], first["outcome"]) == ("reachable", "failed")
    assert {check["outcome"] for check in others} == {"unproven"}
    assert house.call("store", "check", "nobody").code == 11
    assert house.call("store", "check", "acme", "--store", "s3://other-bucket").code == 11


# --- rights ---------------------------------------------------------------------------


def test_policies_are_printed_with_the_customers_own_external_id(
    house: House, folder: Path, tmp_path: Path
) -> None:
    stores = ["s3://acme-backups/a?lock=governance", "gs://acme-copies/b", f"file://{folder}"]
    house.declare(stores, shop=NOWHERE)
    call = ("store", "policy", "acme", "--operator")
    documents = house.must(*call, "123456789012", "--form", "json", "--json").json
    assert {document["form"] for document in documents} == {"json"}
    trust = next(one for one in documents if one["name"] == "trust-policy.json")
    (statement,) = json.loads(trust["text"])["Statement"]
    shown = statement["Condition"]["StringEquals"]["sts:ExternalId"]
    assert shown.startswith("bloomneo-")
    assert shown in house.must(*call, "123456789012", "--form", "terraform").out
    google = "serviceAccount:backups@ours-1.iam.gserviceaccount.com"
    out = tmp_path / "policies"
    house.must(*call, google, "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == ["backups.tf", "setup.sh"]
    assert google in (out / "setup.sh").read_text()
    assert house.call(*call, "https://issuer.example/t#subject").code == 10


# --- the customer's key ---------------------------------------------------------------


def test_stock_age_opens_a_canary_and_only_then_backups_count(
    house: House, folder: Path, tmp_path: Path
) -> None:
    other = Identity.generate(SystemEntropy())
    house.declare(f"file://{folder}", shop=NOWHERE)
    path = house.path / "fleet.yaml"
    fleet = yaml.safe_load(path.read_text())
    fleet["customers"][0]["recipients"].append(str(other.recipient))
    path.write_text(yaml.safe_dump(fleet))
    house.must("apply", str(path))

    out = tmp_path / "canaries"
    written = house.must("key", "canary", "acme", "--out", str(out), "--json").json
    assert [entry["recipient"] for entry in written] == [house.recipient, str(other.recipient)]
    decrypt = ["age", "--decrypt", "-i", str(house.customer_identity)]
    other_file = [*decrypt, written[1]["file"]]
    assert subprocess.run(other_file, capture_output=True, check=False).returncode != 0
    text = subprocess.run(
        [*decrypt, written[0]["file"]], capture_output=True, text=True, check=True
    ).stdout

    wrong = text.strip()[:-1] + ("0" if text.strip()[-1] != "0" else "1")
    for answer in (wrong, ""):
        assert house.call("key", "canary", "acme", "--answer", answer).code == 33
    assert house.must("status", "--json").json[0]["recoverable"] is False

    proof = house.must("key", "canary", "acme", "--answer", text, "--json").json
    assert proof == {"proven": [house.recipient], "unproven": [str(other.recipient)]}
    assert house.must("status", "--json").json[0]["recoverable"] is True
    # Files are never overwritten, and a proof is the recipient's, not the customer's.
    assert house.call("key", "canary", "acme", "--out", str(out)).code == 10
    fleet["customers"][0]["recipients"] = [str(other.recipient)]
    path.write_text(yaml.safe_dump(fleet))
    house.must("apply", str(path))
    assert house.must("status", "--json").json[0]["recoverable"] is False


@pytest.mark.postgres
def test_a_backup_counts_by_the_recipients_it_was_encrypted_to(
    house: House, folder: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    house.declare(f"file://{folder}", shop=make_database(pg15_url))
    house.must("run", "shop")
    other = Identity.generate(SystemEntropy())
    path = house.path / "fleet.yaml"
    path.write_text(path.read_text().replace(house.recipient, str(other.recipient)))
    house.must("apply", str(path))
    house.must("run", "shop")
    key = house.path / "other.txt"
    key.write_text(other.reveal())
    (entry,) = house.must("key", "canary", "acme", "--out", str(house.path), "--json").json
    text = subprocess.run(
        ["age", "--decrypt", "-i", str(key), entry["file"]],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    house.must("key", "canary", "acme", "--answer", text)
    assert [row["recoverable"] for row in house.must("list", "--json").json] == [True, False]


# --- one place, one customer ----------------------------------------------------------


def test_a_place_enrolled_for_one_customer_is_refused_to_another(
    house: House, folder: Path
) -> None:
    mine = folder / "acme"
    mine.mkdir()
    house.declare(f"file://{mine}", shop=NOWHERE)
    other = yaml.safe_load((house.path / "fleet.yaml").read_text())
    (customer,) = other["customers"]
    customer |= {"id": "globex", "stores": [{"url": f"file://{mine}/below"}]}
    customer["databases"][0]["id"] = "globex-main"
    path = house.path / "globex.yaml"
    path.write_text(yaml.safe_dump(other))
    said = house.call("apply", str(path))
    assert said.code == 10
    assert "acme" in said.err
    assert "globex" in said.err
    assert len(house.must("status", "--json").json) == 1
    # Once the first has moved away, and left no backup, the place is free.
    house.declare(f"file://{house.path}/elsewhere", shop=NOWHERE)
    house.must("apply", str(path))


@pytest.mark.postgres
def test_a_place_that_holds_a_backup_stays_its_customers(
    house: House, folder: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    url = make_database(pg15_url)
    house.declare(f"file://{folder}", shop=url)
    house.must("run", "shop")
    house.declare(f"file://{house.path}/elsewhere", shop=url)
    path = house.path / "fleet.yaml"
    path.write_text(
        path.read_text()
        .replace("acme", "globex")
        .replace("shop", "globex-main")
        .replace(f"file://{house.path}/elsewhere", f"file://{folder}")
    )
    said = house.call("apply", str(path))
    assert said.code == 10
    assert "which is acme's" in said.err
