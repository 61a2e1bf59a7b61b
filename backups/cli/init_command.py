"""`backups init`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path


@click.command(epilog="Example: backups --home /var/lib/backups init")
@pass_home_path
def command(path: str) -> None:
    """Make a home: settings, signing key, restore identity, catalog.

    Nothing that exists is overwritten.
    """
    from backups import wiring

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
