"""`backups apply`."""

from __future__ import annotations

from pathlib import Path

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json


@click.command(epilog="Example: backups apply fleet.yaml --dry-run")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@as_json
@pass_home_path
def command(home: str, path: Path, dry_run: bool, json_: bool) -> None:
    """Declare plans, customers, stores and databases from a YAML FILE or a folder of them.

    Editing a database's rule makes a new version of its policy; running it twice changes
    nothing.
    """
    from backups import wiring
    from backups.fleet import load_fleet, policies

    changes = []
    declared = policies(load_fleet(path))
    with wiring.opened(home) as app:
        wiring.refuse_trespass(app, declared)
        in_force = {policy.database: policy for policy in app.catalog.policies()}
        for policy in declared:
            known = in_force.get(policy.database)
            version = known.version if known else 0
            if not dry_run:
                new_version = app.catalog.save_policy(policy).version
            else:
                new_version = version + (not app.catalog.same_rule(known, policy))
            if new_version != version:
                changes.append(
                    {
                        "customer": policy.customer,
                        "database": policy.database,
                        "from_version": version or None,
                        "to_version": new_version,
                    }
                )
    if json_:
        print_json({"dry_run": dry_run, "databases": len(declared), "changes": changes})
        return
    for change in changes:
        verb = "changes" if change["from_version"] else "is new"
        click.echo(
            f"{change['database']} of {change['customer']} {verb}: "
            f"policy version {change['to_version']}"
        )
    done = "would change" if dry_run else "changed"
    click.echo(f"{len(declared)} databases declared, {len(changes)} {done}")
