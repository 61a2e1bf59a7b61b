"""What a session says of itself, and what a tool's words mean in whatever language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from backups.engines.postgres.pins import LOADING, READING, Rung, at, below, options, parsed
from backups.engines.postgres.server import login
from backups.engines.postgres.sessions import Facts
from backups.engines.postgres.tool_errors import Complaint, complaints
from backups.engines.postgres.tool_session import of_tool
from backups.errors import EngineError
from backups.model import Source

NAMES = st.from_regex(r"[a-zA-Z_]{1,20}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))


@given(st.dictionaries(NAMES, VALUES))
def test_settings_survive_as_options(settings: dict[str, str]) -> None:
    assert parsed(options(settings)) == settings


@pytest.mark.parametrize("text", ["-d 5", "-c", "-c x", "x=1"])
def test_another_option_is_not_misread(text: str) -> None:
    with pytest.raises(ValueError, match="not -c"):
        parsed(text)


@pytest.mark.parametrize(
    ("states", "ends_at"),
    [
        ([], Rung.ALL),
        (["42704"], Rung.NO_EVENTS),
        (["42501", "42501"], Rung.USER),
        (["42501", "42704"], Rung.USER),
        (["42501"], Rung.EVENTS),
        (["08P01"], Rung.NOTHING),
        (["42704", "42501"], Rung.USER),
    ],
)
def test_a_login_says_as_much_as_is_taken(states: list[str], ends_at: Rung) -> None:
    rung: Rung | None = Rung.ALL
    for state in states:
        assert rung is not None
        rung = below(rung, state)
    assert rung is ends_at


@pytest.mark.parametrize("state", [None, "28P01", "53300", "57P03", "3D000"])
@pytest.mark.parametrize("rung", list(Rung))
def test_another_refusal_is_no_reason_to_say_less(rung: Rung, state: str | None) -> None:
    assert below(rung, state) is None


def test_the_last_rung_ends() -> None:
    for rung in Rung:
        seen = []
        step: Rung | None = rung
        while step is not None:
            assert step not in seen
            seen.append(step)
            step = below(step, "42501")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("pg_restore: error: could not execute query: FEHLER:  Relation »t« existiert nicht\n"
         "Command was: SELECT FEHLER:  1\n",
         [Complaint("could not execute query: Relation »t« existiert nicht")]),
        ("pg_dump: error: query failed: ERREUR:  droit refusé pour la table t\n"
         "pg_dump: detail: Query was: LOCK TABLE t\n",
         [Complaint("query failed: droit refusé pour la table t")]),
        ("psql:/tmp/x/r:3: FEHLER:  22P02: ungültige Eingabe für Typ integer: »geheim«\n"
         "LINE 1: SELECT 'geheim'\nORT:  x, y.c:5\n",
         [Complaint("error 22P02 in rows", "22P02")]),
        ("psql:/tmp/x/rows0:3: WARNUNG:  01000: nichts\n", []),
        ('psql:a:1: ERROR:  42501: permission denied for table t\n',
         [Complaint("permission denied for table t", "42501")]),
        ("DETAIL:  Schlüssel »(n)=(geheim)«\nKONTEXT:  COPY t, Zeile 1: »geheim«\n", []),
        ('pg_dump: error: connection to server at "h", port 5432 failed: Connection refused\n',
         [Complaint('connection to server at "h", port 5432 failed: Connection refused')]),
        ("pg_dump: warning: there are circular foreign-key constraints\n", []),
    ],
)  # fmt: skip
def test_a_complaint_is_found_in_any_language(said: str, found: list[Complaint]) -> None:
    assert complaints(said) == found


def facts(rung: Rung, holds: bool, **natural: str) -> Facts:
    return Facts(rung, not holds, {**READING, **natural}, holds, "LATIN1")


def test_a_tool_gets_its_settings_by_options() -> None:
    known = facts(Rung.ALL, True, idle_session_timeout="0")
    found, first = of_tool(known, READING, "-c TimeZone=Asia/Tokyo", "pg_dump")
    settings = parsed(found["PGOPTIONS"])
    assert settings["TimeZone"] == "Asia/Tokyo"
    assert settings["event_triggers"] == "off"
    assert settings["idle_session_timeout"] == "0"
    assert "transaction_timeout" not in settings
    assert found["PGCLIENTENCODING"] == "LATIN1"
    assert "PGTZ" not in found  # it would outrank the options
    assert first == []


def test_a_tool_behind_a_pooler_says_what_it_can_or_is_refused() -> None:
    blind = facts(Rung.NOTHING, False, TimeZone="Asia/Tokyo", search_path="public")
    found, _ = of_tool(blind, READING, "-c synchronous_commit=off", "pg_dump")
    assert (found["PGTZ"], found["PGOPTIONS"]) == ("UTC", "")
    found, first = of_tool(blind, READING, "", "psql")
    assert "SET search_path = ''; " in first[0]
    wrong = facts(Rung.NOTHING, False, role="somebody")
    with pytest.raises(EngineError, match="role"):
        of_tool(wrong, READING, "", "pg_dump")


def test_a_copy_is_loaded_in_its_own_time_zone() -> None:
    assert "TimeZone" in at(Rung.ALL, READING)
    assert not {"TimeZone", "DateStyle", "IntervalStyle"} & at(Rung.ALL, LOADING).keys()


def test_connections_over_a_network_are_kept_alive() -> None:
    there = login(Source("postgresql://u@localhost/d?keepalives_idle=7"))
    assert there.parameters["keepalives_idle"] == "7"
    assert int(there.parameters["tcp_user_timeout"]) > 60_000
    tool = conninfo_to_dict(there.conninfo())
    assert tool["keepalives_idle"] == "7"
    assert tool["keepalives_count"] == there.parameters["keepalives_count"]
    assert "tcp_user_timeout" not in login(Source("postgresql://u@/d")).parameters
