"""`backups serve`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json
from backups.cli.working import log_option, roles_option, speaker
from backups.ports import Role


@click.command(epilog="Example: backups serve")
@click.option("--once", is_flag=True, help="Take what is due now, then end; for cron.")
@roles_option(("backup", "restore", "prune"))
@log_option
@as_json
@pass_home_path
def command(home: str, once: bool, roles: tuple[Role, ...], log: str, json_: bool) -> None:
    """Take every declared database's backup each day, in its window, until told to stop.

    SIGTERM or Ctrl-C: nothing new starts and what runs comes to its end; a second one ends it.
    Of several instances one decides, and all work; `backups worker` only works. --json is for
    --once.
    """
    from backups import wiring
    from backups.errors import BackupsError, UsageError
    from backups.wiring.serving import serving

    if json_ and not once:
        raise UsageError("--json is for --once", hint="`backups due --json` says what comes.")
    with wiring.opened(home) as app:
        say = speaker(app.clock, log, err=json_)
        with serving(app, say, roles, alone=once) as ports:
            from backups.schedule.serve import serve, serve_once, stop_signals

            with stop_signals() as stop:
                if not once:
                    serve(ports, stop)
                    return
                taken, failed = serve_once(ports, stop)
    if json_:
        print_json({"taken": taken, "failed": failed})
    if failed:
        raise BackupsError(
            f"{failed} attempts failed, {taken} backups were taken",
            hint="`backups status` says why.",
        )
