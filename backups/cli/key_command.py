"""`backups key`: proven, sealed, granted, rotated."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import (
    as_json,
    complete,
    print_json,
    print_table,
    progress,
    warn,
    when,
)
from backups.cli.times import instant

FORMS = "aws-kms://…, gcp-kms://…, azure-kv://…, passphrase:file:PATH, keyfile:PATH."


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


@command.command(epilog="Example: backups key seal --with aws-kms://alias/backups")
@click.option("--with", "url", metavar="KEY", required=True, help=FORMS)
@pass_home_path
def seal(home: str, url: str) -> None:
    """Seal the restore identity: from now on only who may use KEY restores.

    Called again it seals by another key. Keep a copy of the identity itself offline, for the
    day on which KEY is gone.
    """
    from backups import wiring
    from backups.wiring.keeping_keys import seal_identity

    with wiring.opened(home) as app:
        recipient = seal_identity(app, url)
    click.echo(f"the restore identity of {recipient} is sealed by {url}")


@command.command(epilog="Example: backups key new acme --with aws-kms://alias/for-bloomneo")
@click.argument("customer", shell_complete=complete(customers))
@click.option("--with", "url", metavar="KEY", required=True, help=FORMS)
@pass_home_path
def new(home: str, customer: str, url: str) -> None:
    """Give CUSTOMER a restore key of their own, sealed by KEY, which may be theirs.

    What is taken from now on is for it, and opened while they grant that: `backups key grant`.
    """
    from backups import wiring
    from backups.wiring.keeping_keys import new_identity

    with wiring.opened(home) as app:
        recipient = new_identity(app, customer, url)
    click.echo(f"from now on {customer}'s backups are for {recipient}, sealed by {url}")


@command.command(
    epilog="Example: backups key grant acme --until 2026-12-31 --reason 'restore tests' "
    "--name 'Ann of Acme'"
)
@click.argument("customer", shell_complete=complete(customers))
@click.option(
    "--until", required=True, metavar="TIME", callback=instant, help="Its end: 2026-12-31."
)
@click.option("--reason", required=True, help="What it is for.")
@click.option("--name", required=True, help="Who consents, or has their consent.")
@pass_home_path
def grant(home: str, customer: str, until: datetime, reason: str, name: str) -> None:
    """Record CUSTOMER's consent to the use of their own restore key, for a while.

    The key itself is in their hands too: what they take away there ends sooner.
    """
    from backups import wiring
    from backups.wiring.keeping_keys import grant as granted

    with wiring.opened(home) as app:
        found = granted(app, customer, until, reason, name)
    click.echo(f"{customer} grants the use of their restore key until {when(found.until)}")


@command.command(epilog="Example: backups key revoke acme --name 'Ann of Acme'")
@click.argument("customer", shell_complete=complete(customers))
@click.option("--name", required=True, help="Who asked for it.")
@pass_home_path
def revoke(home: str, customer: str, name: str) -> None:
    """End CUSTOMER's grants now."""
    from backups import wiring

    with wiring.opened(home) as app:
        count = app.grants.revoke(customer, name, app.clock.now())
    click.echo(f"{count} grants of {customer} ended" if count else "no grant was in force")


@command.command(epilog="Example: backups key show")
@as_json
@pass_home_path
def show(home: str, json_: bool) -> None:
    """Whose restore keys there are, what seals them, and what is granted."""
    from backups import wiring
    from backups.wiring.keeping_keys import known_keys

    with wiring.opened(home) as app:
        rows = known_keys(app)
    if json_:
        print_json(rows)
        return
    print_table(
        ["whose", "recipient", "sealed by", "granted until"],
        [
            (
                str(row["customer"] or "all"),
                str(row["recipient"]),
                str(row["sealed_by"] or "nothing: a plain file"),
                str(row["granted_until"] or "-"),
            )
            for row in rows
        ],
        "there is no restore key here",
    )


@command.command(epilog="Example: backups key rotate")
@click.argument("customer", required=False, shell_complete=complete(customers))
@click.option("--finish", is_flag=True, help="Forget the old key, once nothing needs it.")
@as_json
@pass_home_path
def rotate(home: str, customer: str | None, finish: bool, json_: bool) -> None:
    """Take a new restore key into use, of all or of CUSTOMER, and rewrap what is kept.

    Every kept backup gets new headers beside it; no data is touched. The oldest of each
    database is then read to its end with the new key alone. Killed, it goes on when called
    again. Copy the keys to the homes of other workers, and then --finish.
    It revokes nothing: whoever has the old key and may read the stores opens what lies there.
    """
    from dataclasses import asdict

    from backups import wiring
    from backups.errors import IntegrityError
    from backups.wiring.keeping_keys import rotate as rotated

    with wiring.opened(home) as app, progress(quiet=json_) as shown:
        done = rotated(app, customer or "", shown, warn, finish=finish)
    if json_:
        print_json(asdict(done))
    else:
        click.echo(
            f"new recipient {done.recipient}: {done.rewrapped} backups rewrapped, "
            f"{done.already} opened with it already"
        )
        for database, backup in done.proven.items():
            click.echo(f"{database}: its oldest backup {backup} opens with the new key alone")
        if done.finished:
            click.echo("the old key is forgotten here")
    if done.failed:
        raise IntegrityError(
            f"{len(done.failed)} could not be rewrapped: the old key is still needed",
            hint="See what is wrong with them, and call it again.",
        )
