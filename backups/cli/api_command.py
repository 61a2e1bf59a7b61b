"""`backups api`: the HTTP API and the pages."""

from __future__ import annotations

import getpass
import json

import click

from backups.cli.home import customers, pass_home_path
from backups.cli.output import as_json, complete, print_json
from backups.errors import NotFound


@click.group()
def command() -> None:
    """The HTTP API for dashboards, and the pages. `backups serve` does what is asked for."""


@command.command(epilog="Example: backups api serve --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@pass_home_path
def serve(home: str, host: str, port: int) -> None:
    """Answer calls until it is stopped. Put a proxy with TLS before it."""
    from backups import wiring
    from backups.wiring.serving_api import run_api

    with wiring.opened(home, roles=["api"]) as app:
        run_api(app, host, port)


@command.command(epilog="Example: backups api link acme --role viewer --role restorer")
@click.argument("customer", required=False, shell_complete=complete(customers))
@click.option("--role", "roles", multiple=True, default=["viewer"], show_default=True)
@click.option("--subject", default=getpass.getuser, help="Who will use it.")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Of the pages.")
@as_json
@pass_home_path
def link(
    home: str, customer: str | None, roles: tuple[str, ...], subject: str, url: str, json_: bool
) -> None:
    """Print a link to CUSTOMER's pages, or without one to the operator's. It works once,
    within a minute."""
    from backups import wiring
    from backups.api.sessions import link as signed
    from backups.wiring.serving_api import session_key

    with wiring.opened(home) as app:
        known = {policy.customer for policy in app.catalog.policies()}
        if customer is not None and customer not in known:
            raise NotFound(f"there is no customer {customer!r}")
        nonce = app.entropy.bytes(8).hex()
        now = app.clock.now()
        token = signed(session_key(app), customer, subject, list(roles), now, nonce)
    found = f"{url}/enter?link={token}"
    if json_:
        print_json({"url": found})
    else:
        click.echo(found)


@command.command(epilog="Example: backups api describe > openapi.json")
@pass_home_path
def describe(home: str) -> None:
    """Print the API's description (OpenAPI 3.1)."""
    from backups import wiring
    from backups.wiring.serving_api import house

    with wiring.opened(home) as app:
        ready = house(app)
        from backups.api.app import create

        click.echo(json.dumps(create(ready).openapi(), indent=2))
