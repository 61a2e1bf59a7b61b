"""`backups notify`: who is told, and what became of it."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table, when
from backups.cli.times import instant


@click.group()
def command() -> None:
    """Webhooks and mail: the endpoints that settings.yaml names."""


@command.command(name="list", epilog="Example: backups notify list")
@as_json
@pass_home_path
def list_(home: str, json_: bool) -> None:
    """Endpoints, what waits for each, and how they have been."""
    from backups import wiring
    from backups.notify.model import Health

    with wiring.opened(home) as app:
        declared = wiring.endpoints(app)
        health = app.notices.health()
        depth = app.notices.depth()
    rows = []
    for each in declared:
        how = health.get(each.id, Health())
        rows.append(
            {
                "endpoint": each.id,
                "kind": each.kind,
                "events": list(each.events),
                "pending": depth.get((each.id, "pending"), 0),
                "dead": depth.get((each.id, "dead"), 0),
                "failures": how.failures,
                "disabled_at": how.disabled_at,
                "words": how.words,
            }
        )
    if json_:
        print_json(rows)
        return
    print_table(
        ["endpoint", "kind", "waiting", "given up", "failures", "disabled", "last trouble"],
        (
            [
                str(row["endpoint"]),
                str(row["kind"]),
                str(row["pending"]),
                str(row["dead"]),
                str(row["failures"]),
                when(health[each.id].disabled_at) if each.id in health else "-",
                str(row["words"]),
            ]
            for each, row in zip(declared, rows, strict=True)
        ),
        "nobody is told: `notify:` in settings.yaml names endpoints",
    )


@command.command(epilog="Example: backups notify test ops")
@click.argument("endpoint")
@pass_home_path
def test(home: str, endpoint: str) -> None:
    """Send an event of type notify.test to ENDPOINT, now."""
    from backups import wiring
    from backups.errors import BackupsError

    with wiring.opened(home) as app:
        answer = wiring.test_endpoint(app, endpoint)
    if not answer.delivered:
        raise BackupsError(f"{endpoint} was not told: {answer.words}")
    click.echo(f"{endpoint} was told: {answer.words}")


@command.command(epilog="Example: backups notify log --endpoint ops")
@click.option("--endpoint", help="Of this one only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
@pass_home_path
def log(home: str, endpoint: str | None, limit: int, json_: bool) -> None:
    """Deliveries, newest first."""
    from backups import wiring

    with wiring.opened(home) as app:
        found = app.notices.deliveries(endpoint=endpoint, limit=limit)
    rows = [
        {
            "event_id": each.event,
            "endpoint": each.endpoint,
            "type": each.type,
            "subject": each.subject,
            "state": each.state,
            "attempts": each.attempts,
            "last_at": each.last_at,
            "words": each.words,
        }
        for each in found
    ]
    if json_:
        print_json(rows)
        return
    print_table(
        ["event", "endpoint", "type", "of", "state", "attempts", "last", "what became of it"],
        (
            [
                each.event, each.endpoint, each.type, each.subject, each.state,
                str(each.attempts), when(each.last_at), each.words,
            ]
            for each in found
        ),
        "nothing was told yet",
    )  # fmt: skip


@command.command(epilog="Example: backups notify replay ops --since 2026-11-20T00:00Z")
@click.argument("endpoint")
@click.option("--event", metavar="ID", help="This one, whatever became of it.")
@click.option("--since", callback=instant, help="Given up, of events from then on.")
@pass_home_path
def replay(home: str, endpoint: str, event: str | None, since: object) -> None:
    """Deliver again what was given up for ENDPOINT, and enable it where it was disabled."""
    from datetime import datetime

    from backups import wiring

    with wiring.opened(home) as app:
        from_then = since if isinstance(since, datetime) else None
        count = app.notices.replay(endpoint, app.clock.now(), event=event, since=from_then)
    click.echo(f"{count} deliveries to {endpoint} wait again")
