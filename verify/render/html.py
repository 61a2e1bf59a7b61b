"""The report as one page that needs nothing else. Pure."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from verify.render import charts, words
from verify.report.document import Report
from verify.report.proofs import Test
from verify.report.rows import Covered

ALL_DAYS = 60
"""Rows of exceptions and of deletions that the page shows; the ledgers have them all."""


def html(report: Report) -> str:
    """The page: the same report, the same text."""
    cards = [_card(report, row) for row in report.coverage.rows]
    return _template().render(report=report, cards=cards, charts=charts, limit=ALL_DAYS)


def _card(report: Report, row: Covered) -> dict[str, object]:
    def mine(rows: tuple[object, ...]) -> list[object]:
        return [each for each in rows if getattr(each, "database", "") == row.database]

    return {
        "row": row,
        "total": next(iter(mine(report.backups.totals)), None),
        "days": mine(report.backups.days),
        "times": mine(report.timings.restores),
        "sizes": mine(report.sizes),
        "age": next(iter(mine(report.timings.ages)), None),
    }


def _checks(test: Test) -> str:
    return f"{sum(c.passed is True for c in test.checks)} of {len(test.checks)}"


@lru_cache
def _template() -> Template:
    folder = files("verify.render") / "templates"
    sources = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith((".j2", ".css"))
    }
    environment = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        size=words.size, duration=words.duration, when=words.when, checks=_checks
    )
    environment.globals.update(share=words.share, style=Markup(sources["report.css"]))  # noqa: S704
    return environment.get_template("report.html.j2")
