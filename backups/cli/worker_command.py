"""`backups worker`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.working import log_option, roles_option, speaker
from backups.ports import Role


@click.command(epilog="Example: backups worker --roles restore")
@roles_option(("backup", "restore", "prune"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Of the role api.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Likewise."
)
@log_option
@pass_home_path
def command(home: str, roles: tuple[Role, ...], host: str, port: int, log: str) -> None:
    """Do what `backups serve` decided, on this machine too; any number of them, anywhere.

    backup: takes backups and copies them, publishes, watches; has no key that decrypts.
    restore: what customers asked for, and restore tests; writes to no store.
    prune: deletes what is over; reads no data. api: answers calls, and has no key of these.
    SIGTERM or Ctrl-C: nothing new is taken and what runs comes to its end; a second one ends
    it. The catalog must be one that machines share: `backups catalog move`.
    """
    from contextlib import ExitStack

    from backups import wiring
    from backups.errors import UsageError
    from backups.wiring.serving import working
    from backups.wiring.serving_api import api_beside

    if not roles:
        raise UsageError("a worker needs a role", hint="Such as --roles backup,prune.")
    with wiring.opened(home, roles=roles) as app, ExitStack() as stack:
        say = speaker(app.clock, log)
        ports = stack.enter_context(working(app, say, roles))
        if "api" in roles:
            stack.enter_context(api_beside(home, host, port))
        from backups.schedule.serve import serve, stop_signals

        with stop_signals() as stop:
            serve(ports, stop)
