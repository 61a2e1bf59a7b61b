"""From the plan to what lies in the stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prune_kit import DAY, PLAN, SEGMENTS, Shop, did, of

from backups import keys, wiring
from backups.errors import Busy, NotFound, StoreDenied, UsageError
from backups.format.manifest import manifest_key
from backups.format.marks import tombstone_key
from backups.keeping import Hold, Release
from backups.locks import exclusive, shared
from backups.model import Destination, Finding, Operation, Plan, Run, Scrub
from backups.run import holds
from backups.run.prune import prune
from backups.run.rebuild import rebuild
from backups.wiring.pruning import prune_ports
from providers.faults import Fault, Faulty


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Two folders. Backups are promised for five days."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    stores = (f"file://{tmp_path}/one", f"file://{tmp_path}/two")
    return Shop(tmp_path / "home", stores).start()


def test_marked_then_deleted_everywhere(shop: Shop) -> None:
    *old, _ = shop.daily(7)
    gone = set(old[:3])
    assert did(shop.prune()) == {"marked": gone}
    assert shop.listed() >= gone  # a tombstone alone unlists nothing
    shop.require_whole()
    assert did(shop.prune()) == {"waits": gone}
    shop.later(3)
    done = did(shop.prune())
    assert done == {
        "unlisted": gone, "deleted": gone, "removed": gone, "marked": set(old[3:6]),
    }  # fmt: skip
    assert not shop.listed() & gone
    assert not any(of(keys, backup) for keys in shop.there().values() for backup in gone)
    shop.require_whole()
    with shop.opened() as app:
        deletions = app.ledger.deletions("shop")
        with pytest.raises(NotFound):
            app.catalog.backup(old[0])
    assert {deletion.backup for deletion in deletions} == gone
    assert {(d.rule, d.removed_at) for d in deletions} == {("expired", shop.clock.now())}
    assert all("its window ended on" in deletion.reason for deletion in deletions)


def test_a_dry_run_shows_that_very_plan_and_changes_nothing(shop: Shop) -> None:
    shop.daily(7)
    before = shop.there()
    plan = shop.plan_of()
    assert shop.there() == before
    assert {decision.backup: decision.reason for decision in shop.prune().decisions} == plan
    assert sorted(plan.values()).count("expired") == 3


def test_nothing_to_delete_no_store_is_asked(shop: Shop, tmp_path: Path) -> None:
    shop.daily(4)
    (tmp_path / "two").rename(tmp_path / "away")
    assert shop.prune().frozen == ""


def test_the_limit_leaves_the_rest_for_the_next_call(shop: Shop) -> None:
    (shop.home / "settings.yaml").write_text("prune_limit: 2\n")
    old = shop.daily(9)[:5]
    first = shop.prune()
    assert (did(first)["marked"], first.left) == (set(old[:2]), 3)
    assert did(shop.prune())["marked"] == set(old[2:4])
    shop.later(3)
    done = shop.prune()
    assert did(done)["removed"] == set(old[:2])
    assert (
        done.left == 2 + 1 + 3 - 2
    )  # two due, one old and three new ones not marked, less two


def place_hold(shop: Shop, backup: str, **more: object) -> Hold:
    with shop.opened() as app:
        entry = app.catalog.backup(backup)
        ports = wiring.hold_ports(app, entry)
        return holds.place(ports, entry, "case 47", "Ann Lee", more.get("until"))  # type: ignore[arg-type]


def end_hold(shop: Shop, hold: Hold) -> Release:
    with shop.opened() as app:
        ports = wiring.hold_ports(app, app.catalog.backup(hold.backup))
        return holds.release(ports, hold, "Bob Ray")


def test_a_hold_placed_in_the_grace_time_keeps_it(shop: Shop) -> None:
    held, other, *_ = shop.daily(6)
    assert did(shop.prune())["marked"] == {held, other}
    hold = place_hold(shop, held)
    shop.later(3)
    done = did(shop.prune())
    assert done["cancelled"] == {held}
    assert done["removed"] == {other}
    assert shop.plan_of()[held] == "hold"
    assert all(tombstone_key("shop", held) not in keys for keys in shop.there().values())
    # The same words again are the same hold, and its end is a mark of its own.
    assert place_hold(shop, held) == hold
    assert end_hold(shop, hold) == end_hold(shop, hold)
    assert did(shop.prune())["marked"] >= {held}  # the whole grace time anew
    shop.later(3)
    assert held in did(shop.prune())["removed"]
    assert not any(of(keys, held) for keys in shop.there().values())  # its holds went with it


def test_a_mark_from_before_a_hold_does_not_count(shop: Shop) -> None:
    """Prune did not run while it was held, so the tombstone still lies there."""
    (held, *_) = shop.daily(5)
    shop.prune()
    hold = place_hold(shop, held)
    shop.later(2)
    end_hold(shop, hold)
    shop.later(2)
    done = did(shop.prune())
    assert held in done["marked"]
    assert "deleted" not in done


def test_a_hold_that_ends_by_itself(shop: Shop) -> None:
    held = shop.daily(6)[0]
    place_hold(shop, held, until=shop.clock.now() + DAY)
    assert shop.plan_of()[held] == "hold"
    shop.clock.time += DAY
    assert shop.plan_of()[held] == "expired"
    with pytest.raises(UsageError):
        place_hold(shop, held, until=shop.clock.now())


def test_a_hold_that_comes_at_the_last_moment_wins(shop: Shop) -> None:
    held = shop.daily(5)[0]
    shop.prune()
    shop.later(3)
    with shop.opened() as app, prune_ports(app, "acme", "shop") as ports:

        class Late:
            """A ledger in which a hold appears just before the deletion."""

            def __getattr__(self, name: str) -> object:
                if name == "delete_backup":
                    place_hold(shop, held)
                return getattr(ports.ledger, name)

        done = prune(replace(ports, ledger=Late()))  # type: ignore[arg-type]
    assert did(done)["held"] == {held}
    shop.require_whole()
    assert held in shop.listed()


def test_holds_are_in_force_whatever_store_fails(shop: Shop, tmp_path: Path) -> None:
    held = shop.daily(6)[0]
    folder = tmp_path / "two" / "v1" / "shop" / held
    (folder / "holds").write_text("a file where a folder must be")
    with pytest.raises(Exception, match="a folder must be"):
        place_hold(shop, held)
    assert shop.plan_of()[held] == "hold"
    (folder / "holds").unlink()
    hold = place_hold(shop, held)  # again, and all is well
    marks = {f"v1/shop/{held}/holds/{hold.id}.dsse.json"}
    assert all(marks <= keys for keys in shop.there().values())


def test_a_rebuilt_catalog_knows_the_holds(shop: Shop, tmp_path: Path) -> None:
    held, freed, *_ = shop.daily(6)
    kept, over = place_hold(shop, held), place_hold(shop, freed)
    end_hold(shop, over)
    again = shop.twin(tmp_path / "again")
    again.declare(PLAN)
    with again.opened() as app:
        trusted = keys.load_verify_keys(app.home)
        for url in again.stores:
            with wiring.bare_store(url) as store:
                rebuilt = rebuild(app.catalog, app.ledger, store, url, trusted)
                assert not rebuilt.unreadable
        recorded = {hold.id: over for hold, over in app.ledger.holds()}
    assert recorded.keys() == {kept.id, over.id}
    assert recorded[kept.id] is None
    assert recorded[over.id] is not None
    assert again.plan_of() == shop.plan_of()


def test_a_hold_that_only_the_bucket_knows_counts(shop: Shop) -> None:
    """The catalog was lost and not yet rebuilt as far as holds go."""
    import sqlite3

    held = shop.daily(6)[0]
    place_hold(shop, held)
    with sqlite3.connect(shop.home / "catalog.sqlite3") as catalog:
        catalog.execute("delete from holds")
    assert shop.plan_of()[held] == "hold"


@pytest.mark.parametrize("damage", ["manifest", "missing", "tombstone", "hold", "folder"])
def test_what_cannot_be_believed_freezes_the_database(
    damage: str, shop: Shop, tmp_path: Path
) -> None:
    ids = shop.daily(7)
    place_hold(shop, ids[-1])
    shop.prune()
    shop.later(3)
    two = tmp_path / "two"
    if damage == "manifest":
        (two / manifest_key("shop", ids[5])).write_text("{}")
    elif damage == "missing":
        (two / manifest_key("shop", ids[5])).unlink()
    elif damage == "tombstone":
        (two / tombstone_key("shop", ids[0])).write_text("{}")
    elif damage == "hold":
        next((two / "v1" / "shop" / ids[-1] / "holds").iterdir()).write_text("{}")
    else:
        two.rename(tmp_path / "away")
    done = shop.prune()
    assert str(two) in done.frozen
    assert done.steps == []
    assert {d.reason for d in done.decisions if d.backup in ids[:3]} == {"unreadable"}


def test_what_the_catalog_does_not_know_freezes_the_database(
    shop: Shop, tmp_path: Path
) -> None:
    shop.daily(7)
    twin = shop.twin(tmp_path / "twin")
    twin.declare(PLAN)
    twin.take(shop.clock.now())
    assert "catalog rebuild" in shop.prune().frozen


def test_no_fresh_backup_nothing_goes(shop: Shop) -> None:
    shop.daily(15, newest=3)
    assert "no fresh good backup" in shop.prune().frozen


def test_a_clock_that_jumps_ten_years_deletes_nothing(shop: Shop) -> None:
    shop.daily(15)
    before = shop.there()
    shop.dates = False
    shop.clock.time += 3650 * DAY
    assert "clock" in shop.prune().frozen
    assert shop.there() == before
    # It goes on by the wrong clock for weeks; the stores' own clocks stay where they were.
    shop.later(15)
    done = shop.prune()
    assert "clock" in done.frozen
    assert done.steps == []
    shop.require_whole()


def test_in_use(shop: Shop) -> None:
    restored, taken, *_ = shop.daily(7)
    now = shop.clock.now()
    with shop.opened() as app:
        app.catalog.start_operation(
            Operation("op", "acme", "shop", restored, "a target", "running", now)
        )
        app.catalog.start_run(Run(taken, "acme", "shop", 1, "running", now))
    plan = shop.plan_of()
    assert (plan[restored], plan[taken]) == ("in-use", "in-use")


def test_a_restore_that_died_keeps_nothing_for_ever(shop: Shop) -> None:
    restored, *_ = shop.daily(7)
    began = shop.clock.now() - 7 * DAY
    with shop.opened() as app:
        app.catalog.start_operation(
            Operation("op", "acme", "shop", restored, "a target", "running", began)
        )
    assert shop.plan_of()[restored] == "expired"


def test_a_copy_under_way_and_pruning_keep_out_of_each_other(shop: Shop) -> None:
    ids = shop.daily(6)
    locks = shop.home / "locks"
    with (
        shared(locks, "shop.copies", "pruning"),
        shared(locks, "shop.copies", "pruning"),
        pytest.raises(Busy, match="a copy of shop"),
    ):
        shop.prune()
    with exclusive(locks, "shop"), pytest.raises(Busy, match="a run of shop"):
        shop.prune()
    with shop.opened() as app, exclusive(locks, "shop.copies"):
        entry = app.catalog.backup(ids[-1])
        with pytest.raises(Busy, match="pruning of shop"):
            wiring.copy_to(app, entry, Destination(shop.stores[1]), lambda *_: None)


def test_what_scrub_found_broken_everywhere_is_not_good(shop: Shop) -> None:
    *_, last = shop.daily(7)
    now = shop.clock.now()

    def scrub(number: int, url: str, *findings: Finding) -> None:
        with shop.opened() as app:
            app.catalog.add_scrub(
                Scrub(f"s{number}", "acme", url, now, now, 1, 1, 0, tuple(findings))
            )
        shop.clock.time = now + timedelta(seconds=number)

    broken = Finding("altered", f"v1/shop/{last}/00000.age", "another size")
    scrub(1, shop.stores[0], broken)
    assert shop.plan_of()[last] == "window"
    with shop.opened() as app, prune_ports(app, "acme", "shop") as ports:
        from backups.run.pruning import known_bad

        assert known_bad(ports) == set()
        scrub(2, shop.stores[1], broken)
        assert known_bad(ports) == {last}
        scrub(3, shop.stores[1])
        assert known_bad(ports) == set()


def test_a_segment_goes_only_when_no_kept_manifest_names_it(shop: Shop) -> None:
    old = shop.take(shop.clock.now() - 6 * DAY)
    with shop.opened() as app:
        entry = app.catalog.backup(old)
        place = wiring.places(app, entry)[0]
        with wiring.place_of(app, entry, place) as store:
            named = wiring.manifest_of(app, store, entry, place).artifacts[0].segments
    shop.daily(4, newest=2)
    user = shop.take(shop.clock.now() - DAY, shared=named)
    shop.daily(0)
    shop.prune()
    shop.later(3)
    done = did(shop.prune())
    assert done["deleted"] == {old}
    assert old not in done.get("removed", set())
    for keys_ in shop.there().values():
        assert of(keys_, old) == {named[0].key}
    shop.require_whole()
    assert did(shop.prune()).get("deleted") is None  # looked at again, nothing to do
    # Once the later one goes, so does what it named.
    for _ in range(3):
        shop.later(3)
        shop.prune()
    assert user not in shop.listed()
    assert not any(of(keys_, old) | of(keys_, user) for keys_ in shop.there().values())


def test_a_raised_plan_counts_at_once(shop: Shop) -> None:
    old = shop.daily(6)[:2]
    assert {shop.plan_of()[backup] for backup in old} == {"expired"}
    shop.declare(Plan("max", 90))
    assert {shop.plan_of()[backup] for backup in old} == {"window"}
    with shop.opened() as app:
        app.catalog.start_run(Run("r", "acme", "shop", 2, "running", shop.clock.now()))
    shop.declare(PLAN)
    assert {shop.plan_of()[backup] for backup in old} == {"downgrade"}


def test_a_database_without_a_policy_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    shop.daily(15)
    other = shop.twin(tmp_path / "other")
    with other.opened() as app:
        trusted = keys.load_verify_keys(app.home)
        with wiring.bare_store(shop.stores[0]) as store:
            rebuild(app.catalog, app.ledger, store, shop.stores[0], trusted)
    assert set(other.plan_of().values()) == {"no-plan"}
    assert other.prune().steps == []


def test_no_rebuild_lists_a_deleted_backup_anew(shop: Shop) -> None:
    old = shop.daily(6)[0]
    shop.prune()
    shop.later(3)
    with shop.opened() as app, prune_ports(app, "acme", "shop") as ports:
        no = [
            Fault("delete", "fail_before", nth=nth, error=StoreDenied("no"))
            for nth in range(1, 40)
        ]
        faulty = tuple(
            replace(shelf, pruner=Faulty(shelf.pruner, no)) for shelf in ports.shelves
        )
        done = prune(replace(ports, shelves=faulty))
        assert did(done)["failed"] >= {old}
        trusted = keys.load_verify_keys(app.home)
        for url in shop.stores:
            with wiring.bare_store(url) as store:
                assert manifest_key("shop", old) in {info.key for info in store.list("v1/")}
                assert rebuild(app.catalog, app.ledger, store, url, trusted).added == 0
    assert old not in shop.listed()
    assert old in did(shop.prune())["removed"]  # the next call goes on


def test_the_kit_makes_what_it_says(shop: Shop) -> None:
    (backup,) = shop.daily(0)
    assert [len(keys_) for keys_ in shop.there().values()] == [SEGMENTS + 1] * 2
    shop.require_whole()
    assert shop.listed() == {backup}
