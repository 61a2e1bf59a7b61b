"""`backups replace`: a backup in the place of the live database, and the way back."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from backups.cli.home import backups_and_databases, databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, progress, warn, when
from backups.cli.times import instant
from backups.replacing import Replacement

person = click.option("--by", default=getpass.getuser, help="Who does it; your login.")


@click.group()
def command() -> None:
    """A backup in the place of the live database: planned, approved, done, undone.

    Nothing is overwritten. A backup of what is there is taken first; the copy is made beside
    it and compared; then both exchange their names, and the old one is kept.
    """


@command.command(epilog="Example: backups replace plan acme-main --at 2026-11-20T12:00Z")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option(
    "--at", callback=instant, help="The newest backup taken at this instant or before."
)
@click.option("--ticket", default="", help="The customer's request, where support does it.")
@click.option("--consent", default="", help="How the customer agreed to it.")
@person
@as_json
@pass_home_path
def plan(
    home: str, backup: str, at: datetime | None, ticket: str, consent: str, by: str, json_: bool
) -> None:
    """Show what replacing the live database by BACKUP (an id, or a database's newest) would
    do: what comes back, what is lost, what stays behind. Changes nothing."""
    from backups import wiring
    from backups.wiring import replacing

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        entry = wiring.choose(app, backup, at)
        found = replacing.plan(app, entry, by, show, warn, ticket=ticket, consent=consent)
    _told(found, json_)


@command.command(epilog="Example: backups replace approve 019abc... --name bea")
@click.argument("replacement")
@click.option("--name", required=True, help="Of the second person; not the one who planned.")
@as_json
@pass_home_path
def approve(home: str, replacement: str, name: str, json_: bool) -> None:
    """Give another person's word that a plan may be carried out."""
    from backups import wiring
    from backups.wiring import replacing

    with wiring.opened(home) as app:
        found = replacing.approve(app, replacement, name)
    _told(found, json_)


@command.command(epilog="Example: backups replace rehearse 019abc...")
@click.argument("replacement")
@as_json
@pass_home_path
def rehearse(home: str, replacement: str, json_: bool) -> None:
    """Make the copy beside the live database, to be looked at: which tables and rows would
    come, go and change. It is dropped when the plan is started, cancelled or a day old. What
    could not be made in it is listed, and the exit code is then 48."""
    from backups import wiring
    from backups.run.restore import require_all
    from backups.wiring import replacing

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        found = replacing.rehearse(app, replacement, show, warn)
    _told(found, json_)
    require_all(found.exceptions)


@command.command(epilog="Example: backups replace start 019abc... --confirm main")
@click.argument("replacement")
@click.option("--confirm", required=True, metavar="NAME", help="The live database's name.")
@click.option(
    "--break-glass",
    default="",
    metavar="REASON",
    help="Wait for nobody, and whatever has changed since: on record, and on the report.",
)
@click.option(
    "--accept-exceptions",
    is_flag=True,
    help="Also with a copy that lacks what the rehearsal showed; then the exit code is 48.",
)
@person
@as_json
@pass_home_path
def start(
    home: str,
    replacement: str,
    confirm: str,
    break_glass: str,
    accept_exceptions: bool,
    by: str,
    json_: bool,
) -> None:
    """Carry a plan out, to its end. A copy in which something could not be made does not
    become the live database, unless that is accepted."""
    from backups import wiring
    from backups.run.restore import require_all
    from backups.wiring import replacing

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        found = replacing.start(
            app, replacement, by, confirm, show, warn, broke_glass=break_glass,
            accept=accept_exceptions,
        )  # fmt: skip
    _told(found, json_)
    require_all(found.exceptions)


@command.command(epilog="Example: backups replace undo 019abc...")
@click.argument("replacement")
@person
@as_json
@pass_home_path
def undo(home: str, replacement: str, by: str, json_: bool) -> None:
    """Make the old database the live one again; the other is kept beside for as long."""
    from backups import wiring
    from backups.wiring import replacing

    with wiring.opened(home) as app:
        found = replacing.undo(app, replacement, by)
    _told(found, json_)


@command.command(epilog="Example: backups replace cancel 019abc...")
@click.argument("replacement")
@as_json
@pass_home_path
def cancel(home: str, replacement: str, json_: bool) -> None:
    """Take back a plan that was not started."""
    from backups import wiring
    from backups.wiring import replacing

    with wiring.opened(home) as app:
        found = replacing.cancel(app, replacement)
    _told(found, json_)


@command.command(epilog="Example: backups replace drop 019abc... --anyway")
@click.argument("replacement")
@click.option("--anyway", is_flag=True, help="Before its days are over.")
@as_json
@pass_home_path
def drop(home: str, replacement: str, anyway: bool, json_: bool) -> None:
    """Drop the database that is kept beside; `serve` does that when its days are over."""
    from backups import wiring
    from backups.wiring import replacing

    with wiring.opened(home) as app:
        found = replacing.drop(app, replacement, anyway=anyway)
    _told(found, json_)


@command.command("list", epilog="Example: backups replace list acme-main")
@click.argument("database", required=False, shell_complete=complete(databases))
@as_json
@pass_home_path
def list_(home: str, database: str | None, json_: bool) -> None:
    """Plans and what became of them, newest first."""
    from backups import wiring

    with wiring.opened(home) as app:
        found = app.replacements.all(database)
    if json_:
        print_json([_fields(each) for each in found])
        return
    print_table(
        ["replacement", "database", "backup", "planned", "state", "kept until", "why"],
        (
            [
                each.id, each.database, each.backup, when(each.planned_at), each.state,
                when(each.kept_until) if each.kept_until else "", each.error,
            ]
            for each in found
        ),
        "nothing was ever replaced",
    )  # fmt: skip


@command.command(epilog="Example: backups replace show 019abc...")
@click.argument("replacement")
@as_json
@pass_home_path
def show(home: str, replacement: str, json_: bool) -> None:
    """One of them, whole."""
    from backups import wiring

    with wiring.opened(home) as app:
        found = app.replacements.one(replacement)
    _told(found, json_)


def _told(found: Replacement, json_: bool) -> None:
    if json_:
        print_json(_fields(found))
        return
    click.echo(f"replacement {found.id}: {found.state}")
    click.echo(f"  database {found.live!r} by backup {found.backup}")
    click.echo(f"  taken {when(found.snapshot_at)}: what was written since is not in it")
    if found.rehearsed_at:
        there = f", to be looked at: {found.rehearsal}" if found.rehearsal else ""
        click.echo(f"  rehearsed {when(found.rehearsed_at)}{there}")
        for words in found.seen or ["both contain the same"]:
            click.echo(f"    {words}")
        if found.stale:
            click.echo(
                "  the live database has changed since the plan was made: what follows is of "
                "then, and the plan can't be started"
            )
    click.echo(f"  when it was planned, {when(found.planned_at)}:")
    for words in found.difference or ["both contain the same"]:
        click.echo(f"    {words}")
    for words in found.exceptions:
        click.echo(f"  exception: {words}")
    for words in found.stays_behind:
        click.echo(f"  stays behind with the old one: {words}")
    for words in _next(found):
        click.echo(words)


def _next(found: Replacement) -> list[str]:
    start = f"backups replace start {found.id} --confirm {found.live}"
    if found.state == "planned":
        if found.stale:
            return [f"next: backups replace cancel {found.id}, and plan it anew"]
        if found.exceptions:
            start += " --accept-exceptions"
        if found.needs == "person" and not found.approved_by:
            return [f"next: another person: backups replace approve {found.id} --name NAME"]
        if found.needs == "delay" and found.not_before:
            return [f"next, from {when(found.not_before)}: {start}"]
        return [f"next: {start}"]
    if found.state == "replaced" and found.kept_until:
        return [
            f"the old database is kept as {found.aside!r} until {when(found.kept_until)}",
            f"the way back: backups replace undo {found.id}",
        ]
    return [f"error: {found.error}"] if found.error else []


def _fields(found: Replacement) -> dict[str, Any]:
    fields = asdict(found)
    return {"replacement_id": fields.pop("id"), "backup_id": fields.pop("backup"), **fields}
