"""`backups alarms`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, print_table, when


@click.command(epilog="Example: backups alarms --look")
@click.option("--look", is_flag=True, help="Look now, and tell, instead of waiting for serve.")
@click.option("--closed", is_flag=True, help="Those that are over, the newest 50.")
@as_json
@pass_home_path
def command(home: str, look: bool, closed: bool, json_: bool) -> None:
    """What is not as promised: as `serve` found it within the last minute, or now."""
    from backups import wiring

    with wiring.opened(home) as app:
        if look:
            wiring.watch(app)
        found = app.notices.alarms(closed=closed, limit=50 if closed else None)
    rows = [
        {
            "alarm_id": each.id,
            "kind": each.alarm.kind,
            "customer": each.alarm.customer or None,
            "subject": each.alarm.subject,
            "words": each.alarm.words,
            "since": each.alarm.since,
            "closed_at": each.closed_at,
        }
        for each in found
    ]
    if json_:
        print_json(rows)
        return
    print_table(
        ["alarm", "customer", "of", "since", "what"],
        (
            [
                each.alarm.kind,
                each.alarm.customer,
                each.alarm.subject,
                when(each.alarm.since),
                each.alarm.words,
            ]
            for each in found
        ),
        "no alarm stands" if not closed else "no alarm was ever closed",
    )
