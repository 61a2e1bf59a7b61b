"""`backups queue`: what waits for workers."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table


@click.group()
def command() -> None:
    """What waits for workers, and what they are at. Of a catalog that machines share."""


@command.command("list", epilog="Example: backups queue list")
@as_json
@pass_home_path
def list_(home: str, json_: bool) -> None:
    """Jobs that wait or run: a database's id is its scheduled backup, `!` before it one that
    was asked for, `?` a request over the API, `@` a chore."""
    from contextlib import closing

    from backups import wiring
    from backups.wiring.serving import queue_of

    with wiring.opened(home) as app, closing(queue_of(app)) as queue:
        found = sorted(queue.open().items(), key=lambda one: (one[1], one[0]))
    if json_:
        print_json([{"job": name, "state": state} for name, state in found])
        return
    print_table(["job", "state"], found, "nothing waits, nothing runs")


@command.command(epilog="Example: backups queue cancel acme-main")
@click.argument("job")
@pass_home_path
def cancel(home: str, job: str) -> None:
    """Take JOB out of the queue, or have it ended if it runs. What is still due comes again."""
    from contextlib import closing

    from backups import wiring
    from backups.errors import NotFound
    from backups.wiring.serving import queue_of

    with wiring.opened(home) as app, closing(queue_of(app)) as queue:
        if not queue.cancel(job):
            raise NotFound(f"no job {job!r} waits or runs", hint="See `backups queue list`.")
    click.echo(f"{job} is cancelled; one that runs is ended within seconds")
