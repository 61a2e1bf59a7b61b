"""`backups incident`: the SLA's clock."""

from __future__ import annotations

from typing import Any

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table, when
from backups.notify.model import Incident


@click.group()
def command() -> None:
    """Days missed and tests failed: start, end, cause, and the post-mortem that is due."""


@command.command(name="list", epilog="Example: backups incident list --all")
@click.option("--all", "all_", is_flag=True, help="Those that are closed, too.")
@as_json
@pass_home_path
def list_(home: str, all_: bool, json_: bool) -> None:
    """Incidents, newest first."""
    from backups import wiring
    from backups.notify.incidents import state

    with wiring.opened(home) as app:
        found = app.notices.incidents(closed=all_)
        now = app.clock.now()
    if json_:
        print_json([_row(each, state(each, now)) for each in found])
        return
    print_table(
        ["incident", "what", "customer", "of", "start", "end", "state", "post-mortem due"],
        (
            [
                each.id,
                each.kind,
                each.customer,
                each.subject,
                when(each.started_at),
                when(each.ended_at),
                state(each, now),
                f"{_row(each, '')['due']}",
            ]
            for each in found
        ),
        "no incident" if all_ else "no incident is open",
    )


@command.command(
    epilog="Example: backups incident close 019abc... --cause 'disk full at the source' "
    "--post-mortem https://status.example/pm/12"
)
@click.argument("incident")
@click.option("--cause", required=True, help="What it was, in a sentence.")
@click.option("--post-mortem", metavar="URL", required=True, help="Where it can be read.")
@as_json
@pass_home_path
def close(home: str, incident: str, cause: str, post_mortem: str, json_: bool) -> None:
    """State cause and post-mortem of an INCIDENT that is over."""
    from backups import wiring

    with wiring.opened(home) as app:
        done = app.notices.close_incident(incident, cause, post_mortem, app.clock.now())
        app.audit.note(
            "incident.closed", done.customer or None, done.id, {"post_mortem": post_mortem}
        )
    if json_:
        print_json(_row(done, "closed"))
    else:
        click.echo(f"incident {done.id} is closed")


def _row(each: Incident, state: str) -> dict[str, Any]:
    from backups.notify.incidents import due_day

    return {
        "incident_id": each.id,
        "kind": each.kind,
        "customer": each.customer or None,
        "subject": each.subject,
        "state": state,
        "started_at": each.started_at,
        "ended_at": each.ended_at,
        "due": due_day(each.started_at).isoformat(),
        "cause": each.cause,
        "post_mortem": each.post_mortem,
        "closed_at": each.closed_at,
    }
