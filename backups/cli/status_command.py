"""`backups status`."""

from __future__ import annotations

from typing import Any

import click

from backups.cli.home import pass_home_path
from backups.cli.output import ago, as_json, print_json, print_table


@click.command(epilog="Example: backups status acme")
@click.argument("customer", required=False)
@as_json
@pass_home_path
def command(home: str, customer: str | None, json_: bool) -> None:
    """Every declared database: its newest backup, and how its last run went."""
    from backups import wiring
    from backups.errors import NotFound

    with wiring.opened(home) as app:
        policies = [p for p in app.catalog.policies() if customer in (None, p.customer)]
        if customer and not policies:
            raise NotFound(f"there is no customer {customer!r}")
        now = app.clock.now()
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
