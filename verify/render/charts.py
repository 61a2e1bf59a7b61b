"""Charts as inline SVG: no script, no font, nothing from elsewhere. Pure.

Colours come from the page's style sheet by class, so that light, dark and print are its matter.
Each chart has a title that says the same in words, and never tells by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from markupsafe import Markup, escape

from verify.render.words import duration, size
from verify.report.proofs import Size, Timing
from verify.report.rows import Covered, DayRow

GLYPHS: Mapping[str, str] = MappingProxyType({"missed": "x", "failed": "x", "late": "!"})
"""Beside its colour, for whoever doesn't see it."""


def _svg(width: int, height: int, title: str, body: str, kind: str) -> Markup:
    return Markup(  # noqa: S704  # every text in it was escaped
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def coverage(rows: Sequence[Covered]) -> Markup:
    """One bar: a piece for each outcome, as wide as its share."""
    order = ("PASSED", "FAILED", "DIED", "ENVIRONMENT", "INCONCLUSIVE", "NOT TESTED")
    counts = {name: sum(row.outcome == name for row in rows) for name in order}
    title = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    body, x = "", 0.0
    for name, count in counts.items():
        if not count:
            continue
        width = 1000 * count / len(rows)
        kind = name.lower().replace(" ", "-")
        body += f'<rect class="o-{kind}" x="{x:.1f}" y="0" width="{width:.1f}" height="28"/>'
        if x:
            body += f'<rect class="gap" x="{x - 1.5:.1f}" y="0" width="3" height="28"/>'
        x += width
    return _svg(1000, 28, title or "no database", body, "bar")


def calendar(days: Sequence[DayRow]) -> Markup:
    """One square a day."""
    title = "; ".join(
        f"{day.day}: {day.state}" for day in days if day.state in ("missed", "failed", "late")
    )
    body = ""
    for nth, day in enumerate(days):
        x, kind = nth * 14, day.state.replace(" ", "-")
        body += f'<rect class="d-{kind}" x="{x}" y="0" width="12" height="22" rx="2"/>'
        if day.state in GLYPHS:
            glyph = GLYPHS[day.state]
            body += (
                f'<text class="glyph" x="{x + 6}" y="15" text-anchor="middle">{glyph}</text>'
            )
    words = title or "a backup on every day that asked for one"
    return _svg(14 * len(days) - 2, 22, words, body, "calendar")


def against(times: Sequence[Timing]) -> Markup:
    """The slowest restore as a bar on a scale of which the target is three quarters."""
    slowest = max(times, key=lambda time: time.restore_milliseconds)
    took, target = slowest.restore_milliseconds, (slowest.rto_seconds or 0) * 1000
    full = max(took, target * 4 / 3, 1)
    kind = "over" if slowest.rto_met is False else "within"
    body = '<rect class="track" x="0" y="5" width="200" height="8" rx="2"/>'
    width = max(2.0, 200 * took / full)
    body += f'<rect class="{kind}" x="0" y="5" width="{width:.1f}" height="8" rx="2"/>'
    if target:
        body += (
            f'<rect class="target" x="{200 * target / full:.1f}" y="0" width="2" height="18"/>'
        )
    title = f"slowest restore {duration(took)}, target {duration(target) if target else 'none'}"
    return _svg(200, 18, title, body, "against")


def sizes(rows: Sequence[Size]) -> Markup:
    """Plain bytes over the month, as a line from nought, with the stored ones below it."""
    most = max([1, *(row.plain_bytes for row in rows)])
    body = ""
    for kind, values in (
        ("plain", [row.plain_bytes for row in rows]),
        ("stored", [row.stored_bytes for row in rows]),
    ):
        points = [
            ((int(row.taken_at[8:10]) - 1) * 200 / 30, 38 - 34 * value / most)
            for row, value in zip(rows, values, strict=True)
        ]
        if len(points) == 1:
            x, y = points[0]
            body += f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
        for (x1, y1), (x2, y2) in pairwise(points):
            body += f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
    first, last = rows[0], rows[-1]
    title = f"from {size(first.plain_bytes)} to {size(last.plain_bytes)}; "
    title += f"stored as {size(last.stored_bytes)}"
    return _svg(200, 40, title, body, "sizes")
