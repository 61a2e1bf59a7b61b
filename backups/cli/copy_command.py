"""`backups copy`."""

from __future__ import annotations

import click

from backups.cli.home import backups_and_databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, progress


@click.command(epilog="Example: backups copy acme-main")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option("--all", "all_", is_flag=True, help="Every kept backup of the database.")
@as_json
@pass_home_path
def command(home: str, backup: str, all_: bool, json_: bool) -> None:
    """Copy BACKUP (an id, or a database's newest) into the stores that its policy names and
    that lack it, and heal it where something of it is missing.

    Segments travel encrypted as they are, each checked on its way. Stopped, it may be called
    again: what arrived is taken over.
    """
    from backups import wiring

    made = []
    with wiring.opened(home) as app:
        chosen = wiring.choose(app, backup, None)
        policy = app.catalog.policy(chosen.database)
        now = app.clock.now()
        entries = app.catalog.backups(chosen.database) if all_ else [chosen]
        for entry in entries:
            if entry.expires_at <= now:
                continue
            wanting = wiring.lacking(app, policy, entry) + wiring.unwhole(app, policy, entry)
            for store in wanting:
                with progress(quiet=json_) as show:
                    made.append(wiring.copy_to(app, entry, store, show))
    if json_:
        print_json([{"backup_id": copy.backup, "store": copy.store_url} for copy in made])
        return
    for copy in made:
        click.echo(f"backup {copy.backup} is copied to {copy.store_url}")
    if not made:
        click.echo("nothing to copy: every store that the policy names holds all of it")
