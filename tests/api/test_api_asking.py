"""Asking: restores, replacements, the same key twice, what can't be, on a real server."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from api_kit import CLOCK, Town, served

from backups.wiring.serving_api import DRAIN_SECONDS

pytestmark = pytest.mark.postgres


def ask(client: httpx.Client, path: str, key: str, **body: Any) -> httpx.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def done(town: Town, client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    town.work()
    found: dict[str, Any] = client.get(answer.headers["location"]).json()
    return found


def test_a_lost_table_comes_back_in_place_and_is_undone(town: Town) -> None:
    backup = town.ids["acme"]["backup"]
    town.execute("shop", "delete from t where a > 5")
    with town.client("acme", subject="ann") as client:
        asked = ask(client, "/v1/databases/shop/replacements", "plan one", backup=backup)
        planned = done(town, client, asked)
        assert planned["state"] == "done", planned
        plan = client.get(f"/v1/replacements/{planned['result']}").json()
        assert plan["difference"]
        assert town.rows("shop") == 5
        wrong = ask(client, f"/v1/replacements/{plan['id']}/start", "go one 1", confirm="x")
        assert wrong.status_code == 422
        assert plan["live"] in wrong.json()["next"]
        start = f"/v1/replacements/{plan['id']}/start"
        started = ask(client, start, "go one 2", confirm=plan["live"])
        assert done(town, client, started)["state"] == "done"
        assert town.rows("shop") == 40
        again = ask(client, start, "go one 2", confirm=plan["live"])
        assert again.json()["id"] == started.json()["id"], "the same key, the same operation"
        assert client.get(f"/v1/replacements/{plan['id']}").json()["state"] == "replaced"
        undone = ask(client, f"/v1/replacements/{plan['id']}/undo", "back one 1")
        assert done(town, client, undone)["state"] == "done"
        assert town.rows("shop") == 5
    town.execute("shop", "insert into t select generate_series(6, 40)")


def test_a_copy_beside(town: Town) -> None:
    with town.client() as client:
        name = town.urls["shop"].partition("?")[0].rpartition("/")[2] + "_copy"
        asked = ask(client, "/v1/databases/shop/restores", "copy one", name=name)
        found = done(town, client, asked)
        assert (found["state"], found["result"]) == ("done", name)
        taken = ask(client, "/v1/databases/shop/restores", "copy two", name=name)
        failed = done(town, client, taken)
        assert failed["state"] == "failed"
        assert "not empty" in failed["error"]
        assert failed["next"]


def test_the_same_key_for_something_else(town: Town) -> None:
    with town.client() as client:
        path = "/v1/databases/shop/restores"
        live = town.urls["shop"].partition("?")[0].rpartition("/")[2]
        assert ask(client, path, "key three", name=f"{live}_one").status_code == 202
        assert ask(client, path, "key three", name=f"{live}_one").status_code == 202
        other = ask(client, path, "key three", name=f"{live}_two")
        assert other.status_code == 422
        assert "Idempotency-Key" in other.json()["detail"]
        assert client.post(path, json={"name": "x"}).status_code == 422, "without a key"
    with town.client("birch") as client:  # a key is a customer's own
        live = town.urls["birds"].partition("?")[0].rpartition("/")[2]
        path = "/v1/databases/birds/restores"
        theirs = ask(client, path, "key three", name=f"{live}_one")
        assert theirs.status_code == 202


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"name": "Robert'); drop table students"}, 422),
        ({"name": "a", "backup": "nothing-like-it"}, 404),
        ({"name": "a", "at": "2001-01-01T00:00Z"}, 404),
        ({"name": "a", "at": "yesterday"}, 422),
        ({"name": "a", "at": "2026-11-23", "backup": "b"}, 422),
    ],
)
def test_bad_input_is_a_problem_that_says_what_to_do(
    town: Town, body: dict[str, str], status: int
) -> None:
    with town.client() as client:
        answer = ask(client, "/v1/databases/shop/restores", "a key of mine", **body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "next"}
    assert problem["next"]


def test_another_person_approves(town: Town) -> None:
    """Where a plan asks for a second person the role alone is not enough: it is another."""
    backup = town.ids["acme"]["backup"]
    with town.client("acme", subject="ann") as ann, town.client(subject="bea") as bea:
        asked = ask(ann, "/v1/databases/shop/replacements", "plan four", backup=backup)
        plan = done(town, ann, asked)["result"]
        found = town.app.replacements.one(plan)
        town.app.replacements.save(replace(found, needs="person"), "planned")
        path = f"/v1/replacements/{plan}"
        early = ask(ann, f"{path}/start", "go four 1", confirm=found.live)
        assert early.status_code == 409
        assert ask(ann, f"{path}/approvals", "approve 1").status_code == 409
        with town.client(subject="cid", roles=["restorer"]) as cid:
            assert ask(cid, f"{path}/approvals", "approve 2").status_code == 403
        assert ask(bea, f"{path}/approvals", "approve 3").json()["approved_by"] == "bea"
        assert ask(bea, f"{path}/approvals", "approve 3").status_code == 200
        cancelled = done(town, ann, ask(ann, f"{path}/cancel", "cancel 1"))
        assert cancelled["state"] == "done"


def test_progress_comes_as_events_and_the_work_survives_the_api(town: Town) -> None:
    with town.client() as client:
        name = town.urls["shop"].partition("?")[0].rpartition("/")[2] + "_events"
        asked = ask(client, "/v1/databases/shop/restores", "events one", name=name)
    seen: list[dict[str, Any]] = []
    path = f"{asked.headers['location']}/events"
    with served(town.app) as other:  # the one that was asked may be gone
        worker = threading.Thread(target=town.work)
        with town.client() as client, client.stream("GET", f"{other}{path}") as stream:
            worker.start()
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:]))
        worker.join()
    assert seen[0]["state"] in ("queued", "running")
    assert seen[-1]["state"] == "done"


def test_who_died_in_the_middle_is_told(town: Town) -> None:
    with town.client() as client:
        asked = ask(client, "/v1/databases/shop/restores", "dead one", name="api_never_made")
        found = town.app.requests.one(asked.json()["id"])
        town.app.requests.save(replace(found, state="running"))
        town.work()
        ended = client.get(asked.headers["location"]).json()
    assert ended["state"] == "failed"
    assert "ended in the middle" in ended["error"]


def test_streams_left_open_hold_up_neither_calls_nor_the_end(town: Town) -> None:
    """More of them than the server has threads; their operation never ends."""
    with town.client() as client:
        asked = ask(client, "/v1/databases/shop/restores", "for ever", name="api_for_ever")
    found = town.app.requests.one(asked.json()["id"])
    town.app.requests.save(replace(found, state="running"))
    path = f"{asked.headers['location']}/events"
    streams = 60
    with ExitStack() as left_open:
        client = left_open.enter_context(town.client())
        with served(town.app) as other:
            for _ in range(streams):
                stream = left_open.enter_context(client.stream("GET", f"{other}{path}"))
                assert next(stream.iter_lines()) == "event: operation"
            assert client.get(f"{other}/v1/databases").status_code == 200
            asked_to_end = CLOCK.monotonic()
        assert CLOCK.monotonic() - asked_to_end < 4 * DRAIN_SECONDS
    town.app.requests.save(replace(found, state="failed"))
