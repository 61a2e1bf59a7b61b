"""`backups prune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from backups.cli.home import databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, warn, when
from backups.errors import BackupsError, Busy

if TYPE_CHECKING:
    from backups.model import Backup
    from backups.policy.retention import Decision
    from backups.run.prune import Step


@dataclass(frozen=True, slots=True)
class _Result:
    customer: str
    database: str
    backups: dict[str, Backup]
    decisions: Sequence[Decision]
    frozen: str
    steps: Sequence[Step] = ()
    left: int = 0


@click.command(epilog="Example: backups prune --dry-run")
@click.argument("database", required=False, shell_complete=complete(databases))
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@as_json
@pass_home_path
def command(home: str, database: str | None, dry_run: bool, json_: bool) -> None:
    """Delete what may go of DATABASE, or of all, each backup for a stated reason.

    A backup that may go is marked first and deleted some days later, unless something keeps
    it by then. Call it daily.
    """
    from backups import wiring

    results: list[_Result] = []
    busy: list[Busy] = []
    with wiring.opened(home) as app:
        for customer, name in wiring.prunable(app, database):
            listed = {backup.id: backup for backup in app.catalog.backups(name)}
            if dry_run:
                seen = wiring.examine(app, customer, name)
                results.append(_Result(customer, name, listed, seen.decisions, seen.frozen))
                continue
            try:
                done = wiring.prune(app, customer, name)
            except Busy as error:
                busy.append(error)
                continue
            results.append(
                _Result(
                    customer, name, listed, done.decisions, done.frozen, done.steps, done.left
                )
            )
    if json_:
        print_json({"dry_run": dry_run, "databases": [_plain(result) for result in results]})
    else:
        _show(results, dry_run)
    for one in busy:
        warn(str(one))
    if not dry_run:
        _judge(results, busy)


def _judge(results: Sequence[_Result], busy: Sequence[Busy]) -> None:
    """What was not done must not pass for done."""
    frozen = [result.database for result in results if result.frozen]
    failed = sum(step.did == "failed" for result in results for step in result.steps)
    if frozen:
        raise BackupsError(
            f"nothing was deleted of {', '.join(frozen)}",
            hint="The plan says why; `backups prune --dry-run` shows it again.",
        )
    if failed:
        raise BackupsError(
            f"{failed} steps failed in a store", hint="The next `backups prune` goes on."
        )
    if busy:
        raise busy[0]


def _show(results: Sequence[_Result], dry_run: bool) -> None:
    print_table(
        ["backup", "database", "taken", "promised until", "decision", "reason"],
        (
            [
                decision.backup,
                result.database,
                when(result.backups[decision.backup].created_at),
                when(result.backups[decision.backup].expires_at),
                "keep" if decision.keep else "delete",
                decision.words + _from(decision),
            ]
            for result in results
            for decision in result.decisions
            if decision.backup in result.backups
        ),
        "there are no backups",
    )
    for result in results:
        if result.frozen:
            warn(f"{result.database}: {result.frozen}")
        for step in result.steps:
            where = f" in {step.store}" if step.store else ""
            until = f" ({when(step.until)})" if step.until else ""
            click.echo(f"{step.backup}: {step.did}{where}: {step.words}{until}")
        if result.left:
            click.echo(f"{result.database}: {result.left} more are left for the next call")
    if dry_run:
        click.echo("nothing was changed")


def _from(decision: Decision) -> str:
    """A deletion's date; a kept one's is in its words."""
    return "" if decision.keep else f"; goes from {when(decision.when)}"


def _plain(result: _Result) -> dict[str, Any]:
    def promised(backup: str) -> tuple[datetime | None, datetime | None]:
        entry = result.backups.get(backup)
        return (entry.created_at, entry.expires_at) if entry else (None, None)

    return {
        "customer": result.customer,
        "database": result.database,
        "frozen": result.frozen or None,
        "left": result.left,
        "backups": [
            {
                "backup_id": decision.backup,
                "created_at": promised(decision.backup)[0],
                "expires_at": promised(decision.backup)[1],
                "decision": "keep" if decision.keep else "delete",
                "reason": decision.reason,
                "words": decision.words,
                "when": decision.when,
            }
            for decision in result.decisions
        ],
        "steps": [
            {
                "backup_id": step.backup,
                "store": step.store,
                "did": step.did,
                "words": step.words,
                "until": step.until,
            }
            for step in result.steps
        ],
    }
