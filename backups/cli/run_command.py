"""`backups run`."""

from __future__ import annotations

import click

from backups.cli.home import databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, progress, seconds, size, when
from backups.lacking import not_carried


@click.command(epilog="Example: backups run acme-main --json")
@click.argument("database", shell_complete=complete(databases))
@click.option("--anyway", is_flag=True, help="Also for a customer who is leaving.")
@as_json
@pass_home_path
def command(home: str, database: str, anyway: bool, json_: bool) -> None:
    """Back up DATABASE now, into its customer's store, and copy it into the others.

    A copy that fails fails the command, not the backup: `backups copy` tries again.
    """
    from backups import wiring
    from backups.run.backup import back_up

    lacks: list[str] = []
    with wiring.opened(home) as app:
        policy = app.catalog.policy(database)
        with progress() as show:
            with wiring.backup_ports(app, policy, anyway=anyway, name=lacks.extend) as ports:
                backup = back_up(ports, policy, wiring.source_of(policy), show)
            for store in wiring.lacking(app, policy, backup):
                wiring.copy_to(app, backup, store, show)
        stores = [place.store_url for place in wiring.places(app, backup)]
    result = {
        "backup_id": backup.id,
        "database": backup.database,
        "state": "committed",
        "bytes": backup.plain_bytes,
        "stored_bytes": backup.stored_bytes,
        "seconds": backup.seconds,
        "created_at": backup.created_at,
        "expires_at": backup.expires_at,
        "stores": stores,
        "not_backed_up": lacks,
        "warnings": list(backup.warnings),
    }
    if json_:
        print_json(result)
        return
    click.echo(
        f"backup {backup.id} of {database} is committed: {size(backup.plain_bytes)} dumped, "
        f"{size(backup.stored_bytes)} stored, {seconds(backup.seconds)}; "
        f"kept until {when(backup.expires_at)}"
        + (f", in {len(stores)} stores" if len(stores) > 1 else "")
    )
    for words in backup.warnings:
        if not lacks or not not_carried([words]):  # those that have names are told by name
            click.echo(f"warning: {words}")
    for words in lacks:
        click.echo(f"not backed up: {words}")
