"""The report in short as a PDF, to be printed or filed. Pure; the same report has the same
content.

The fonts that every reader has know Latin-1 alone: other letters become `?` here, and stand
as they are in the other forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fpdf import FPDF
from fpdf.fonts import FontFace

from verify.render.words import duration, share, when
from verify.report.document import Report

INK, FAINT, LINE = (28, 32, 38), (96, 104, 114), (210, 214, 220)
GREEN, RED = (22, 108, 66), (170, 36, 36)
LONGEST = 400
"""Rows of one table: the rest is in the CSV ledgers, and the PDF says so."""


class _Paper(FPDF):
    title_: str = ""

    def footer(self) -> None:
        """On every page."""
        self.set_y(-12)
        self.set_font("helvetica", size=8)
        self.set_text_color(*FAINT)
        self.cell(0, 5, self.title_)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="R")


def pdf(report: Report) -> bytes:
    """The document's bytes."""
    identity, coverage = report.identity, report.coverage
    paper = _Paper(format="A4")
    paper.set_creation_date(datetime.fromisoformat(identity.evidence_until))
    who = identity.customer or "the whole fleet"
    paper.title_ = _latin(f"Backup and restore report {identity.month}, {who}")
    paper.set_title(paper.title_)
    paper.set_margins(16, 16)
    paper.set_auto_page_break(True, 18)
    paper.add_page()
    paper.set_text_color(*(RED if report.state == "BLOCKED" else INK))
    paper.set_font("helvetica", "B", 13)
    _words(paper, report.headline)
    paper.set_text_color(*INK)
    paper.set_font("helvetica", "B", 20)
    _words(paper, f"{identity.month} - {who}", 10)
    paper.set_font("helvetica", size=9)
    paper.set_text_color(*FAINT)
    _words(
        paper,
        f"Program {identity.program}. Evidence until {when(identity.evidence_until)} UTC. "
        f"Previous statement: {identity.previous or 'none'}."
        + (f" Corrects {identity.corrects}: {identity.reason}" if identity.corrects else ""),
    )
    _table(
        paper,
        f"Coverage: {coverage.passed} of {coverage.databases} "
        f"({share(coverage.passed, coverage.databases)})",
        ("Customer", "Database", "Outcome", "Level", "Why not"),
        [
            (r.customer, r.database, r.outcome, "" if r.level is None else f"L{r.level}",
             r.reason)
            for r in coverage.rows
        ],
        (20, 22, 18, 9, 60),
    )  # fmt: skip
    _table(
        paper,
        "Exceptions",
        ("Customer", "Subject", "What", "In words"),
        [(e.customer, e.subject, e.kind, e.words) for e in report.exceptions],
        (18, 28, 20, 70),
    )
    _table(
        paper,
        "Backups, expected against taken",
        ("Database", "Zone", "Expected", "Taken", "Late", "Missed", "Failed runs"),
        [
            (t.database, t.zone, str(t.expected), str(t.ran), str(t.late), str(t.missed),
             str(t.failures))
            for t in report.backups.totals
        ],
        (30, 26, 14, 12, 12, 12, 16),
    )  # fmt: skip
    _table(
        paper,
        "Restore tests",
        ("Database", "Began (UTC)", "Outcome", "Checks", "Restore", "Target"),
        [
            (
                test.database,
                when(test.began_at),
                test.outcome,
                f"{sum(c.passed is True for c in test.checks)} of {len(test.checks)}",
                duration(time.restore_milliseconds if time else None),
                duration(time.rto_seconds * 1000 if time and time.rto_seconds else None),
            )
            for test in report.tests + report.cold_starts
            for time in [next((t for t in report.timings.restores if t.test == test.id), None)]
        ],
        (32, 28, 22, 16, 16, 16),
    )
    tested = report.self_test
    _table(
        paper,
        f"The verifier's own test: {tested.caught} of {tested.tried} damaged copies rejected",
        ("Damage", "Check that must reject it", "Tried", "Rejected"),
        [(d.damage, d.check, str(d.tried), str(d.caught)) for d in tested.damages],
        (70, 36, 12, 14),
    )
    _table(
        paper,
        "Where evidence stands (pointers; no claim of compliance)",
        ("Framework", "Rule", "Asks", "Blocks of report.json"),
        [(c.framework, c.rule, c.asks, ", ".join(c.blocks)) for c in report.controls],
        (24, 26, 46, 46),
    )
    paper.ln(8)
    paper.set_font("helvetica", size=9)
    _words(paper, "Signed by a machine: statement.dsse.json. Reviewed by a person:")
    paper.ln(10)
    _words(paper, "Name ______________________   Date ____________   Signature ______________")
    return bytes(paper.output())


def _words(paper: FPDF, text: str, height: float = 5.5) -> None:
    paper.multi_cell(0, height, _latin(text), new_x="LMARGIN", new_y="NEXT")


def _table(
    paper: FPDF,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: tuple[int, ...],
) -> None:
    paper.ln(5)
    paper.set_text_color(*INK)
    paper.set_font("helvetica", "B", 12)
    _words(paper, title, 7)
    paper.set_font("helvetica", size=8)
    if not rows:
        _words(paper, "None.")
        return
    paper.set_draw_color(*LINE)
    head = FontFace(emphasis="BOLD", color=FAINT)
    with paper.table(
        col_widths=widths, headings_style=head, line_height=4.4, text_align="LEFT",
        borders_layout="HORIZONTAL_LINES", padding=0.8,
    ) as table:  # fmt: skip
        for row in (headings, *rows[:LONGEST]):
            cells = table.row()
            for text in row:
                cells.cell(_latin(text))
    if len(rows) > LONGEST:
        _words(paper, f"And {len(rows) - LONGEST} more: see the CSV ledgers.")


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
