"""`backups show`."""

from __future__ import annotations

import click

from backups.cli.home import backups_and_databases, pass_home_path
from backups.cli.output import as_json, complete, print_json, print_table, size, warn, when
from backups.lacking import not_carried
from backups.model import Fingerprint, Manifest
from backups.run.restore import RestorePorts

Read = tuple[Manifest, Fingerprint]


@click.command(epilog="Example: backups show acme-main --contents")
@click.argument("backup", shell_complete=complete(backups_and_databases))
@click.option(
    "--contents", is_flag=True, help="Open the fingerprint: tables, rows, what it lacks."
)
@click.option("--recipe", "recipe_only", is_flag=True, help="Print the stock-tool recipe only.")
@as_json
@pass_home_path
def command(home: str, backup: str, contents: bool, recipe_only: bool, json_: bool) -> None:
    """BACKUP (an id, or a database's newest) in words, from its manifest in the store."""
    from backups import wiring
    from backups.format.manifest import payload_of
    from backups.format.recipe import recipe
    from backups.run.restore import read_fingerprint

    with wiring.opened(home) as app:
        entry = wiring.choose(app, backup, None)
        places = wiring.places(app, entry)
        found: Fingerprint | None = None
        if contents:

            def opened(manifest: Manifest, ports: RestorePorts) -> Read:
                return manifest, read_fingerprint(ports, manifest, lambda *_: None)

            manifest, found = wiring.giving_back(app, entry, opened, warn)
        else:
            manifest = wiring.from_nearest(app, entry, lambda _, manifest: manifest, warn)
        scripts = [(place.store_url, recipe(manifest, place.store_url)) for place in places]
    if recipe_only:
        click.echo(scripts[0][1])
        return
    if json_:
        document = payload_of(manifest)
        if found is not None:
            document["tables"] = [
                {"schema": t.schema, "name": t.name, "rows": t.rows, "content": t.content}
                for t in found.tables
            ]
            document["not_backed_up"] = list(found.not_backed_up)
        print_json(document)
        return
    click.echo(f"""backup      {manifest.backup}
database    {manifest.database} of {manifest.customer} ({manifest.engine})
snapshot    {when(manifest.snapshot_at)}  at {manifest.position or "-"}
kept until  {when(manifest.expires_at)}
server      {manifest.server_version}, dumped by {manifest.tool_version}
policy      version {manifest.policy_version}
stores      {", ".join(place.store_url for place in places)}
opens with  {len(manifest.recipients)} identities; SHA-256 of their recipients:""")
    for recipient in manifest.recipients:
        click.echo(f"            {recipient}")
    for warning in manifest.warnings:
        click.echo(f"warning     {warning}")
    if not_carried(manifest.warnings) and found is None:
        click.echo("            `--contents` names what is not backed up")
    for words in found.not_backed_up if found is not None else ():
        click.echo(f"not backed up: {words}")
    print_table(
        ["artifact", "objects", "size", "stored"],
        (
            [a.name, str(len(a.segments)), size(a.plain_bytes), size(a.stored_bytes)]
            for a in manifest.artifacts
        ),
        "no artifacts",
    )
    if found is not None:
        print_table(
            ["schema", "table", "rows", "content hash"],
            ([t.schema, t.name, f"{t.rows:,}", t.content] for t in found.tables),
            "no tables",
        )
    for url, script in scripts:
        click.echo(f"With {url}, an identity and stock tools alone:\n")
        click.echo(script)
