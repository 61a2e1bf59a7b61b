"""`backups apply`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json

if TYPE_CHECKING:
    from backups.wiring.applying import Proposal


def _print_schema(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from backups.fleet import fleet_schema

        print_json(fleet_schema())
        ctx.exit()


@click.command(epilog="Example: backups apply fleet.yaml --dry-run")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of a fleet file, for editors, and end.",
)
@as_json
@pass_home_path
def command(home: str, path: Path, dry_run: bool, json_: bool) -> None:
    """Declare plans, customers, stores and databases from a YAML FILE or a folder of them.

    All of it comes into force, or nothing. Editing a database's rule makes a new version of
    its policy; running it twice changes nothing. A database that the file names no more is
    still backed up: `retired: true` stops it.
    """
    from backups import wiring

    with wiring.opened(home) as app:
        proposal = wiring.propose(app, path)
        if not dry_run:
            wiring.apply(app, proposal)
    if json_:
        print_json(_document(proposal, dry_run))
    else:
        _say(proposal, dry_run)


def _document(proposal: Proposal, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "databases": len(proposal.policies),
        "changes": [
            {
                "customer": change.customer,
                "database": change.database,
                "from_version": change.from_version,
                "to_version": change.to_version,
                "fields": [
                    {"field": one.field, "from": one.old, "to": one.new}
                    for one in change.fields
                ],
                "means": change.words,
            }
            for change in proposal.changes
        ],
        "states": [
            {
                "customer": change.customer,
                "database": change.database or None,
                "from": change.old,
                "to": change.new,
                "means": change.words,
            }
            for change in proposal.states
        ],
        "undeclared": [
            {"customer": policy.customer, "database": policy.database, "means": words}
            for policy, words in proposal.undeclared
        ],
    }


def _say(proposal: Proposal, dry_run: bool) -> None:
    for state in proposal.states:
        click.echo(f"{state.database or state.customer}: {state.old} → {state.words}")
    for change in proposal.changes:
        verb = "changes" if change.from_version else "is new"
        click.echo(
            f"{change.database} of {change.customer} {verb}: policy version {change.to_version}"
        )
        for one in change.fields:
            if one.old is None:
                click.echo(f"  {one.field}: {one.new}")
            else:
                click.echo(f"  {one.field}: {one.old} → {one.new or '(nothing)'}")
        if change.words:
            click.echo(f"  its backups are {change.words}")
    for policy, words in proposal.undeclared:
        click.echo(f"{policy.database} of {policy.customer} is {words}")
    done = "would change" if dry_run else "changed"
    click.echo(f"{len(proposal.policies)} databases declared, {len(proposal.changes)} {done}")
