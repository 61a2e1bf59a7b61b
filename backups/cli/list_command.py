"""`backups list`."""

from __future__ import annotations

import click

from backups.cli.home import databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, size, when


@click.command(epilog="Example: backups list acme-main --json")
@click.argument("database", required=False, shell_complete=complete(databases))
@as_json
@pass_home_path
def command(home: str, database: str | None, json_: bool) -> None:
    """Backups of DATABASE, or of all, newest first."""
    from backups import wiring

    with wiring.opened(home) as app:
        if database:
            app.catalog.policy(database)  # an unknown database is an error, not an empty list
        backups = app.catalog.backups(database)
        now = app.clock.now()
        stores = {backup.id: len(wiring.places(app, backup)) for backup in backups}
        recoverable = wiring.recoverable_backups(app, backups)
        verdicts = wiring.verdicts(app, backups)
        required = {policy.database: len(policy.stores) for policy in app.catalog.policies()}
    rows = [
        {
            "backup_id": backup.id,
            "customer": backup.customer,
            "database": backup.database,
            "state": "kept" if now < backup.expires_at else "expired",
            "created_at": backup.created_at,
            "expires_at": backup.expires_at,
            "bytes": backup.plain_bytes,
            "stored_bytes": backup.stored_bytes,
            "stores": stores[backup.id],
            "complete": stores[backup.id] >= required.get(backup.database, 1),
            "recoverable": recoverable[backup.id],
            "verdict": verdicts.get(backup.id, "NOT TESTED"),
        }
        for backup in backups
    ]
    if json_:
        print_json(rows)
        return
    print_table(
        [
            "backup",
            "database",
            "taken",
            "kept until",
            "state",
            "size",
            "stored",
            "recoverable",
            "restore test",
        ],
        (
            [
                backup.id,
                backup.database,
                when(backup.created_at),
                when(backup.expires_at),
                str(row["state"]),
                size(backup.plain_bytes),
                size(backup.stored_bytes),
                "yes" if row["recoverable"] else "not proven",
                str(row["verdict"]),
            ]
            for backup, row in zip(backups, rows, strict=True)
        ),
        "no backups yet; `backups run DATABASE` takes one",
    )
