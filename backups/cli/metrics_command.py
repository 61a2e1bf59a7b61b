"""`backups metrics`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path


@click.command(
    epilog="Example: backups metrics > /var/lib/node_exporter/textfile/backups.prom.new"
)
@pass_home_path
def command(home: str) -> None:
    """Print what Prometheus may collect, in its text format 0.0.4: for node_exporter's
    textfile collector, or whatever serves a file."""
    from backups import wiring
    from backups.notify.metrics import exposition

    with wiring.opened(home) as app:
        click.echo(exposition(wiring.measured(app), app.clock.now()), nl=False)
