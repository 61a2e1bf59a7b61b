"""`backups erase`."""

from __future__ import annotations

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, when
from backups.errors import ObjectLocked, StoreError, UsageError


@click.command(epilog="Example: backups erase acme --confirm acme")
@click.argument("customer", shell_complete=complete(customers))
@click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")
@click.option("--confirm", metavar="CUSTOMER", help="The customer's id, once more.")
@as_json
@pass_home_path
def command(home: str, customer: str, dry_run: bool, confirm: str | None, json_: bool) -> None:
    """Delete every backup of a CUSTOMER who asked for erasure, as holds and locks let it.

    The fleet file must say `state: erased` of them. What is locked says until when: call it
    again then. The record that something was there and is gone remains.
    """
    from backups import wiring

    with wiring.opened(home) as app:
        wiring.in_state(app, customer, "erased")
        if dry_run:
            names = [name for owner, name in wiring.prunable(app, None) if owner == customer]
            listed = [backup for name in names for backup in app.catalog.backups(name)]
            rows = [
                {"database": each.database, "backup_id": each.id, "created_at": each.created_at}
                for each in listed
            ]
            if json_:
                print_json({"dry_run": True, "backups": rows})
                return
            print_table(
                ["backup", "database", "taken"],
                ([each.id, each.database, when(each.created_at)] for each in listed),
                "there is nothing to delete",
            )
            return
        if confirm != customer:
            raise UsageError(
                "nothing was deleted: this cannot be undone",
                hint=f"See `--dry-run`, then say --confirm {customer}.",
            )
        done = wiring.erase(app, customer)
    steps = [(name, step) for name, each in done.items() for step in each.steps]
    left = sum(each.left for each in done.values())
    if json_:
        print_json(
            {
                "dry_run": False,
                "left": left,
                "steps": [
                    {
                        "database": name,
                        "backup_id": step.backup,
                        "store": step.store,
                        "did": step.did,
                        "words": step.words,
                        "until": step.until,
                    }
                    for name, step in steps
                ],
            }
        )
    else:
        for name, step in steps:
            where = f" in {step.store}" if step.store else ""
            until = f" ({when(step.until)})" if step.until else ""
            click.echo(f"{name} {step.backup}: {step.did}{where}: {step.words}{until}")
    if any(step.did == "failed" for _, step in steps):
        raise StoreError("not everything could be looked at or deleted")
    if left:
        raise ObjectLocked(
            f"{left} backups are not gone yet",
            hint="Locks and holds end as the steps say; then call it again.",
        )
