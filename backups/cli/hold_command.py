"""`backups hold`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from backups.cli.home import backups_and_databases, databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, when

if TYPE_CHECKING:
    from backups.keeping import Hold, Release

_TIMES = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def command() -> None:
    """Keep backups whatever retention says, by a person's name and for a reason."""


@command.command(epilog='Example: backups hold add BACKUP --reason "case 47" --name "Ann Lee"')
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option("--reason", required=True, help="One line; it is not encrypted in the bucket.")
@click.option("--name", required=True, help="Who answers for it.")
@click.option("--until", type=_TIMES, help="When it ends by itself, in UTC.")
@as_json
@pass_home_path
def add(
    home: str, backup: str, reason: str, name: str, until: datetime | None, json_: bool
) -> None:
    """Hold BACKUP (an id, or a database's newest), in the catalog and in its stores."""
    from backups import wiring
    from backups.run.holds import place

    with wiring.opened(home) as app:
        entry = wiring.choose(app, backup, None)
        ports = wiring.hold_ports(app, entry)
        hold = place(ports, entry, reason, name, until.replace(tzinfo=UTC) if until else None)
    if json_:
        print_json([_plain(hold, None)])
    else:
        click.echo(f"backup {hold.backup} is held by {hold.name}: hold {hold.id}")


@command.command(epilog='Example: backups hold remove BACKUP --name "Ann Lee"')
@click.argument("hold")
@click.option("--name", required=True, help="Who answers for it.")
@as_json
@pass_home_path
def remove(home: str, hold: str, name: str, json_: bool) -> None:
    """End HOLD, or every hold of a backup. The record of it stays."""
    from backups import wiring
    from backups.run.holds import find, release

    ended = []
    with wiring.opened(home) as app:
        for found in find(app.ledger.holds(), hold):
            ports = wiring.hold_ports(app, app.catalog.backup(found.backup))
            ended.append((found, release(ports, found, name)))
    if json_:
        print_json([_plain(*each) for each in ended])
        return
    for found, _ in ended:
        click.echo(f"hold {found.id} of backup {found.backup} is over")


@command.command("list", epilog="Example: backups hold list acme-main")
@click.argument("database", required=False, shell_complete=complete(databases))
@click.option("--all", "all_", is_flag=True, help="Those that are over too.")
@as_json
@pass_home_path
def list_(home: str, database: str | None, all_: bool, json_: bool) -> None:
    """Holds in force of DATABASE, or of all, newest first."""
    from backups import wiring
    from backups.run.pruning import in_force

    with wiring.opened(home) as app:
        now = app.clock.now()
        found = [
            (hold, over)
            for hold, over in app.ledger.holds(database)
            if all_ or (over is None and in_force(hold, now))
        ]
    if json_:
        print_json([_plain(*each) for each in found])
        return
    print_table(
        ["hold", "backup", "database", "by", "reason", "since", "until", "ended by"],
        (
            [
                hold.id,
                hold.backup,
                hold.database,
                hold.name,
                hold.reason,
                when(hold.placed_at),
                when(over.released_at if over else hold.until),
                over.name if over else "",
            ]
            for hold, over in found
        ),
        "no holds",
    )


def _plain(hold: Hold, over: Release | None) -> dict[str, Any]:
    return {
        "hold_id": hold.id,
        "backup_id": hold.backup,
        "customer": hold.customer,
        "database": hold.database,
        "reason": hold.reason,
        "name": hold.name,
        "placed_at": hold.placed_at,
        "until": hold.until,
        "released_by": over.name if over else None,
        "released_at": over.released_at if over else None,
    }
