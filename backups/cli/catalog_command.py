"""`backups catalog`: rebuilt from the stores, moved, backed up, brought back."""

from __future__ import annotations

from pathlib import Path

import click

from backups.cli.home import pass_home_path
from backups.cli.output import as_json, print_json, size, warn


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


@command.command(epilog="Example: backups catalog backup --store s3://our-own-bucket/catalog")
@click.option("--store", metavar="URL", required=True, help="The operator's own store.")
@click.option(
    "--recipient",
    multiple=True,
    help="An age public key to encrypt it to; catalog_recipients of the settings if not said.",
)
@as_json
@pass_home_path
def backup(home: str, store: str, recipient: tuple[str, ...], json_: bool) -> None:
    """Store the catalog itself, encrypted and signed, while it is in use.

    It knows every customer: no customer's store is taken. Keep the home's keys elsewhere too.
    """
    from backups import wiring

    with wiring.opened(home) as app:
        label = wiring.back_up_catalog(app, store, recipient)
    plain = sum(piece.plain_bytes for piece in label.pieces)
    if json_:
        print_json(
            {"name": label.name, "taken_at": label.taken_at, "bytes": plain, "store": store}
        )
        return
    click.echo(f"the catalog is stored as {label.name}: {size(plain)}")


@command.command(
    epilog="Example: backups catalog move --to postgresql://backups@db.internal/catalog "
    "--password file:/run/secrets/catalog"
)
@click.option(
    "--to",
    metavar="URL",
    required=True,
    help="An empty PostgreSQL database; or `file`, for the SQLite file of this home.",
)
@click.option("--password", metavar="REFERENCE", help="env:NAME, file:PATH or a cloud's.")
@as_json
@pass_home_path
def move(home: str, to: str, password: str | None, json_: bool) -> None:
    """Move the catalog to another database, with all that it knows, and go on there.

    One machine's catalog is a file. For many machines it is a PostgreSQL database, in which
    the queue of work is too. `serve` and workers must be stopped meanwhile.
    """
    from backups import wiring

    with wiring.opened(home) as app:
        rows = wiring.move_catalog(app, to, password, app.clock.now())
    if json_:
        print_json({"rows": rows})
        return
    click.echo(f"the catalog was moved: {rows} rows; the settings say where it is now")


@command.command(
    epilog="Example: backups catalog restore --store s3://our-own-bucket/catalog "
    "--identity operator.txt"
)
@click.option("--store", metavar="URL", required=True, help="The operator's own store.")
@click.option(
    "--identity",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The operator's age identity.",
)
@click.option(
    "--verify-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who must have signed it; the home's own verify key if not said.",
)
@as_json
@pass_home_path
def restore(
    home: str, store: str, identity: Path, verify_key: Path | None, json_: bool
) -> None:
    """Bring the newest stored catalog back into a home that lost its own. Overwrites none.

    It does not know what was done since: nothing is deleted from a store until `backups
    catalog rebuild` has read it.
    """
    from backups import wiring

    label = wiring.restore_catalog(home, store, identity, verify_key, warn)
    if json_:
        print_json({"name": label.name, "taken_at": label.taken_at, "store": store})
        return
    click.echo(f"the catalog is back as of {label.taken_at}; now run `backups catalog rebuild`")
