"""Nobody sees, asks for, or changes what is another customer's: every path of the API's own
description, and every page, with every foreign id; every way to forge a token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from api_kit import ALL, OLD_SECRET, OPERATORS, SECRET, Town, token
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backups.api.app import create
from backups.api.pages import pages
from backups.api.sessions import link
from backups.wiring.serving_api import house, session_key

pytestmark = pytest.mark.postgres


def routes(town: Town) -> Iterator[tuple[str, str]]:
    """Method and path of everything that takes an id: calls and pages."""
    app = create(house(town.app))
    described = app.openapi()["paths"]
    for path, methods in described.items():
        for method in methods:
            if "{" in path:
                yield method.upper(), path
    for route in pages.routes:
        path = getattr(route, "path", "")
        if "{" in path and path != "/static/{name}":
            for method in getattr(route, "methods", None) or ():
                yield method, path


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: ids.get(match[1], "undo"), path)


BODIES = {"confirm": "x", "name": "some_name", "csrf": "", "key": "a key of mine"}


def call(client: httpx.Client, method: str, path: str, csrf: str = "") -> httpx.Response:
    api = path.startswith("/v1")
    options: dict[str, Any] = {}
    if method == "POST":
        body = {**BODIES, "csrf": csrf}
        options = {"json": body} if api else {"data": body}
        options["headers"] = {"Idempotency-Key": "a key of mine"}
    return client.request(method, path, **options)


@pytest.fixture
def page(town: Town) -> Iterator[httpx.Client]:
    with entered(town, "acme", ALL) as client:
        yield client


@contextmanager
def entered(town: Town, customer: str | None, roles: list[str]) -> Iterator[httpx.Client]:
    """Somebody who followed a link from their dashboard."""
    app = town.app
    nonce = app.entropy.bytes(8).hex()
    signed = link(session_key(app), customer, "ann", roles, app.clock.now(), nonce)
    with httpx.Client(base_url=town.base, timeout=30) as client:
        assert client.get("/enter", params={"link": signed}).status_code == 303
        yield client


def csrf_of(client: httpx.Client, backup: str) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', client.get(f"/backups/{backup}").text)
    assert found
    return found[1]


def test_a_foreign_id_is_as_if_it_did_not_exist(town: Town, page: httpx.Client) -> None:
    mine, theirs = town.ids["acme"], town.ids["birch"]
    nobodys = {kind: f"no-such-{kind}" for kind in theirs}
    csrf = csrf_of(page, mine["backup"])
    tried = 0
    before = len(town.app.requests.all(limit=1000))
    with town.client("acme") as client:
        for method, path in routes(town):
            who = client if path.startswith("/v1") else page
            for foreign in (theirs, *_mixed(mine, theirs, path)):
                found = call(who, method, filled(path, foreign), csrf)
                unknown = call(who, method, filled(path, _like(foreign, mine, nobodys)), csrf)
                assert found.status_code == unknown.status_code == 404, (method, path)
                assert _said(found, theirs) == _said(unknown, nobodys), (method, path)
                tried += 1
    assert tried > 25
    assert len(town.app.requests.all(limit=1000)) == before, "nothing was entered"


def _mixed(mine: dict[str, str], theirs: dict[str, str], path: str) -> Iterator[dict[str, str]]:
    """One foreign id among our own, where a path takes several that are looked up."""
    named = [name for name in re.findall(r"{(\w+)}", path) if name not in ("name", "what")]
    if len(named) > 1:
        for name in named:
            yield {**mine, name: theirs[name]}


def _like(
    foreign: dict[str, str], mine: dict[str, str], nobodys: dict[str, str]
) -> dict[str, str]:
    return {
        kind: name if name == mine[kind] else nobodys[kind] for kind, name in foreign.items()
    }


def _said(answer: httpx.Response, ids: dict[str, str]) -> str:
    text = answer.text
    for name in ids.values():
        text = text.replace(name, "ID")
    return text


def test_own_ids_do_work(town: Town, page: httpx.Client) -> None:
    """So that the test above can fail."""
    with town.client("acme") as client:
        for method, path in routes(town):
            if method == "GET" and not path.endswith("/events"):
                who = client if path.startswith("/v1") else page
                found = who.get(filled(path, town.ids["acme"]))
                assert found.status_code == 200, (path, found.text)


def test_a_list_holds_nothing_foreign(town: Town, page: httpx.Client) -> None:
    described = create(house(town.app)).openapi()["paths"]
    lists = [path for path in described if "{" not in path and path.startswith("/v1")]
    with town.client("acme") as client:
        told = [client.get(path).text for path in lists]
    told += [page.get(path).text for path in ("/", "/reports", "/databases/shop")]
    for text in told:
        for name in ("birch", *town.ids["birch"].values()):
            if name != "report.html":
                assert name not in text
    assert page.get("/fleet").status_code == 404


# --- tokens -----------------------------------------------------------------------------


def raw(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def payload(good: str) -> dict[str, Any]:
    middle = good.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * 4))
    return found


def forged() -> dict[str, str]:
    good = token()
    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, tail = good.split(".")
    other = raw({}, {**payload(good), "customer": "birch"}).split(".")[1]
    return {
        "a dot": ".",
        "no token": "abc",
        "none": raw({"alg": "none", "typ": "JWT"}, payload(good)),
        "None": raw({"alg": "None"}, payload(good)),
        "none with the signature of a good one": f"{raw({'alg': 'none'}, {}).split('.')[0]}"
        f".{body}.{tail}",
        "another customer put in": f"{head}.{other}.{tail}",
        "cut": good[:-3],
        "another secret": token(secret="x" * 40),
        "another algorithm": token(algorithm="HS512", secret=SECRET),
        "a public key as secret": raw({"alg": "HS256"}, payload(good), pem),
        "expired": token(issued=timedelta(hours=-2)),
        "not yet": token(issued=timedelta(hours=2)),
        "lives too long": token(lives=timedelta(hours=5)),
        "without an end": token(exp=None),
        "without a beginning": token(iat=None),
        "another audience": token(aud="billing"),
        "without audience": token(aud=None),
        "another issuer": token(iss="https://evil.example.com"),
        "the operators' issuer by the dashboard's secret": token(iss=OPERATORS),
        "without subject": token(sub=None),
        "without customer": token(None),
        "customer is a list": token(customer=["acme", "birch"]),
        "customer is empty": token(""),
        "roles are text": token(roles="viewer"),  # type: ignore[arg-type]
        "end is text": raw({"alg": "HS256"}, {**payload(good), "exp": "tomorrow"}),
    }  # fmt: skip


@pytest.mark.parametrize("what", sorted(forged()))
def test_a_forged_token_is_nobodys(town: Town, what: str) -> None:
    bearer = forged()[what]
    answer = httpx.get(
        f"{town.base}/v1/databases", headers={"Authorization": f"Bearer {bearer}"}
    )
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "acme" not in answer.text


def test_both_live_secrets_are_believed(town: Town) -> None:
    for secret in (SECRET, OLD_SECRET):
        with town.client(secret=secret) as client:
            assert client.get("/v1/me").status_code == 200


def test_the_customer_comes_from_the_token_only(town: Town) -> None:
    with town.client("acme") as client:
        answer = client.get(
            "/v1/databases", params={"customer": "birch"}, headers={"X-Customer": "birch"}
        )
    assert [each["customer"] for each in answer.json()["items"]] == ["acme"]


@pytest.mark.parametrize(
    ("roles", "expected"), [([], 403), (["king"], 403), (["viewer"], 403), (["restorer"], 404)]
)
def test_roles(town: Town, roles: list[str], expected: int) -> None:
    with town.client("acme", roles=roles) as client:
        answer = call(client, "POST", "/v1/replacements/no-such/undo")
    assert answer.status_code == expected


# --- pages ------------------------------------------------------------------------------


def test_a_link_works_once_and_not_for_long(town: Town) -> None:
    app = town.app
    key, now = session_key(app), app.clock.now()
    once = link(key, "acme", "ann", ["viewer"], now, "0123456789abcdef")
    first = httpx.get(f"{town.base}/enter", params={"link": once})
    assert first.status_code == 303
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert httpx.get(f"{town.base}/enter", params={"link": once}).status_code == 401
    late = link(key, "acme", "ann", ["viewer"], now - timedelta(minutes=2), "f" * 16)
    assert httpx.get(f"{town.base}/enter", params={"link": late}).status_code == 401
    other = link(b"another key" * 4, "acme", "ann", ["viewer"], now, "e" * 16)
    assert httpx.get(f"{town.base}/enter", params={"link": other}).status_code == 401
    # A session is no link, a link no session, and neither is a token of the API.
    session = first.headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert httpx.get(f"{town.base}/enter", params={"link": session}).status_code == 401
    fresh = link(key, "acme", "ann", ["viewer"], now, "d" * 16)
    assert httpx.get(town.base, cookies={"backups-session": fresh}).status_code == 401
    assert httpx.get(town.base, cookies={"backups-session": session}).status_code == 200
    for bearer in (session, fresh):
        headers = {"Authorization": f"Bearer {bearer}"}
        assert httpx.get(f"{town.base}/v1/me", headers=headers).status_code == 401


def test_a_form_of_another_site_does_nothing(town: Town, page: httpx.Client) -> None:
    before = len(town.app.requests.all(limit=1000))
    backup = town.ids["acme"]["backup"]
    for csrf in ("", "0" * 32):
        answer = page.post(
            f"/backups/{backup}/plan", data={"csrf": csrf, "key": "a key of mine"}
        )
        assert answer.status_code in (401, 422)
    with entered(town, "acme", ALL) as other:  # another session's
        stolen = csrf_of(other, backup)
    answer = page.post(f"/backups/{backup}/plan", data={"csrf": stolen, "key": "a key of mine"})
    assert answer.status_code == 401
    assert len(town.app.requests.all(limit=1000)) == before


def test_a_viewer_gets_no_forms_and_none_is_taken(town: Town) -> None:
    backup = town.ids["acme"]["backup"]
    with entered(town, "acme", ["viewer"]) as client:
        assert "<form" not in client.get(f"/backups/{backup}").text
    with entered(town, "acme", ["viewer", "restorer"]) as client:
        assert "<form" in client.get(f"/backups/{backup}").text


def test_every_answer_is_guarded(town: Town, page: httpx.Client) -> None:
    for path in ("/", "/reports", "/v1/me", "/feed.json", "/nothing"):
        headers = page.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
