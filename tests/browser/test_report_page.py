"""The report's page in a real browser: narrow, wide, dark and on paper, from one file alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_kit import facts

from verify.render.html import html
from verify.report.build import build


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html(build(facts(), None)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield found
        found.close()


@pytest.fixture(params=[(400, "light"), (1400, "light"), (1400, "dark")])
def page(request: pytest.FixtureRequest, browser: Browser, page_file: Path) -> Iterator[Page]:
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: said.append(one.text))
    page.goto(page_file.as_uri())
    yield page
    context.close()
    assert asked == [page_file.as_uri()], "one self-contained file"
    assert said == []


def test_it_fits_and_says_the_worst_first(page: Page) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"]  # type: ignore[index]
    top = page.locator("main").inner_text()
    assert top.index("2 of 5 databases") < top.index("Coverage") < top.index("Exceptions")
    for name in ("blog", "dead", "lone"):
        assert page.get_by_text(name, exact=True).first.is_visible()
    # Nothing sticks out of its box, which a page's width does not tell.
    cut = page.evaluate(
        "[...document.querySelectorAll('td,th,h1,h2,p,dd')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth)"
        ".map(e => e.textContent)"
    )
    assert cut == []


def test_it_can_be_read_in_any_light(page: Page) -> None:
    """WCAG 2.1, 1.4.3: text against what is behind it, at least 4.5 to 1."""
    worst = page.evaluate(
        """() => {
          const parse = c => { const m = c.match(/[\\d.]+/g).map(Number);
                               return m.length == 3 ? [...m, 1] : m };
          const light = ([r, g, b]) => { const f = v => { v /= 255;
              return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 };
              return .2126 * f(r) + .7152 * f(g) + .0722 * f(b) };
          const behind = e => { for (; e; e = e.parentElement) {
              const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > .9) return c }
              return parse(getComputedStyle(document.documentElement).backgroundColor) };
          let found = [99, ''];
          for (const e of document.querySelectorAll('p,td,th,dd,dt,h1,h2,small,summary,span')) {
            if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
            const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < found[0]) found = [ratio, e.className + ': ' + e.textContent];
          }
          return found }"""
    )
    assert worst[0] >= 4.5, worst


def test_it_prints(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    assert page.get_by_text("Reviewed by a person").first.is_visible()
    paper = page.pdf(format="A4")
    page.close()
    assert paper.startswith(b"%PDF")
    from io import BytesIO

    from pypdf import PdfReader

    text = "".join(sheet.extract_text() for sheet in PdfReader(BytesIO(paper)).pages)
    for name in ("blog", "dead", "lone", "shop", "birds"):
        assert name in text
