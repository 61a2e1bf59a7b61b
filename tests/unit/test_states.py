"""What each state allows, what ends it, and what a fleet file makes of those recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backups.declared import Destination, Plan, Policy, Standing
from backups.errors import ConfigError
from backups.fleet import Fleet, policies
from backups.fleet.states import (
    STATES,
    declared_standings,
    in_words,
    obeying,
    refuse_backup,
    refuse_restore,
    standing_of,
    state_of,
)

KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
LATER = NOW + timedelta(days=3)


def fleet(retired: bool = False, **customer: Any) -> Fleet:
    database = {"id": "acme-main", "engine": "postgresql", "url": "postgresql://db/main"}
    return Fleet.model_validate(
        {
            "customers": [
                {
                    "id": "acme",
                    "plan": "pro",
                    "stores": [{"url": "s3://acme"}],
                    "recipients": [KEY],
                    "databases": [database | {"retired": retired}],
                    **customer,
                }
            ]
        }
    )


def applied(
    declared: Fleet, known: list[Standing], now: datetime = NOW
) -> tuple[list[Standing], str, bool]:
    """How things stand after it, in which state the database is, and whether the schedule
    leaves it alone."""
    found = policies(declared)
    standings = declared_standings(declared, found, known, now)
    (policy,) = obeying(found, standings)
    return standings, state_of(standings, "acme", "acme-main").name, policy.paused


def test_who_says_nothing_is_active() -> None:
    assert applied(fleet(), [])[1:] == ("active", False)


@pytest.mark.parametrize("state", ["paused", "leaving", "erased"])
def test_a_declared_state_and_back(state: str) -> None:
    known, found, alone = applied(fleet(state=state), [])
    assert (found, alone) == (state, True)
    assert applied(fleet(state=state), known, LATER)[0] == known  # its date stays
    assert applied(fleet(state="active"), known, LATER)[1:] == ("active", False)


@pytest.mark.parametrize("state", ["paused", "leaving"])
def test_a_state_that_is_taken_out_of_the_file_is_over(state: str) -> None:
    known, _, _ = applied(fleet(state=state), [])
    assert applied(fleet(), known)[1:] == ("active", False)


@pytest.mark.parametrize("state", ["left", "erased"])
def test_what_a_command_did_is_not_undone_by_silence(state: str) -> None:
    known = [Standing("acme", "", state, NOW, reason="they asked")]
    standings, found, alone = applied(fleet(), known, LATER)
    assert (found, alone) == (state, True)
    assert standings[0] == known[0]
    assert applied(fleet(state="active"), known, LATER)[1:] == ("active", False)


def test_who_left_is_not_leaving_again() -> None:
    known = [Standing("acme", "", "left", NOW)]
    assert applied(fleet(state="leaving"), known, LATER)[1] == "left"


def test_a_retired_database_has_a_day_that_stays() -> None:
    known, found, alone = applied(fleet(retired=True), [])
    assert (found, alone) == ("retired", True)
    assert known[1].until == date(2026, 12, 23)  # 30 days, by its plan
    again, _, _ = applied(fleet(retired=True, plan="max"), known, LATER)
    assert again[1] == known[1]
    assert applied(fleet(), known, LATER)[1:] == ("active", False)


def test_the_customers_state_goes_before_the_databases() -> None:
    standings, found, _ = applied(fleet(retired=True, state="paused"), [])
    assert found == "paused"
    assert standing_of(standings, "acme", "acme-main") == standings[0]
    assert standing_of(standings, "other", "acme-main") is None
    assert state_of(standings, "other", "acme-main").name == "active"


def test_words_say_since_when_until_when_and_why() -> None:
    standing = Standing("acme", "", "paused", NOW, date(2026, 11, 25), "invoice 4711")
    assert in_words(standing, NOW) == (
        "paused since 2026-11-23 until 2026-11-25 (invoice 4711)"
    )
    assert "which is over: decide" in in_words(standing, NOW + timedelta(days=3))
    assert "over" not in in_words(standing, NOW + timedelta(days=2))


@pytest.mark.parametrize("name", list(STATES))
def test_a_refusal_names_the_state_and_the_way_back(name: str) -> None:
    state = STATES[name]
    standing = Standing("acme", "acme-main" if name == "retired" else "", name, NOW)
    for allowed, refuse in (
        (state.back_up, lambda: refuse_backup(standing, NOW, "acme-main")),
        (
            state.back_up or name == "leaving",
            lambda: refuse_backup(standing, NOW, "acme-main", anyway=True),
        ),
        (state.restore, lambda: refuse_restore(standing, NOW, "acme-main")),
    ):
        if allowed:
            refuse()
            continue
        with pytest.raises(ConfigError, match=f"{name} since 2026-11-23") as caught:
            refuse()
        assert caught.value.hint == state.way_back
        assert "`" in state.way_back  # something to type


def test_only_the_schedule_flag_is_touched() -> None:
    policy = Policy(
        "acme", "acme-main", 0, Plan("pro", 30), "postgresql", "postgresql://db/main", None,
        (Destination("s3://acme"),), (KEY,),
    )  # fmt: skip
    paused = Standing("acme", "", "paused", NOW)
    assert obeying([policy], []) == [policy]
    assert obeying([policy], [paused]) == [replace(policy, paused=True)]
    assert obeying([policy], [replace(paused, customer="other")]) == [policy]
