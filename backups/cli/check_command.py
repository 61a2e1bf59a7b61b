"""`backups check`."""

from __future__ import annotations

import click

from backups.cli.home import backups_and_databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, progress, size


@click.command(epilog="Example: backups check acme-main")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@as_json
@pass_home_path
def command(home: str, backup: str, json_: bool) -> None:
    """Integrity check: read and authenticate every byte of BACKUP (an id, or a database).

    It proves that the bytes are whole and open with our key. That a database takes them is
    proven by a restore only.
    """
    from backups import wiring
    from backups.run.restore import check

    with wiring.opened(home) as app:
        entry = wiring.choose(app, backup, None)
        with (
            wiring.giving_back(app, entry) as (manifest, ports),
            progress(quiet=json_) as show,
        ):
            check(ports, manifest, show)
    segments = sum(len(artifact.segments) for artifact in manifest.artifacts)
    if json_:
        print_json({"backup_id": entry.id, "intact": True, "objects": segments})
        return
    click.echo(
        f"backup {entry.id} of {entry.database} is intact: "
        f"{segments} objects, {size(entry.stored_bytes)} read and authenticated"
    )
