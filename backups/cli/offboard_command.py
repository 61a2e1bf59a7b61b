"""`backups offboard`."""

from __future__ import annotations

from pathlib import Path

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json, progress


@click.command(epilog="Example: backups offboard acme --out /srv/handover/acme")
@click.argument("customer", shell_complete=complete(customers))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder for what is handed over.",
)
@as_json
@pass_home_path
def command(home: str, customer: str, out: Path, json_: bool) -> None:
    """Take the last backup of each database of a leaving CUSTOMER, hand over, and stop.

    The folder holds every signed manifest, the verify key, and how to get the data back with
    stock tools. What lies in their stores stays theirs; nothing of it is deleted.
    """
    from backups import wiring

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        done = wiring.offboard(app, customer, out, show)
    if json_:
        print_json(
            {
                "customer": customer,
                "out": str(done.folder),
                "last": list(done.last),
                "backups": done.backups,
                "sha256": done.sha256,
            }
        )
        return
    click.echo(
        f"{customer} has left: {len(done.last)} last backups taken, {done.backups} handed over "
        f"in {done.folder}"
    )
    click.echo("Their administrator may now take our roles away.")
