"""`backups doctor`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table


@click.command(epilog="Example: backups doctor")
@as_json
@pass_home_path
def command(home: str, json_: bool) -> None:
    """Look at this machine and its home: what is missing, open to others, or out of reach.

    Changes nothing. Stores are looked at by `backups store check`.
    """
    from dataclasses import asdict

    from backups import wiring
    from backups.errors import BackupsError
    from backups.wiring.doctoring import doctor

    with wiring.opened(home) as app:
        found = doctor(app)
    if json_:
        print_json([asdict(each) for each in found])
    else:
        rows = [(each.what, each.state, each.words, each.hint) for each in found]
        print_table(["what", "state", "found", "what next"], rows, "nothing was looked at")
    bad = sum(each.state == "bad" for each in found)
    if bad:
        raise BackupsError(f"{bad} things are wrong", hint="See the last column.")
