"""`backups key canary`."""

from __future__ import annotations

from pathlib import Path

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json


@click.group()
def command() -> None:
    """The keys that backups are encrypted to."""


@command.command(epilog="Example: backups key canary acme --out canaries")
@click.argument("customer", shell_complete=complete(customers))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for the files; this one unless said.",
)
@click.option("--answer", metavar="TEXT", help="What a canary said: checked and recorded.")
@as_json
@pass_home_path
def canary(home: str, customer: str, out: Path, answer: str | None, json_: bool) -> None:
    """Prove that CUSTOMER can decrypt: until then no backup counts as recoverable.

    Writes a file for each recipient that only the holder of its identity can read. The
    text in it, given back with --answer, is the proof.
    """
    from backups import wiring
    from backups.private import write_private

    with wiring.opened(home) as app:
        if answer is not None:
            proof = wiring.answered(app, customer, answer)
            if json_:
                print_json({"proven": proof.proven, "unproven": proof.unproven})
                return
            for recipient in proof.proven:
                click.echo(f"proven: {recipient}")
            for recipient in proof.unproven:
                click.echo(f"not proven: {recipient}")
            return
        sealed = wiring.canaries(app, customer)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (recipient, data) in enumerate(sealed, 1):
        path = out / f"canary-{number}.age"
        write_private(path, data, mode=0o644)
        written.append({"recipient": recipient, "file": str(path)})
    if json_:
        print_json(written)
        return
    for entry in written:
        click.echo(f"{entry['file']} for {entry['recipient']}")
    click.echo(
        f"Whoever holds the identity answers:\n"
        f"  age --decrypt -i key.txt {written[0]['file']}\n"
        f"and what that prints is checked with:\n"
        f"  backups key canary {customer} --answer TEXT"
    )
