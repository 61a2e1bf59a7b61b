"""What a person reads: tables, sizes, ages and progress. Scripts get JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click

from backups.ports import Progress

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON for scripts.")


def print_json(value: Any) -> None:
    """One JSON document; instants as ISO 8601 in UTC."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Columns for people; `empty` is said when there is nothing."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        click.echo(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: names are never markup
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def size(count: int | None) -> str:
    """Bytes in words, binary units."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def seconds(count: float | None) -> str:
    """A duration in words."""
    return "-" if count is None else f"{count:.1f} s"


def when(instant: datetime | None) -> str:
    """An instant, in UTC, to the second."""
    return "-" if instant is None else instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(span: timedelta) -> str:
    """An age, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if span.total_seconds() >= length:
            return f"{span.total_seconds() / length:.0f} {unit} ago"
    return "just now"


def warn(words: str) -> None:
    """What a person should know although the work goes on; on stderr."""
    click.echo(f"warning: {words}", err=True)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """Bars on a terminal, one plain line per step elsewhere; always on stderr."""
    if quiet:
        yield lambda step, done, total: None
    elif sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines()


def _lines() -> Progress:
    said: set[str] = set()

    def show(step: str, _done: int, _total: int | None) -> None:
        if step not in said:
            said.add(step)
            click.echo(step, err=True)

    return show


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    with Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        steps: dict[str, Any] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)

        yield show
        for step in steps.values():  # what had no total has one now
            bars.update(step, total=bars.tasks[step].completed)


def complete(values: Callable[[str | None], Iterable[str]]) -> Any:
    """Shell completion from the catalog; silent when there is none to read."""

    def candidates(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        from backups.errors import BackupsError

        home = ctx.find_root().params.get("home")
        try:
            return [value for value in values(home) if value.startswith(incomplete)]
        except BackupsError:
            return []

    return candidates
