"""`backups verify`: restore tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from backups.cli.home import backups_and_databases, databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, progress, when
from backups.errors import (
    BackupsError,
    EnvironmentLacks,
    RestoreFailed,
    VerificationFailed,
)
from backups.proving import Drill, Opinion, Pick, SelfTest

MARKS = {True: "passed", False: "FAILED", None: "unknown"}


@click.group()
def command() -> None:
    """Restore tests: a backup restored into scratch, compared, examined, destroyed."""


@command.command(epilog="Example: backups verify run acme-main --json")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option("--cold", is_flag=True, help="From the store and the identity alone.")
@as_json
@pass_home_path
def run(home: str, backup: str, cold: bool, json_: bool) -> None:
    """Restore BACKUP (an id, or a database's newest) into scratch, and check it.

    Ends with 0 only when it PASSED: 50 FAILED, 47 ENVIRONMENT, 1 INCONCLUSIVE.
    """
    from backups import wiring
    from backups.wiring import controlling, proving

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        entry = wiring.choose(app, backup, None)
        if cold:
            found = controlling.cold_start(app, entry.database, show)
        else:
            found = proving.drill_one(
                app, entry, Pick("person"), show, lambda text: click.echo(text, err=True)
            )
    if json_:
        print_json(_fields(found))
    else:
        _show(found)
    _judge(found)


def _show(found: Drill) -> None:
    from verify.ladder import CHECKS

    print_table(
        ["level", "check", "of", "", "expected", "found"],
        (
            [
                f"L{CHECKS[check.name].level}",
                check.name,
                check.subject,
                MARKS[check.passed],
                check.expected,
                check.actual,
            ]
            for check in sorted(found.checks, key=lambda check: CHECKS[check.name].level)
        ),
        "nothing was checked",
    )
    took = ", ".join(f"{phase.name} {phase.seconds:.1f} s" for phase in found.phases)
    click.echo(f"{took}; {found.read_bytes} bytes read in {found.requests} requests")
    level = f" at level {found.level}" if found.level is not None else ""
    why = f": {found.reason}" if found.reason else ""
    click.echo(f"{found.verdict}{level}{why}")


def _judge(found: Drill) -> None:
    if found.verdict == "FAILED":
        raise VerificationFailed(f"the restore test failed: {found.reason}")
    if found.verdict == "ENVIRONMENT":
        raise EnvironmentLacks(f"scratch lacks what the source has: {found.reason}")
    if found.verdict != "PASSED":
        raise BackupsError(
            f"the restore test came to no verdict: {found.reason}",
            hint="It does not count as passed; `backups verify run` makes it again.",
        )


def _fields(found: Drill) -> dict[str, Any]:
    return {
        "drill_id": found.id,
        "backup_id": found.backup,
        "customer": found.customer,
        "database": found.database,
        "kind": found.kind,
        "rule": found.pick.rule,
        "verdict": found.verdict,
        "level": found.level,
        "reason": found.reason,
        "checks": [asdict(check) for check in found.checks],
        "phases": {phase.name: phase.seconds for phase in found.phases},
        "scratch": None if found.place is None else asdict(found.place),
        "store": found.store_url,
        "began_at": found.began_at,
        "ended_at": found.ended_at,
        "tables": found.tables,
        "rows": found.rows,
        "bytes": found.plain_bytes,
        "read_bytes": found.read_bytes,
        "requests": found.requests,
    }


@command.command(epilog="Example: backups verify due")
@as_json
@pass_home_path
def due(home: str, json_: bool) -> None:
    """Restore tests that are to be made, and when."""
    from backups import wiring
    from backups.wiring import proving

    with wiring.opened(home) as app:
        found = proving.due_drills(app)
        now = app.clock.now()
    rows = [
        {
            "customer": each.customer,
            "database": each.database,
            "rule": each.wanted.rule,
            "at": each.wanted.at,
            "due": each.wanted.at <= now,
            "until": each.wanted.until,
            "why": each.wanted.why,
        }
        for each in found
    ]
    if json_:
        print_json(rows)
        return
    print_table(
        ["database", "customer", "which", "at", "", "why"],
        (
            [
                each.database,
                each.customer,
                each.wanted.rule,
                when(each.wanted.at),
                "due" if each.wanted.at <= now else "",
                each.wanted.why,
            ]
            for each in found
        ),
        "no restore test is to be made",
    )


@command.command(name="list", epilog="Example: backups verify list acme-main")
@click.argument("database", required=False, shell_complete=complete(databases))
@as_json
@pass_home_path
def list_(home: str, database: str | None, json_: bool) -> None:
    """Restore tests that were made, newest first."""
    from backups import wiring

    with wiring.opened(home) as app:
        found = app.archive.evidence(["drill"], database=database)
    drills = [each for each in reversed(found) if isinstance(each, Drill)]
    if json_:
        print_json([_fields(each) for each in drills])
        return
    print_table(
        ["drill", "database", "backup", "which", "ended", "verdict", "level", "why"],
        (
            [
                each.id, each.database, each.backup, each.pick.rule, when(each.ended_at),
                each.verdict, "-" if each.level is None else f"L{each.level}", each.reason,
            ]
            for each in drills
        ),
        "no restore test was made yet",
    )  # fmt: skip


@command.command(name="self-test", epilog="Example: backups verify self-test acme-main")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@as_json
@pass_home_path
def self_test(home: str, backup: str, json_: bool) -> None:
    """Damage copies of BACKUP in every way we know: each must be rejected by its check."""
    from backups import wiring
    from backups.wiring import controlling

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        found = controlling.self_test(app, wiring.choose(app, backup, None), show)
    caught = sum(trial.caught for trial in found.trials)
    if json_:
        print_json(
            {
                "self_test_id": found.id,
                "backup_id": found.backup,
                "caught": caught,
                "trials": [asdict(trial) for trial in found.trials],
                "error": found.error,
            }
        )
    else:
        print_table(
            ["control", "what was done", "check", "", "by"],
            (
                [t.name, t.damage, t.check, "rejected" if t.caught else "MISSED", t.by]
                for t in found.trials
            ),
            "nothing was tried",
        )
        click.echo(f"{caught} of {len(found.trials)} as they should be")
    _judge_controls(found)


def _judge_controls(found: SelfTest) -> None:
    missed = [trial.name for trial in found.trials if not trial.caught]
    if missed:
        raise VerificationFailed(f"the verifier let pass: {', '.join(missed)}")
    if found.error:
        raise RestoreFailed(f"not every control could be made: {found.error}")


@command.command(epilog="Example: backups verify sweep")
@as_json
@pass_home_path
def sweep(home: str, json_: bool) -> None:
    """Destroy what restore tests that died left behind."""
    from backups import wiring
    from backups.wiring import proving

    with wiring.opened(home) as app:
        found = proving.sweep(app)
    if json_:
        print_json([asdict(place) for place in found])
    for place in found:
        state = "gone" if place.destroyed_at is not None else "STILL THERE"
        if not json_:
            click.echo(f"{place.id}: {place.kind}, {state}: {'; '.join(place.proof)}")
    if any(place.destroyed_at is None for place in found):
        raise BackupsError("something is left of a scratch place", hint="Remove it by hand.")


@command.command(
    epilog="Example: backups verify opinion 019abc... --name 'Ann, auditor' --failed "
    "--words 'the totals of October are wrong'"
)
@click.argument("drill")
@click.option("--name", required=True, help="Of the person or validator who gives it.")
@click.option("--passed/--failed", required=True, help="Their verdict.")
@click.option("--words", required=True, help="Why.")
@pass_home_path
def opinion(home: str, drill: str, name: str, passed: bool, words: str) -> None:
    """Record somebody else's verdict on a restore test. It stands beside ours, and can't make
    one pass."""
    from backups import wiring
    from backups.ids import uuid7

    with wiring.opened(home) as app:
        about = app.archive.one(drill, "drill")
        assert isinstance(about, Drill)  # noqa: S101  # asked for by its kind
        now = app.clock.now()
        app.archive.add(
            Opinion(
                id=uuid7(now, app.entropy.bytes(10)),
                customer=about.customer,
                database=about.database,
                drill=drill,
                name=name,
                passed=passed,
                words=words,
                at=now,
            )
        )
    click.echo(f"the opinion of {name} is on record")
