"""`backups due`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table, when


@click.command(epilog="Example: backups due acme --at 2027-03-28T02:30")
@click.argument("customer", required=False)
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]),
    help="Another instant than now, in UTC.",
)
@as_json
@pass_home_path
def command(home: str, customer: str | None, at: datetime | None, json_: bool) -> None:
    """What is due, and when each database's next backup starts; nothing is started."""
    from backups import wiring
    from backups.errors import NotFound
    from backups.model import History
    from backups.schedule.due import MEMORY, due
    from backups.wiring.working import fleet

    with wiring.opened(home) as app:
        policies = fleet(app, customer)
        if customer and not policies:
            raise NotFound(f"there is no customer {customer!r}")
        now = at.replace(tzinfo=UTC) if at else app.clock.now()
        histories = app.agenda.histories(now - MEMORY)
        found = [
            (policy, due(policy, histories.get(policy.database, History()), now))
            for policy in policies
        ]
    rows = [
        {
            "customer": policy.customer,
            "database": policy.database,
            "due": answer.start,
            "why": answer.why,
            "day": answer.day.isoformat(),
            "slot": answer.slot,
            "next": now if answer.start else answer.next,
        }
        for policy, answer in found
    ]
    if json_:
        print_json(rows)
        return
    print_table(
        ["customer", "database", "local day", "", "next start"],
        (
            [
                policy.customer,
                policy.database,
                answer.day.isoformat(),
                answer.why,
                "now" if answer.start else when(answer.next),
            ]
            for policy, answer in found
        ),
        "no databases are declared; `backups apply FILE` declares them",
    )
