"""`backups serve`."""

from __future__ import annotations

import json

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json


@click.command(epilog="Example: backups serve")
@click.option("--once", is_flag=True, help="Take what is due now, then end; for cron.")
@click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line per event, for people or for a collector.",
)
@as_json
@pass_home_path
def command(home: str, once: bool, log: str, json_: bool) -> None:
    """Take every declared database's backup each day, in its window, until told to stop.

    SIGTERM or Ctrl-C: nothing new starts and what runs comes to its end; a second one ends it.
    A second instance waits until the first is gone. --json is for --once.
    """
    from backups import wiring
    from backups.errors import BackupsError, UsageError
    from backups.wiring.serving import serving

    if json_ and not once:
        raise UsageError("--json is for --once", hint="`backups due --json` says what comes.")
    with wiring.opened(home) as app:

        def say(words: str) -> None:
            at = f"{app.clock.now():%Y-%m-%dT%H:%M:%SZ}"
            line = json.dumps({"at": at, "event": words}) if log == "json" else f"{at} {words}"
            click.echo(line, err=json_)

        with serving(app, say) as ports:
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
