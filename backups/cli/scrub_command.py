"""`backups scrub`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, progress, size, warn
from backups.errors import IntegrityError, NotFound, StoreError

if TYPE_CHECKING:
    from backups.model import Scrub


def _count(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    """A number of segments; None for `all`."""
    return None if value == "all" else int(click.IntRange(0, 1_000_000)(value))


@click.command(epilog="Example: backups scrub acme --remove-orphans")
@click.argument("customer", required=False, shell_complete=complete(customers))
@click.option(
    "--orphan-age",
    type=click.IntRange(1, 3650),
    default=7,
    show_default=True,
    metavar="DAYS",
    help="Younger objects may be a run's that is under way.",
)
@click.option("--remove-orphans", is_flag=True, help="Delete them, as the pruner.")
@click.option(
    "--sample",
    default="3",
    callback=_count,
    show_default=True,
    metavar="N|all",
    help="Segments of each store to read, drawn by lot.",
)
@click.option("--no-identity", is_flag=True, help="Compare samples by digest, open none.")
@as_json
@pass_home_path
def command(
    home: str,
    customer: str | None,
    orphan_age: int,
    remove_orphans: bool,
    sample: int | None,
    no_identity: bool,
    json_: bool,
) -> None:
    """Compare every store of CUSTOMER, or of all, with the manifests in it and the catalog.

    \b
    missing      a manifest names it, or the catalog lists it, and it is gone
    altered      size, version or bytes are not what the manifest says
    unreadable   a manifest that can't be believed, a sample that does not open
    unreachable  the store could not be looked at, or not to the end
    unlisted     a backup that the catalog does not list here
    orphan       a part of a backup that no manifest names, older than --orphan-age
    foreign      named like nothing of ours; never removed
    upload       begun in parts by somebody else, and not ended (S3)

    The first three end with exit code 30, the fourth with 20, the others with 0.
    """
    from datetime import timedelta

    from backups import wiring
    from backups.run.scrub import ScrubOptions, scrub

    options = ScrubOptions(timedelta(days=orphan_age), remove_orphans, sample)
    done = []
    with wiring.opened(home) as app:
        stores = wiring.declared_stores(app, customer)
        if customer and not stores:
            raise NotFound(f"there is no customer {customer!r} with a store")
        with_identity = not no_identity and wiring.has_identity(app)
        if not (with_identity or no_identity or sample == 0):
            warn("the restore identity is not at hand: samples are compared by digest only")
        for owner, destination in stores:
            ports = wiring.scrub_ports(app, owner, destination, with_identity=with_identity)
            with progress(quiet=json_) as show:
                done.append(scrub(ports, options, show))
    _print(done, json_)
    _judge(done)


def _print(done: list[Scrub], json_: bool) -> None:
    if json_:
        print_json(
            [
                {
                    "customer": each.customer,
                    "store": each.store_url,
                    "objects": each.objects,
                    "backups": each.backups,
                    "read_bytes": each.read_bytes,
                    "findings": [asdict(finding) for finding in each.findings],
                }
                for each in done
            ]
        )
        return
    print_table(
        ["customer", "store", "objects", "backups", "read", "findings"],
        (
            [
                each.customer,
                each.store_url,
                str(each.objects),
                str(each.backups),
                size(each.read_bytes),
                str(len(each.findings) or "none"),
            ]
            for each in done
        ),
        "no store is declared; `backups apply FILE` declares them",
    )
    for each in done:
        if each.findings:
            click.echo(f"\nIn {each.store_url}:")
        for finding in each.findings:
            cost = f" ({size(finding.bytes)})" if finding.bytes else ""
            click.echo(f"  {finding.kind}  {finding.subject}: {finding.words}{cost}")


def _judge(done: list[Scrub]) -> None:
    """The exit code. Raises IntegrityError or StoreError."""
    from backups.run.scrub import BROKEN

    kinds = [finding.kind for each in done for finding in each.findings]
    broken = sum(kind in BROKEN for kind in kinds)
    if broken:
        raise IntegrityError(
            f"{broken} of the findings break a promise",
            hint="Restore from another copy where one is whole, and take a new backup now.",
        )
    if "unreachable" in kinds:
        raise StoreError(
            f"{kinds.count('unreachable')} of {len(done)} stores were not looked at"
        )
