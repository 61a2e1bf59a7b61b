"""`backups store check` and `backups store policy`."""

from __future__ import annotations

from pathlib import Path

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, progress

one_store = click.option("--store", metavar="URL", help="This one of its stores; else all.")


@click.group()
def command() -> None:
    """A customer's stores: examine them, and print the rights that they need."""


@command.command(epilog="Example: backups store check acme --json")
@click.argument("customer", shell_complete=complete(customers))
@one_store
@as_json
@pass_home_path
def check(home: str, customer: str, store: str | None, json_: bool) -> None:
    """Try everything a store must do on CUSTOMER's real one, and look at how it is set up.

    With each role's own rights, below a key prefix of its own that is removed again; under
    object lock one empty object stays for two minutes. What the store does not tell is
    UNPROVEN, which is never passed. Ends with code 20 if anything failed.
    """
    from backups import wiring
    from backups.errors import StoreError

    results = []
    with wiring.opened(home) as app:
        for destination in wiring.stores_of(app, customer, store):
            with progress(quiet=json_) as show:
                looks = wiring.examination(app, customer, destination, show)
            results.append((destination.url, looks))
    if json_:
        print_json(
            [
                {
                    "store": url,
                    "checks": [
                        {"name": look.name, "outcome": look.outcome, "words": look.words}
                        for look in looks
                    ],
                    "ok": all(look.outcome != "failed" for look in looks),
                }
                for url, looks in results
            ]
        )
    else:
        for url, looks in results:
            click.echo(url)
            print_table(
                ["check", "outcome", "what was seen"],
                (
                    [look.name.replace("_", " "), look.outcome.upper(), look.words]
                    for look in looks
                ),
                "nothing was looked at",
            )
            outcomes = [look.outcome for look in looks]
            counts = (
                f"{outcomes.count(outcome)} {outcome}"
                for outcome in ("passed", "warning", "failed", "unproven")
            )
            click.echo(f"{', '.join(counts)}\n")
    failed = [look.name for _, looks in results for look in looks if look.outcome == "failed"]
    if failed:
        raise StoreError(
            f"{len(failed)} checks failed: {', '.join(failed)}",
            hint="Each says what to do. `backups store policy` prints the rights to grant.",
        )


@command.command(
    epilog="Example: backups store policy acme --operator 123456789012 --form terraform"
)
@click.argument("customer", shell_complete=complete(customers))
@click.option(
    "--operator",
    metavar="PRINCIPAL",
    required=True,
    help="Who we are. AWS: an account or ARN; Google: serviceAccount:ADDRESS; "
    "Azure: ISSUER#SUBJECT.",
)
@click.option(
    "--form", type=click.Choice(["json", "terraform", "commands"]), help="Only documents of it."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write them as files into this folder.",
)
@one_store
@as_json
@pass_home_path
def policy(
    home: str,
    customer: str,
    operator: str,
    form: str | None,
    out: Path | None,
    store: str | None,
    json_: bool,
) -> None:
    """Print what CUSTOMER's administrator applies, so that each role may do its own work.

    Stores of other clouds than the operator's are left out, as are folders.
    """
    from backups import wiring

    with wiring.opened(home) as app:
        places = wiring.documents_for(app, customer, operator, store)
    found = [
        (number, place, document)
        for number, (place, documents) in enumerate(places, 1)
        for document in documents
        if form in (None, document.form)
    ]
    if out is not None:
        for number, place, document in found:
            several = f"{number}-{place.scheme}-{place.bucket}" if len(places) > 1 else ""
            folder = out / several
            folder.mkdir(parents=True, exist_ok=True)
            (folder / document.name).write_text(document.text)
    if json_:
        print_json(
            [
                {"store": place.place, "name": one.name, "form": one.form, "text": one.text}
                for _, place, one in found
            ]
        )
    elif out is not None:
        click.echo(f"{len(found)} documents written to {out}")
    else:
        for _, place, document in found:
            click.echo(f"# {document.name}, for {place.place}")
            click.echo(document.text)
