"""`backups restore`."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from backups.cli.home import backups_and_databases, pass_home_path
from backups.cli.output import (
    as_json,
    complete,
    print_json,
    progress,
    seconds,
    size,
    warn,
    when,
)
from backups.cli.times import instant
from backups.model import Backup, RestoreOptions, Source
from backups.run.restore import Restored


def target_source(to: str, password: str | None) -> Source:
    """Where a person wants the copy. Raises ConfigError when the reference has no value."""
    from backups.fleet import resolve_password

    return Source(to, resolve_password(password) if password else None)


def into_target(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that writes a copy."""
    for option in (
        click.option(
            "--jobs",
            type=click.IntRange(1, 64),
            help="Parallel index builds and row streams; 2, or what settings.yaml says.",
        ),
        click.option(
            "--password", metavar="REF", help="The target's password: env:NAME or file:PATH."
        ),
        click.option(
            "--owner",
            metavar="ROLE",
            default="",
            help="Who is to own all of it, in place of the source's owners; PostgreSQL.",
        ),
        click.option(
            "--no-privileges",
            is_flag=True,
            help="Leave out who else may use it; PostgreSQL.",
        ),
        click.option(
            "--only",
            metavar="NAME",
            multiple=True,
            help="A schema, or a table as SCHEMA.TABLE, with what it needs; may be repeated.",
        ),
        click.option(
            "--to",
            metavar="TARGET",
            required=True,
            help="Where to: the URL of a database that does not exist yet; or "
            "file:PATH.dump (pg_dump's archive), file:PATH.sql (plain SQL).",
        ),
    ):
        function = option(function)
    return function


def report(done: Restored, to: str, json_: bool) -> None:
    """What a finished restore says, and what is the matter with it. Raises RestoredInPart."""
    from backups.run.restore import in_words, require_all

    lacks = in_words(done.exceptions)
    _report(done, lacks, to, json_)
    require_all(lacks)


def _report(done: Restored, lacks: tuple[str, ...], to: str, json_: bool) -> None:
    if json_:
        print_json(
            {
                "backup_id": done.manifest.backup,
                "database": done.manifest.database,
                "state": "done",
                "target": to,
                "tables": done.tables,
                "rows": done.rows,
                "equal": True,
                "load_seconds": round(done.load_seconds, 3),
                "check_seconds": round(done.check_seconds, 3),
                "notes": list(done.notes),
                "exceptions": list(lacks),
                "not_backed_up": list(done.contains.not_backed_up),
            }
        )
        return
    for note in done.notes:
        click.echo(f"note: {note}")
    for words in done.contains.not_backed_up:
        click.echo(f"not in the backup: {words}")
    for words in lacks:
        click.echo(f"exception: {words}")
    click.echo(
        f"restored backup {done.manifest.backup} to {to}: {done.tables} tables, "
        f"{done.rows:,} rows, equal to the fingerprint of its snapshot"
        f"{f', but for {len(lacks)} exceptions' if lacks else ''} "
        f"({seconds(done.load_seconds)} to load, {seconds(done.check_seconds)} to compare)"
    )


@click.command(
    epilog="Example: backups restore acme-main --at 2026-11-20T12:00Z "
    "--to postgresql://admin@db/acme_restored"
)
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option(
    "--at", callback=instant, help="The newest backup taken at this instant or before."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--ticket", default="", help="The customer's request, where support does it.")
@click.option("--consent", default="", help="How the customer agreed to it.")
@click.option("--by", default=getpass.getuser, help="Who does it; your login.")
@into_target
@as_json
@pass_home_path
def command(
    home: str,
    backup: str,
    at: datetime | None,
    ticket: str,
    consent: str,
    by: str,
    to: str,
    password: str | None,
    jobs: int | None,
    only: tuple[str, ...],
    owner: str,
    no_privileges: bool,
    dry_run: bool,
    json_: bool,
) -> None:
    """Write BACKUP (an id, or a database's newest) into a new database, or a file.

    The copy is made beside its target under another name, compared with the fingerprint that
    was taken with the dump, and named only when they are equal. The nearest copy is read; one
    that is damaged or out of reach is named, and the next one is taken. What can't be made is
    left out or made in another form, and listed: the rest is there, and the exit code is 48.
    """
    from backups import wiring
    from backups.run.restore import foresee, in_words, restore
    from backups.settings import load_settings

    target = target_source(to, password)
    with wiring.opened(home) as app:
        entry = wiring.choose(app, backup, at)
        options = RestoreOptions(
            jobs or load_settings(app.home).restore_jobs,
            only=only,
            owner=owner,
            no_privileges=no_privileges,
        )
        if dry_run:
            with progress(quiet=json_) as show:
                lacks = wiring.giving_back(
                    app,
                    entry,
                    lambda manifest, ports: foresee(ports, manifest, target, options, show),
                    warn,
                )
            _would(entry, to, wiring.last_time(app, entry.database), lacks, json_)
            return
        with (
            progress(quiet=json_) as show,
            wiring.operation(app, entry, to, by=by, ticket=ticket, consent=consent) as ending,
        ):
            done = wiring.giving_back(
                app,
                entry,
                lambda manifest, ports: restore(ports, manifest, target, options, show),
                warn,
            )
            ending.exceptions = in_words(done.exceptions)
    report(done, to, json_)


def _would(
    entry: Backup, to: str, last_time: timedelta | None, lacks: tuple[str, ...], json_: bool
) -> None:
    if json_:
        print_json(
            {
                "dry_run": True,
                "backup_id": entry.id,
                "created_at": entry.created_at,
                "target": to,
                "bytes": entry.plain_bytes,
                "stored_bytes": entry.stored_bytes,
                "last_seconds": last_time.total_seconds() if last_time else None,
                "lacks": list(lacks),
            }
        )
        return
    click.echo(
        f"would read {size(entry.stored_bytes)} of backup {entry.id}, taken "
        f"{when(entry.created_at)}, and write {size(entry.plain_bytes)} to {to}"
    )
    if last_time:
        click.echo(
            f"the last restore of this database took {seconds(last_time.total_seconds())}"
        )
    for words in lacks:
        click.echo(words)
