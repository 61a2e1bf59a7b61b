"""`backups init`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.working import roles_option
from backups.ports import Role


@click.command(epilog="Example: backups --home /var/lib/backups init")
@click.option(
    "--like",
    metavar="HOME",
    type=click.Path(file_okay=False, exists=True),
    help="Make a home for one more worker: its settings, and only the keys that --roles need.",
)
@roles_option(None)
@pass_home_path
def command(path: str, like: str | None, roles: tuple[Role, ...] | None) -> None:
    """Make a home: settings, signing key, restore identity, catalog.

    Nothing that exists is overwritten. A home that is made --like another shares its catalog.
    """
    from backups import wiring
    from backups.errors import UsageError

    if (roles is None) != (like is None):
        raise UsageError("--like and --roles go together")
    if like is not None and roles is not None:
        made = wiring.join(path, like, roles)
        names = ", ".join(sorted(file.name for file in made.keys.iterdir()))
        click.echo(f"A new home is in {made.path}, with {names}")
        return
    home = wiring.init(path)
    click.echo(f"""A new home is in {home.path}

Who must keep what:
  {home.verify_key}
      Hand it to every customer: with it they can tell a true manifest from a false one.
  {home.signing_key}
      Signs manifests. It stays here, readable by the backup process only.
  {home.restore_identity}
      Opens every backup that includes this restore agent. Keep a copy offline, sealed;
      the backup process never reads it. Without it, only customers can restore.
  {home.restore_recipient}
      Its public half: backups are encrypted to it and to each customer's own recipient.

Next: write a fleet file (the README shows one) and run `backups apply FILE`.""")
