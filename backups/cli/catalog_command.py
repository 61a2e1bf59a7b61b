"""`backups catalog`."""

from __future__ import annotations

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json


@click.group()
def command() -> None:
    """The catalog: an index of what lies in the stores."""


@command.command(epilog="Example: backups catalog rebuild --store s3://acme-backups/bloomneo")
@click.option("--store", multiple=True, help="A store's URL; all declared ones when not said.")
@as_json
@pass_home_path
def rebuild(home: str, store: tuple[str, ...], json_: bool) -> None:
    """List every backup whose signed manifest lies in a store, and every hold. Adds, never
    removes."""
    from backups import wiring
    from backups.errors import ConfigError, IntegrityError
    from backups.keys import load_verify_keys
    from backups.run.rebuild import rebuild as rebuild_from

    results = []
    with wiring.opened(home, anew=True) as app:
        trusted = load_verify_keys(app.home)
        declared = wiring.declared_stores(app, None)
        if not store and not declared:
            raise ConfigError(
                "no store is declared", hint="Name one with --store URL, or apply a fleet file."
            )
        opened = [
            (one.url, wiring.store_of(app, customer, one, "restorer"))
            for customer, one in declared
            if not store or one.url in store
        ]
        known = {url for url, _ in opened}
        opened += [(url, wiring.bare_store(url)) for url in store if url not in known]
        for url, context in opened:
            with context as reader:
                result = rebuild_from(app.catalog, app.ledger, reader, url, trusted)
            if not result.unreadable:
                app.reconciliation.saw_whole(url, app.clock.now())
            results.append((url, result))
    if json_:
        print_json(
            [
                {
                    "store": url,
                    "found": result.found,
                    "added": result.added,
                    "holds": result.holds,
                    "unreadable": [
                        {"key": entry.key, "reason": str(entry.error)}
                        for entry in result.unreadable
                    ],
                }
                for url, result in results
            ]
        )
    else:
        for url, result in results:
            click.echo(
                f"{url}: {result.found} backups found, {result.added} added to the catalog, "
                f"and {result.holds} holds"
            )
            for entry in result.unreadable:
                click.echo(f"  not believed: {entry.key}: {entry.error}")
    unreadable = sum(len(result.unreadable) for _, result in results)
    if unreadable:
        raise IntegrityError(f"{unreadable} objects can't be believed; they are not listed")
