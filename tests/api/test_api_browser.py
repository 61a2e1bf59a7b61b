"""The pages in a real browser: a customer gets a table back, beside and in place, sees the
difference, undoes it; what a page looks like at any width and in any light."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_kit import ALL, CLOCK, Town, served
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from backups.api.sessions import link
from backups.wiring.serving_api import session_key

pytestmark = pytest.mark.postgres

SHOTS = os.environ.get("BACKUPS_TEST_SHOTS")
"""A folder to keep screenshots in, to be looked at."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield found
        found.close()


def enter(
    town: Town, context: BrowserContext, subject: str, roles: list[str], customer: str | None
) -> Page:
    app = town.app
    nonce = app.entropy.bytes(8).hex()
    signed = link(session_key(app), customer, subject, roles, app.clock.now(), nonce)
    page = context.new_page()
    page.goto(f"{town.base}/enter?link={signed}")
    return page


@pytest.fixture
def context(browser: Browser, town: Town) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    context.on("request", lambda one: asked.append(one.url))
    yield context
    context.close()
    assert all(url.startswith(("http://127.0.0.1", "data:")) for url in asked), asked


def working(town: Town, page: Page, words: str) -> None:
    """Work is done meanwhile; the page finds out by itself."""
    worker = threading.Thread(target=town.work)
    worker.start()
    page.get_by_text(words).first.wait_for(timeout=30_000)
    worker.join()


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def test_a_customer_gets_their_rows_back(town: Town, context: BrowserContext) -> None:
    town.execute("shop", "delete from t where a > 7")
    page = enter(town, context, "ann", ALL, "acme")
    page.get_by_role("link", name="shop", exact=True).click()
    assert page.locator(".calendar li").count() == 91
    page.locator("tbody a").filter(has_text=re.compile("UTC")).last.click()
    page.go_back()
    page.goto(f"{town.base}/backups/{town.ids['acme']['backup']}")
    shot(page, "backup")

    # Beside it first: nothing that is there is touched.
    live = town.urls["shop"].partition("?")[0].rpartition("/")[2]
    page.get_by_label("Name of the new database").fill(f"{live}_beside")
    page.get_by_role("button", name="Restore beside it").click()
    working(town, page, "It is there")
    shot(page, "beside")
    assert town.rows("shop") == 7

    page.goto(f"{town.base}/backups/{town.ids['acme']['backup']}")
    page.get_by_role("button", name="Show me what would happen").click()
    working(town, page, "See what would happen")
    page.get_by_role("link", name="See what would happen").click()
    assert "7" in page.locator("main").inner_text()
    shot(page, "plan")
    page.get_by_role("button", name="Rehearse it").click()
    working(town, page, "See what would happen")
    page.get_by_role("link", name="See what would happen").click()
    assert "What the rehearsal showed" in page.locator("main").inner_text()
    assert "public.t: " in page.locator("main").inner_text()
    shot(page, "rehearsed")
    assert town.rows("shop") == 7
    page.get_by_label("Type the live database's name").fill("something else")
    page.get_by_role("button", name="Replace it").click()
    assert page.get_by_text("That did not work").is_visible()
    shot(page, "problem")
    page.go_back()
    page.get_by_label("Type the live database's name").fill(live)
    page.get_by_role("button", name="Replace it").click()
    working(town, page, "See how it stands")
    assert town.rows("shop") == 40
    page.get_by_role("link", name="See how it stands").click()
    shot(page, "replaced")
    page.get_by_role("button", name="Go back to the old database").click()
    working(town, page, "See how it stands")
    assert town.rows("shop") == 7
    town.execute("shop", "insert into t select generate_series(8, 40)")


def test_another_person_approves(town: Town, browser: Browser, context: BrowserContext) -> None:
    from dataclasses import replace

    page = enter(town, context, "ann", ALL, "acme")
    page.goto(f"{town.base}/backups/{town.ids['acme']['backup']}")
    page.get_by_role("button", name="Show me what would happen").click()
    working(town, page, "See what would happen")
    page.get_by_role("link", name="See what would happen").click()
    plan = page.url.rpartition("/")[2]
    found = town.app.replacements.one(plan)
    town.app.replacements.save(replace(found, needs="person"), "planned")
    page.reload()
    assert page.get_by_text("Another person must approve it first").is_visible()
    assert not page.get_by_role("button", name="I approve it").is_visible()
    second = browser.new_context()
    other = enter(town, second, "bea", ["viewer", "restore_approver"], "acme")
    other.goto(page.url)
    other.get_by_role("button", name="I approve it").click()
    other.get_by_text("Approved by bea").wait_for()
    second.close()
    page.reload()
    page.get_by_role("button", name="Throw this plan away").click()
    working(town, page, "See how it stands")


def test_a_session_that_is_over_says_what_to_do(town: Town, context: BrowserContext) -> None:
    page = enter(town, context, "ann", ALL, "acme")
    context.clear_cookies()
    page.goto(f"{town.base}/databases/shop")
    assert page.get_by_text("Open the page anew from your dashboard").is_visible()


def test_the_server_starts_again_midway(town: Town, context: BrowserContext) -> None:
    """What was asked for goes on, and the session too: both are in the home."""
    page = enter(town, context, "ann", ALL, "acme")
    page.goto(f"{town.base}/backups/{town.ids['acme']['backup']}")
    page.get_by_role("button", name="Show me what would happen").click()
    path = page.url.removeprefix(town.base)
    with served(town.app) as other:  # another instance, of another address: same cookie's host
        page.goto(other + path)
        working(town, page, "See what would happen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_pages_fit_and_can_be_read(
    town: Town, browser: Browser, width: int, scheme: str
) -> None:
    ids = town.ids["acme"]
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = enter(town, context, "ann", ALL, "acme")
    told: list[str] = []
    page.on("console", lambda one: told.append(one.text))
    paths = {
        "databases": "/", "database": "/databases/shop", "backup": f"/backups/{ids['backup']}",
        "test": f"/tests/{ids['test']}", "reports": "/reports",
        "replacement": f"/replacements/{ids['replacement']}",
        "operation": f"/operations/{ids['operation']}",
    }  # fmt: skip
    for name, path in paths.items():
        page.goto(town.base + path)
        shot(page, f"{name}-{width}-{scheme}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, (name, wide)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('a,button,input:not([type=hidden])')].filter(e =>"
            " !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length))"
            ".map(e => e.outerHTML)"
        )
        assert unnamed == [], "everything that can be used has a name to be read out"
        assert page.locator("h1").count() == 1
    operators = browser.new_context(viewport={"width": width, "height": 900})
    page = enter(town, operators, "op", ALL, None)
    page.goto(f"{town.base}/fleet")
    shot(page, f"fleet-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert told == []
    context.close()
    operators.close()


def test_by_keyboard_alone(town: Town, context: BrowserContext) -> None:
    page = enter(town, context, "ann", ALL, "acme")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "shop":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/databases/shop")
    assert CLOCK.now()
