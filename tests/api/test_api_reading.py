"""Reading: what a customer sees of their own, and how errors, pages and tags look."""

from __future__ import annotations

import pytest
from api_kit import AUDIENCE, ISSUER, OPERATORS, SECRET, Town, token

pytestmark = pytest.mark.postgres


def test_a_customer_sees_their_own(town: Town) -> None:
    ids = town.ids["acme"]
    with town.client() as client:
        assert client.get("/v1/me").json()["customer"] == "acme"
        (database,) = client.get("/v1/databases").json()["items"]
        assert database["id"] == "shop"
        (backup, *_) = client.get("/v1/databases/shop/backups").json()["items"]
        assert backup["verdict"] == "PASSED"
        assert client.get(f"/v1/backups/{ids['backup']}").json() == backup
        test = client.get(f"/v1/tests/{ids['test']}").json()
        assert {check["name"] for check in test["checks"]} >= {"downloaded", "rows", "content"}
        (report,) = client.get("/v1/reports").json()["items"]
        files = client.get(f"/v1/reports/{report['id']}").json()["files"]
        assert "statement.dsse.json" in files
        page = client.get(f"/v1/reports/{report['id']}/files/report.html")
        assert b"shop" in page.content
        assert b"birds" not in page.content
        events = client.get("/v1/events", params={"limit": 200}).json()["items"]
        assert {"backup.committed", "drill.recorded"} <= {each["type"] for each in events}


def test_an_operator_sees_all(town: Town) -> None:
    options = {"secret": SECRET[::-1], "iss": OPERATORS}
    with town.client(None, **options) as client:
        found = client.get("/v1/databases").json()["items"]
    assert {each["customer"] for each in found} == {"acme", "birch"}


def test_pages_of_a_list(town: Town) -> None:
    with town.client(None, secret=SECRET[::-1], iss=OPERATORS) as client:
        first = client.get("/v1/databases", params={"limit": 1}).json()
        second = client.get("/v1/databases", params={"cursor": first["next"]}).json()
        assert [len(first["items"]), len(second["items"]), second["next"]] == [1, 1, None]
        wrong = client.get("/v1/databases", params={"cursor": "nobody"})
        assert wrong.status_code == 422
        assert wrong.headers["content-type"] == "application/problem+json"
        assert wrong.json()["next"] == "Begin without one."


def test_what_did_not_change_is_not_sent_again(town: Town) -> None:
    with town.client() as client:
        first = client.get("/v1/databases")
        again = client.get("/v1/databases", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = client.get("/v1/databases", headers={"If-None-Match": '"else"'})
        assert other.status_code == 200


def test_the_public_feed_names_nobody(town: Town) -> None:
    with town.client() as client:
        client.headers.pop("authorization")
        found = client.get("/feed.json")
        assert found.json()["backups"]["databases"] == 2
        assert found.json()["restore_tests"]["passed"] == 2
        atom = client.get("/feed.atom")
        assert atom.headers["content-type"].startswith("application/atom+xml")
        assert atom.text.startswith('<?xml version="1.0"')
    for text in (found.text, atom.text):
        for name in ("acme", "birch", "shop", "birds"):
            assert name not in text


def test_too_many_calls(town: Town) -> None:
    from backups.api.limits import Limits
    from backups.errors import TooManyCalls

    now = [0.0]
    limits = Limits(3, lambda: now[0])
    for _ in range(3):
        limits.take("acme")
    with pytest.raises(TooManyCalls):
        limits.take("acme")
    limits.take("birch")
    now[0] += 20
    limits.take("acme")


def test_the_description_is_openapi_3_1(town: Town) -> None:
    with town.client() as client:
        said = client.get("/openapi.json").json()
    assert said["openapi"].startswith("3.1")
    assert AUDIENCE
    assert ISSUER
    assert token()
