"""`backups report`: what an auditor reads each month."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, progress, when
from backups.errors import Damaged, VerificationFailed

if TYPE_CHECKING:
    from backups.proving import Publication
    from verify.report.document import Report

one_month = click.option("--month", required=True, metavar="YYYY-MM", help="In UTC.")
one_customer = click.option(
    "--customer",
    shell_complete=complete(customers),
    help="Of this customer alone; of the whole fleet without it.",
)


@click.group()
def command() -> None:
    """The monthly report: which databases were proven to restore, and what was not."""


@command.command(epilog="Example: backups report build --month 2026-10 --out report-2026-10")
@one_month
@one_customer
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that is not there, or empty.",
)
@as_json
@pass_home_path
def build(home: str, month: str, customer: str | None, out: Path, json_: bool) -> None:
    """Write the report of a month into a folder, as JSON, page, PDF and tables, signed.

    Of a month that goes on it says how far it came. Nothing is published. Ends with code 50
    when the verifier itself failed its test, so that the report is BLOCKED.
    """
    from backups import wiring
    from backups.wiring import reporting
    from verify import bundle
    from verify.report.month import Month

    with wiring.opened(home) as app:
        built = reporting.build(app, Month.parse(month), customer)
    bundle.write(built.files, out)
    if json_:
        print_json({**_fields(built.report), "files": sorted(built.files), "out": str(out)})
    else:
        _show(built.report)
        click.echo(f"{len(built.files)} files in {out}; open {out / 'report.html'}")
    _judge(built.report)


@command.command(epilog="Example: backups report publish --month 2026-10 --customer acme")
@one_month
@one_customer
@click.option("--reason", default="", help="Why a published report is replaced by another.")
@as_json
@pass_home_path
def publish(home: str, month: str, customer: str | None, reason: str, json_: bool) -> None:
    """Keep the report of a month that is over, and put it into the customer's stores.

    `serve` does that by itself when a month is over. The fleet's report stays in the home.
    """
    from backups import wiring
    from backups.wiring import reporting
    from verify.report.month import Month

    with wiring.opened(home) as app, progress(quiet=json_) as show:
        found = reporting.publish(app, Month.parse(month), customer, show, reason=reason)
        folder = reporting.kept(app, found)
    if json_:
        print_json(_publication(found, folder))
        return
    click.echo(f"the report of {found.month} is kept in {folder}")
    for store in found.stores:
        click.echo(f"  and lies in {store}")


@command.command("list", epilog="Example: backups report list --customer acme")
@one_customer
@as_json
@pass_home_path
def list_(home: str, customer: str | None, json_: bool) -> None:
    """Reports that were published, newest first."""
    from backups import wiring
    from backups.wiring import reporting

    with wiring.opened(home) as app:
        rows = [
            _publication(each, reporting.kept(app, each))
            for each in reversed(reporting.published(app, customer))
        ]
    if json_:
        print_json(rows)
        return
    print_table(
        ["month", "published", "statement", "corrects", "why", "stores"],
        (
            [
                row["month"],
                when(row["published_at"]),
                row["statement_sha256"][:16],
                row["corrects"][:16],
                row["reason"],
                str(len(row["stores"])),
            ]
            for row in rows
        ),
        "no report was published yet",
    )


@command.command(epilog="Example: backups report check report-2026-10 --verify-key verify.pem")
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--verify-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The key that was handed out at enrolment; without it the bundle vouches for itself.",
)
@as_json
def check(bundle: Path, verify_key: Path | None, json_: bool) -> None:
    """Hold a report's folder against its signed statement; needs no home and no network."""
    from backups import keys
    from verify import bundle as bundles

    key = keys.load_verify_key(verify_key) if verify_key else None
    found = bundles.check(bundles.load(bundle), key)
    if json_:
        print_json({**asdict(found), "whole": found.whole})
    else:
        print_table(
            ["checked", "", "found"],
            (
                [each.name, "ok" if each.passed else "WRONG", each.words]
                for each in found.findings
            ),
            "nothing was checked",
        )
        if found.own_key:
            click.echo(
                f"note: key {found.key} came with the bundle, and proves only that it is of "
                "one piece; name the key that you were handed with --verify-key"
            )
    if not found.whole:
        wrong = ", ".join(each.name for each in found.findings if not each.passed)
        raise Damaged(f"this is not what was signed: {wrong}", hint="Fetch the report anew.")


@command.command(epilog="Example: backups report schema")
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from verify.report.document import schema

    print_json(schema())


def _show(report: Report) -> None:
    click.echo(report.headline)
    print_table(
        ["database", "customer", "outcome", "level", "why"],
        (
            [
                row.database,
                row.customer,
                row.outcome,
                "-" if row.level is None else f"L{row.level}",
                row.reason,
            ]
            for row in report.coverage.rows
        ),
        "no database was owed a restore test",
    )


def _fields(report: Report) -> dict[str, Any]:
    return {
        "month": report.identity.month,
        "customer": report.identity.customer,
        "state": report.state,
        "headline": report.headline,
        "databases": report.coverage.databases,
        "passed": report.coverage.passed,
        "exceptions": len(report.exceptions),
    }


def _publication(found: Publication, folder: Path) -> dict[str, Any]:
    return {
        "report_id": found.id,
        "month": found.month,
        "customer": found.customer or None,
        "published_at": found.built_at,
        "sha256": found.sha256,
        "statement_sha256": found.statement_sha256,
        "previous": found.previous,
        "corrects": found.corrects,
        "reason": found.reason,
        "stores": list(found.stores),
        "folder": str(folder),
    }


def _judge(report: Report) -> None:
    if report.state == "BLOCKED":
        raise VerificationFailed(
            "the report is BLOCKED: the verifier passed a copy that was damaged on purpose",
            hint="`backups verify self-test` names it; until that is mended nothing is proof.",
        )
