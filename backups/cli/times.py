"""Instants, as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

import click


def instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """ISO 8601; without a zone it is UTC."""
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not an instant like 2026-11-23T04:00Z"
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
