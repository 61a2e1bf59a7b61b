"""`backups recover`."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

import click

from backups.cli.output import as_json, progress
from backups.cli.restore_command import into_target, report, target_source
from backups.cli.times import instant


@click.command(
    epilog="Example: backups recover --store s3://acme-backups/bloomneo --identity key.txt "
    "--verify-key verify.pem --to postgresql://admin@db/acme_recovered"
)
@click.option("--store", required=True, help="The store's URL, as in the fleet file.")
@click.option(
    "--identity",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An age identity file that opens the backup.",
)
@click.option(
    "--verify-key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The PEM file handed over at enrolment.",
)
@click.option("--database", help="Which database, where the store holds several.")
@click.option("--backup", "backup_id", help="Which backup; the newest when not said.")
@click.option(
    "--at", callback=instant, help="The newest backup taken at this instant or before."
)
@into_target
@as_json
def command(
    store: str,
    identity: Path,
    verify_key: Path,
    database: str | None,
    backup_id: str | None,
    at: datetime | None,
    to: str,
    password: str | None,
    jobs: int | None,
    only: tuple[str, ...],
    owner: str,
    no_privileges: bool,
    json_: bool,
) -> None:
    """Restore with no catalog, no settings and no home: from the store alone.

    What can't be made is left out or made in another form, and listed: the rest is there, and
    the exit code is 48.
    """
    from backups import wiring
    from backups.keys import load_verify_key
    from backups.model import RestoreOptions
    from backups.run.recover import find
    from backups.run.restore import restore

    target = target_source(to, password)
    wanted = partial(
        find,
        verify_keys=[load_verify_key(verify_key)],
        database=database,
        backup=backup_id,
        at=at,
    )
    with (
        wiring.recovery(store, identity, wanted) as (manifest, ports),
        progress(quiet=json_) as show,
    ):
        options = RestoreOptions(jobs or 2, only=only, owner=owner, no_privileges=no_privileges)
        done = restore(ports, manifest, target, options, show)
    report(done, to, json_)
