"""`backups status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from backups.cli.home import pass_home_path
from backups.cli.output import ago, as_json, print_json, print_table
from backups.notify.metrics import Database, covered
from backups.notify.model import Alarm


@click.command(epilog="Example: backups status acme")
@click.argument("customer", required=False)
@as_json
@pass_home_path
def command(home: str, customer: str | None, json_: bool) -> None:
    """Every declared database: its newest backup, and how its last run went.

    Above them what counts: how many of the databases that are promised backups have one that
    is young enough, and every kind of alarm that stands.
    """
    from backups import wiring
    from backups.errors import NotFound

    with wiring.opened(home) as app:
        policies = [p for p in app.catalog.policies() if customer in (None, p.customer)]
        if customer and not policies:
            raise NotFound(f"there is no customer {customer!r}")
        now = app.clock.now()
        databases = [
            d for d in wiring.measured(app).databases if customer in (None, d.customer)
        ]
        alarms = [a.alarm for a in app.notices.alarms() if customer in (None, a.alarm.customer)]
        tested = wiring.tested_this_month(app)
        rows: list[dict[str, Any]] = []
        for policy in policies:
            kept = app.catalog.backups(policy.database)
            runs = app.catalog.runs(policy.database, limit=1)
            rows.append(
                {
                    "customer": policy.customer,
                    "database": policy.database,
                    "plan": policy.plan.name,
                    "state": wiring.standing_in_words(app, policy.customer, policy.database),
                    "backups": len(kept),
                    "newest": kept[0].created_at if kept else None,
                    "last_run": runs[0].state if runs else "never",
                    "error": runs[0].error if runs else None,
                    "recoverable": wiring.recoverable(app, policy),
                }
            )
    if json_:
        print_json(rows)
        return
    if rows:
        for line in glance(databases, alarms, tested, now):
            click.echo(line)
    print_table(
        [
            "customer",
            "database",
            "plan",
            "state",
            "backups",
            "newest",
            "recoverable",
            "last run",
            "reason",
        ],
        (
            [
                row["customer"],
                row["database"],
                row["plan"],
                row["state"],
                str(row["backups"]),
                ago(now - row["newest"]) if row["newest"] else "none",
                "yes" if row["recoverable"] else "not proven",
                row["last_run"],
                row["error"] or "",
            ]
            for row in rows
        ),
        "no databases are declared; `backups apply FILE` declares them",
    )


def glance(
    databases: Sequence[Database],
    alarms: Sequence[Alarm],
    tested: Collection[str],
    now: datetime,
) -> Iterator[str]:
    """Coverage first, then what is wrong, in lines."""
    promised = [each for each in databases if each.expected]
    young = sum(covered(each, now) for each in promised)
    left_out = len(databases) - len(promised)
    beside = f"; {left_out} more are promised none" if left_out else ""
    share = f"{young} of {len(promised)}"
    yield f"covered: {share} databases have a backup within their RPO{beside}"
    passed = sum(each.database in tested for each in databases)
    yield f"proven: {passed} of {len(databases)} databases passed a restore test this month"
    for kind, count in sorted(Counter(alarm.kind for alarm in alarms).items()):
        yield f"{kind}: {count}"
    if alarms:
        yield "`backups alarms` says which."
