"""The report: what it says of a month, that it is a function, that it tells on nobody else."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader
from report_kit import WHOSE, blind, drill, facts

from backups.errors import Damaged, UsageError
from verify import bundle
from verify.report.build import build
from verify.report.document import Report, read, schema, to_json
from verify.report.facts import Facts, Previous
from verify.report.month import Month

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "report-v1"
SCHEMA = Path(bundle.__file__).parent / "report" / "report.v1.schema.json"


def of(customer: str | None = None, known: Facts | None = None) -> Report:
    return build(known or facts(), customer)


def named(report: Report) -> set[tuple[str, str]]:
    return {(each.subject, each.kind) for each in report.exceptions}


# --- what it says ---------------------------------------------------------------------


def test_every_database_is_counted_and_only_passed_counts() -> None:
    covered = of().coverage
    assert {row.database: row.outcome for row in covered.rows} == {
        "shop": "PASSED", "blog": "FAILED", "dead": "DIED", "lone": "NOT TESTED",
        "birds": "PASSED",
    }  # fmt: skip
    assert (covered.databases, covered.passed) == (5, 2)
    assert all(row.reason for row in covered.rows if row.outcome != "PASSED")
    assert of().headline.startswith("2 of 5 databases")


def test_every_gap_is_named() -> None:
    assert named(of("acme")) == {
        ("blog", "not proven"),
        ("blog", "drill not passed"),
        ("dead", "not proven"),
        ("dead", "drill not passed"),
        ("lone", "not proven"),
        ("blog", "backup missed"),
        ("blog", "RPO missed"),
        ("blog", "alarm backup.missed"),
        ("s3://acme-bucket/backups", "scrub"),
    }
    assert named(of("birch")) == set()
    assert ("fleet", "cold start missing") in named(of())


def test_what_the_newest_backup_does_not_carry_is_an_exception() -> None:
    known = facts()
    newest = max((b for b in known.backups if b.database == "blog"), key=lambda b: b.created_at)
    before = replace(newest, id="before", created_at=newest.created_at - timedelta(minutes=1))
    others = [each for each in known.backups if each.id != newest.id]
    lacks = ("not backed up: 2 triggers", "the server's clock differs")
    for backups, told in (
        ([replace(newest, warnings=lacks), before], ["2 triggers"]),
        ([newest, replace(before, warnings=lacks)], []),
    ):
        report = of(known=replace(known, backups=[*others, *backups]))
        found = [each for each in report.exceptions if each.kind == "not backed up"]
        assert [(each.subject, each.words) for each in found] == [
            ("blog", f"backup {newest.id} does not carry: {what}") for what in told
        ]


def test_a_later_test_answers_one_that_failed() -> None:
    known = facts()
    again = replace(known, drills=[*known.drills, drill("blog", 20)])
    report = of("acme", again)
    (row,) = (row for row in report.coverage.rows if row.database == "blog")
    assert row.outcome == "PASSED"
    (failed,) = (test for test in report.tests if test.outcome == "FAILED")
    assert failed.retest == "test-blog-20"
    assert ("blog", "drill not passed") in named(report), "it stays on the report"


def test_one_miss_of_the_self_test_blocks_it() -> None:
    report = of(known=blind())
    assert report.state == "BLOCKED"
    assert report.headline.startswith("BLOCKED: the verifier let 1 of 2 damaged copies pass")
    assert ("cut tail", "self-test missed") in named(report)
    assert of("birch", blind()).state == "BLOCKED", "whosever backup it was tried on"


def test_a_day_without_a_backup_is_failed_or_missed() -> None:
    rows = {(row.database, row.day): row for row in of().backups.days}
    assert rows["blog", "2026-10-30"].state == "failed"
    assert rows["blog", "2026-10-30"].error == "it was full"
    assert rows["blog", "2026-10-31"].state == "missed"
    assert rows["shop", "2026-10-31"].state == "taken"


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "0000-01", "October", "2026-10-01", ""])
def test_no_month(text: str) -> None:
    with pytest.raises(UsageError):
        Month.parse(text)


# --- that it is a function --------------------------------------------------------------


def test_same_facts_same_bytes() -> None:
    assert bundle.make(of(), KEY) == bundle.make(of(), KEY)


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_evidence_changes_nothing(lot: object) -> None:
    known = facts()
    fields = ["versions", "runs", "backups", "kept", "begun", "drills", "alarms", "scrubs",
              "standings", "holds"]  # fmt: skip
    mixed = {}
    for name in fields:
        mixed[name] = list(getattr(known, name))
        lot.shuffle(mixed[name])  # type: ignore[attr-defined]
    assert to_json(of(known=replace(known, **mixed))) == to_json(of())


def test_what_happened_later_changes_nothing() -> None:
    known = facts()
    later = replace(drill("lone", 31), began_at=known.until, ended_at=known.until)
    assert to_json(of(known=replace(known, drills=[*known.drills, later]))) == to_json(of())


def test_a_released_form_stays_as_it_was() -> None:
    """`tests/fixtures/golden/report-v1` is never made again."""
    for name, customer in (("fleet", None), ("acme", "acme")):
        golden = (GOLDEN / f"{name}.json").read_bytes()
        assert to_json(read(golden)) == golden
        assert to_json(of(customer)) == golden


def test_the_schema_is_published_and_holds() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(json.loads(to_json(of())))
    wrong = json.loads(to_json(of()))
    wrong["coverage"]["rows"][0]["outcome"] = "FINE"
    assert not validator.is_valid(wrong)


# --- that it tells on nobody else -------------------------------------------------------


def test_a_customers_report_names_nobody_else() -> None:
    """Every form; `birch` and everything of theirs has a name of its own in the facts."""
    files = bundle.make(of("acme"), KEY)
    text = b"".join(data for name, data in files.items() if name != "report.pdf").decode()
    text += "".join(
        page.extract_text() for page in PdfReader(BytesIO(files["report.pdf"])).pages
    )
    assert "acme" in text
    assert "birch" not in text
    assert "birds" not in text
    assert "fleet" not in text.replace("whole fleet", "")


def test_another_customers_facts_change_nothing() -> None:
    known = facts()
    alone = replace(
        known,
        **{
            name: [each for each in getattr(known, name) if "birch" not in repr(each)]
            for name in ("versions", "standings", "backups", "kept", "deletions", "drills",
                         "scrubs", "examined", "operations")
        },
    )  # fmt: skip
    assert to_json(of("acme", alone)) == to_json(of("acme"))


# --- the bundle -------------------------------------------------------------------------


def test_a_bundle_is_whole() -> None:
    files = bundle.make(of("acme"), KEY)
    found = bundle.check(files, KEY.public_key())
    assert found.whole
    assert not found.own_key
    assert found.predicate is not None
    assert (found.predicate.databases, found.predicate.passed) == (4, 1)
    assert not bundle.check(files, OTHER.public_key()).whole


@cache
def whole() -> dict[str, bytes]:
    return bundle.make(of("acme"), KEY)


@given(st.data())
def test_whatever_is_changed_is_noticed(data: st.DataObject) -> None:
    files = dict(whole())
    name = data.draw(st.sampled_from(sorted(files)))
    how = data.draw(st.sampled_from(["flip", "cut", "remove", "add", "empty"]))
    content = files[name]
    if how == "flip":
        place = data.draw(st.integers(0, len(content) * 8 - 1))
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        files[name] = bytes(changed)
    elif how == "cut":
        files[name] = content[:-1]
    elif how == "remove":
        del files[name]
    elif how == "add":
        files["more.csv"] = b"x"
    else:
        files[name] = b""
    assert not bundle.check(files, KEY.public_key()).whole


def test_it_is_checked_with_stock_tools_as_its_readme_says(tmp_path: Path) -> None:
    bundle.write(bundle.make(of("acme"), KEY), tmp_path / "good")
    said = follow_readme(tmp_path / "good")
    assert "Signature Verified Successfully" in said
    assert said.count(": OK") == len(list((tmp_path / "good").iterdir())) - 1
    assert bundle.digest_of(bundle.load(tmp_path / "good")) in said
    assert bundle.check(bundle.load(tmp_path / "good"), None).key in said

    (tmp_path / "good" / "coverage.csv").write_text("all is well")
    assert "coverage.csv: FAILED" in follow_readme(tmp_path / "good")
    bundle.write(bundle.make(of("acme"), OTHER), tmp_path / "forged")
    (tmp_path / "forged" / "verify.pem").write_bytes(bundle.make(of(), KEY)["verify.pem"])
    assert "Signature Verified Successfully" not in follow_readme(tmp_path / "forged")


def follow_readme(folder: Path) -> str:
    """Runs every indented line of the bundle's README, as it stands."""
    lines = (folder / "README.txt").read_text().splitlines()
    script = "\n".join(line[4:] for line in lines if line.startswith("    "))
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_correction_names_what_it_replaces() -> None:
    first = bundle.make(of("acme"), KEY)
    place = Previous(None, bundle.digest_of(first), "a test was counted twice")
    second = build(facts(), "acme", place)
    found = bundle.check(bundle.make(second, KEY), KEY.public_key())
    assert found.whole
    assert found.predicate is not None
    assert found.predicate.corrects == bundle.digest_of(first)
    assert found.predicate.reason == "a test was counted twice"
    page = bundle.make(second, KEY)["report.html"].decode()
    assert "a test was counted twice" in page


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", to_json(build(facts(), None))[:-1]]
)
def test_what_is_no_report(data: bytes) -> None:
    with pytest.raises(Damaged):
        read(data)


def test_every_customer_is_somebodys() -> None:
    assert set(WHOSE.values()) == {"acme", "birch"}
