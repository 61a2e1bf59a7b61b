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
    """Integrity check: read and authenticate every byte of BACKUP (an id, or a database), in
    each of its stores.

    It proves that the bytes are whole and open with our key. That a database takes them is
    proven by a restore only.
    """
    from backups import wiring
    from backups.run.restore import check

    with wiring.opened(home) as app:
        entry = wiring.choose(app, backup, None)
        identities = wiring.restore_identities(app, entry)
        places = wiring.places(app, entry)
        objects = 0
        for place in places:
            with (
                wiring.place_of(app, entry, place) as store,
                progress(quiet=json_) as show,
            ):
                manifest = wiring.manifest_of(app, store, entry, place)
                check(wiring.restore_ports(store, manifest, identities), manifest, show)
            objects += sum(len(artifact.segments) for artifact in manifest.artifacts)
    if json_:
        print_json(
            {
                "backup_id": entry.id,
                "intact": True,
                "objects": objects,
                "stores": [place.store_url for place in places],
            }
        )
        return
    copies = f" in each of {len(places)} stores" if len(places) > 1 else ""
    click.echo(
        f"backup {entry.id} of {entry.database} is intact: {objects} objects, "
        f"{size(entry.stored_bytes)}{copies}, read and authenticated"
    )
