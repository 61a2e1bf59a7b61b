"""`backups audit`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table, when


@click.group()
def command() -> None:
    """The audit chain: who did what, and proof that nobody rewrote it."""


@command.command(epilog="Example: backups audit verify")
@as_json
@pass_home_path
def verify(home: str, json_: bool) -> None:
    """Follow the chain from its first record, and hold it against every head that was
    published into the customers' stores."""
    from backups import wiring
    from backups.errors import Damaged, StoreError
    from backups.keys import load_verify_keys
    from backups.run.audit import check_heads, read_chain

    agree, problems, unreachable = 0, [], []
    with wiring.opened(home) as app:
        chain = read_chain(app.audit)
        keys = load_verify_keys(app.home)
        for customer, destination in wiring.declared_stores(app, None):
            try:
                with wiring.store_of(app, customer, destination, "restorer") as store:
                    checked = check_heads(chain, store, keys)
            except StoreError as error:
                unreachable.append({"store": destination.url, "reason": str(error)})
                continue
            agree += checked.agree
            problems += [
                {"store": destination.url, "problem": problem} for problem in checked.problems
            ]
    if json_:
        print_json(
            {
                "records": len(chain.digests),
                "digest": chain.head,
                "heads": agree,
                "problems": problems,
                "unreachable": unreachable,
            }
        )
    else:
        click.echo(
            f"{len(chain.digests)} records follow one another; {agree} published heads agree"
        )
        click.echo(f"digest of the last record: {chain.head}")
        for one in unreachable:
            click.echo(f"  not looked at: {one['store']}: {one['reason']}")
        for one in problems:
            click.echo(f"  {one['store']}: {one['problem']}")
    if problems:
        raise Damaged(
            f"{len(problems)} published heads do not fit the audit chain",
            hint="The catalog's audit table was changed; compare it with a backup of it.",
        )


@command.command(epilog="Example: backups audit publish")
@as_json
@pass_home_path
def publish(home: str, json_: bool) -> None:
    """Put the chain's signed head into every customer's stores; once a day, and harmless
    when called again."""
    from backups import wiring

    with wiring.opened(home) as app:
        results = wiring.publish_heads(app)
    if json_:
        print_json(results)
    else:
        for row in results:
            click.echo(f"{row['store']}: {row['outcome']}")
    failed = [row for row in results if row["error"]]
    if failed:
        from backups.errors import StoreError

        raise StoreError(f"the head was not published into {len(failed)} stores")


@command.command("list", epilog="Example: backups audit list --customer acme --limit 20")
@click.option("--customer", help="Only what concerns this customer.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@as_json
@pass_home_path
def list_records(home: str, customer: str | None, limit: int, json_: bool) -> None:
    """The newest records, each checked against the one before."""
    from collections import deque

    from backups import wiring
    from backups.format.audit import follow

    with wiring.opened(home) as app:
        wanted = (r for r in follow(app.audit.records()) if customer in (None, r.customer))
        records = list(deque(wanted, maxlen=limit))[::-1]
    if json_:
        print_json(
            [
                {
                    "sequence": record.sequence,
                    "at": record.at,
                    "actor": record.actor,
                    "action": record.action,
                    "customer": record.customer,
                    "subject": record.subject,
                    "details": dict(record.details),
                }
                for record in records
            ]
        )
        return
    print_table(
        ["record", "at", "who", "what", "customer", "subject", "details"],
        (
            [
                str(record.sequence),
                when(record.at),
                record.actor,
                record.action,
                record.customer or "",
                record.subject,
                ", ".join(f"{name}: {value}" for name, value in record.details.items()),
            ]
            for record in records
        ),
        "nothing has been recorded yet",
    )
