"""What a plan, a rehearsal and a restore test say of differences: whole tables first and
counted, no digest, no text of a definition."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backups.differing import shown, told
from backups.errors import ApprovalMissing, RestoreFailed
from backups.format.fingerprint import MISSING, Difference, differences
from backups.lacking import PREFIX, counted, not_carried
from backups.model import Fingerprint, ObjectDigest, TableContent, Unrestored
from backups.notify.alarms import Facts, Seen, Watched, standing
from backups.proving import Check
from backups.replacing import Changes, Replacement, require_accepted, require_startable
from backups.run import contrast
from backups.run.restore import in_words, require_equal
from verify import gaps
from verify.compare import compare

AT = datetime(2026, 11, 30, tzinfo=UTC)


def table(name: str, rows: int, content: str = "0" * 16) -> TableContent:
    return TableContent("public", name, ("a",), rows, content)


def fingerprint(*tables: TableContent, objects: dict[str, str] | None = None) -> Fingerprint:
    every = {f"TABLE {each.name}": "d" for each in tables} | (objects or {})
    digests = tuple(
        ObjectDigest(*(key.partition(" ")[0], "public", key.partition(" ")[2]), digest)
        for key, digest in every.items()
    )
    return Fingerprint("postgresql", "15", {}, {}, (), digests, tables, ())


def test_whole_tables_come_first_and_are_counted() -> None:
    now = fingerprint(table("live", 5), table("small", 1), table("both", 3, "1" * 16))
    then = fingerprint(
        table("old", 7),
        table("both", 3, "2" * 16),
        objects={"VIEW seen": "x", "TABLE both": "e"},
    )
    assert contrast.planned(now, then) == (
        "2 tables are lost whole, with 6 rows",
        "1 table comes back whole, with 7 rows",
        "table public.live is lost whole: 5 rows",
        "table public.small is lost whole: 1 row",
        "table public.old comes back whole: 7 rows",
        "content of table public.both: as many rows, with other values",
        "table public.both: its definition differs",
        "view public.seen comes back",
    )
    assert contrast.changed(now, then) == [("public", "both")]
    changes = Changes("public", "both", note="no primary key").counted((0, 2, 0), ((), (), ()))
    seen = contrast.rehearsed(now, then, [changes])
    assert seen[5] == "public.both: 2 are lost; 3 rows now, 3 then; no primary key"
    assert "table public.both: its definition differs" in seen
    assert contrast.planned(now, now) == contrast.rehearsed(now, now, []) == ()


def test_what_no_backup_holds_is_lost() -> None:
    now = replace(fingerprint(), not_backed_up=("options of a user mapping: not readable",))
    assert contrast.planned(now, fingerprint()) == (
        "in no backup, and lost: options of a user mapping: not readable",
    )


def test_the_first_lines_stay_when_the_rest_is_cut() -> None:
    now = fingerprint(*(table(f"t{n}", n) for n in range(300)))
    found = contrast.planned(now, fingerprint())
    assert found[0] == "300 tables are lost whole, with 44,850 rows"
    assert found[1] == "table public.t299 is lost whole: 299 rows", "the largest first"
    assert (len(found), found[-1]) == (contrast.SHOWN + 1, "and 101 more")


SOURCE = "CREATE FUNCTION f()\nAS 'select ''s3cret'''\nLANGUAGE sql;"
COPY = "CREATE FUNCTION f()\nAS 'select ''0ther'''\nLANGUAGE sql;"
ONE = fingerprint(objects={"FUNCTION f()": "aa" * 8})
OTHER = fingerprint(objects={"FUNCTION f()": "bb" * 8})


def test_texts_are_for_the_terminal_alone() -> None:
    with pytest.raises(
        Exception, match="another definition, 3 lines; it differs in line 2"
    ) as e:
        require_equal(ONE, OTHER, lambda *_: (SOURCE, COPY))
    assert "s3cret" not in str(e.value)
    assert "aaaa" not in str(e.value)
    assert "    -AS 'select ''s3cret'''" in e.value.texts  # type: ignore[attr-defined]
    assert "    +AS 'select ''0ther'''" in e.value.texts  # type: ignore[attr-defined]
    asked: list[tuple[str, ...]] = []

    def definitions(*item: str) -> tuple[str, str]:
        asked.append(item)
        return SOURCE, COPY

    (check,) = (each for each in compare(ONE, OTHER, definitions) if each.passed is False)
    assert asked == [("FUNCTION", "public", "f()")]
    assert check == Check(
        "structure", False, "the source's definition, 3 lines",
        "another definition, 3 lines; it differs in line 2", 'function public."f()"',
    )  # fmt: skip


def test_without_texts_no_digest_is_told() -> None:
    (found,) = differences(ONE, OTHER)
    assert told(found, None) == ("the source's definition", "another definition")
    assert shown(found.subject, None) == ""
    (gone,) = differences(ONE, fingerprint())
    assert told(gone, None) == ("a definition", MISSING)
    rows = Difference("rows", "table t", "1", "2")
    assert told(rows, None) == ("1", "2")


def test_a_long_difference_is_cut() -> None:
    texts = ("\n".join(map(str, range(100))), "\n".join(str(-n) for n in range(100)))
    lines = shown("view v", texts).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "..."


# --- what is not carried, what was not made ---------------------------------------------


def test_counts_are_in_clear_and_names_are_not() -> None:
    assert not_carried(["x", f"{PREFIX}2 triggers"]) == ("2 triggers",)
    assert counted(["x"], []) == ("x",)
    assert counted([f"{PREFIX}2 triggers"], ["trigger a", "trigger b"]) == (
        f"{PREFIX}2 triggers",
    )
    found = counted(["x"], ["trigger secret"])
    assert found == ("x", f"{PREFIX}1 thing, named in the fingerprint")


KEY = Unrestored("foreign key k of public.t", "a row has no parent", True)
VIEW = Unrestored("materialized view public.v", "division by zero", False)


def test_what_the_source_breaks_takes_levels_and_our_fault_fails() -> None:
    assert list(gaps.restored(["a note"], [])) == [
        Check("restored", True, "nothing is wrong", "a note")
    ]
    kept, told_ = gaps.restored([], [KEY])
    assert (kept.name, kept.passed) == ("restored", True)
    assert (told_.name, told_.passed, told_.subject) == ("source", False, KEY.subject)
    checks = list(gaps.restored([], [KEY, VIEW]))
    assert [(each.name, each.passed) for each in checks] == [
        ("restored", False), ("source", False),
    ]  # fmt: skip
    assert in_words([KEY, VIEW]) == (
        "foreign key k of public.t: a row has no parent (the source has the same fault)",
        "materialized view public.v: division by zero",
    )


def planned(**fields: object) -> Replacement:
    plan = Replacement(
        id="r", customer="acme", database="shop", backup="b", snapshot_at=AT, target="t",
        live="shop", digest="", target_sha256="aa", difference=(), stays_behind=(),
        planned_at=AT, planned_by="ann", needs="nothing", not_before=None, keep_days=7,
    )  # fmt: skip
    return replace(plan, **fields)  # type: ignore[arg-type]


def test_a_copy_that_lacks_something_is_not_put_in_place_unseen() -> None:
    bare, seen = planned(), planned(exceptions=("key k: no parent",))
    require_accepted(bare, (), accept=False, broke_glass="")
    require_accepted(seen, ("key k: no parent",), accept=True, broke_glass="")
    require_accepted(bare, ("key k: no parent",), accept=True, broke_glass="it burns")
    for plan, found, accept, glass in (
        (bare, ("key k: no parent",), False, ""),
        (bare, ("key k: no parent",), True, ""),  # nobody had seen it
        (seen, ("key k: no parent", "view v: gone"), True, ""),
        (seen, ("key k: no parent",), False, "it burns"),
    ):
        with pytest.raises(RestoreFailed, match=r"(?s).*key k|view v"):
            require_accepted(plan, found, accept=accept, broke_glass=glass)
    with pytest.raises(ApprovalMissing):
        require_startable(seen, "shop", AT, "it burns")
    require_startable(seen, "shop", AT, "", accept=True)


def test_a_rehearsal_of_another_state_is_stale() -> None:
    assert not planned().stale
    assert not planned(rehearsed_sha256="aa").stale
    assert planned(rehearsed_sha256="bb").stale


def test_the_alarm_opens_with_the_newest_and_closes_with_a_newer_one() -> None:
    def kinds(*recent: Seen) -> list[str]:
        watched = Watched("acme", "shop", timedelta(hours=26), None, AT, recent)
        return [each.kind for each in standing(Facts([watched]), AT)]

    lacks = Seen("a", AT, 1, 1, not_backed_up=("2 triggers",))
    whole = Seen("b", AT, 1, 1)
    assert kinds(lacks, whole) == ["backup.incomplete"]
    assert kinds(whole, lacks) == []
