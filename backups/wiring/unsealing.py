"""Identities, taken from where they lie: the only place that reads one. Every unsealing is on
record before anything is opened with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backups.errors import ConfigError, KeyRefused
from backups.wiring.app import App
from backups.wiring.roles import require

if TYPE_CHECKING:
    from backups.format.age import Identity
    from backups.ports import KeyWrapper


def identities_of(app: App, customer: str, why: str) -> tuple[Identity, ...]:
    """What opens that customer's backups: their own restore identity where they have one, and
    that of all, newest first.

    Raises RoleMissing, ConfigError, KeyRefused (also when the customer's grant is over),
    KeyServiceUnavailable.
    """
    from backups import keys

    require(app, "restore", "opening a backup")
    home = app.home
    found: tuple[Identity, ...] = ()
    if customer and home.customer_identity(customer).exists():
        found = own_identities(app, customer, why)
        # What was taken before they had a key of their own; it may have been rotated since.
        if not has_identity(app):
            return found
    if home.sealed_identity.exists():
        return (*found, *unseal(app, home.sealed_identity, "", why))
    return (*found, *keys.load_identities(home.restore_identity))


def own_identities(app: App, customer: str, why: str) -> tuple[Identity, ...]:
    """A customer's own, under a grant in force. Raises as `identities_of` does."""
    require(app, "restore", "opening a backup")
    if app.grants.in_force(customer, app.clock.now()) is None:
        raise KeyRefused(
            f"customer {customer} grants no use of their restore key now",
            hint=f"With their consent: backups key grant {customer} --until TIME --reason "
            "WHY --name WHO.",
        )
    return unseal(app, app.home.customer_identity(customer), customer, why)


def has_identity(app: App) -> bool:
    """Whether there is one to be read, or to be unsealed, for all customers."""
    home = app.home
    return "restore" in app.roles and (
        home.restore_identity.exists() or home.sealed_identity.exists()
    )


def unseal(app: App, path: Path, customer: str, why: str) -> tuple[Identity, ...]:
    """Every identity in a sealed file. Raises as `identities_of` does."""
    from backups.format.age import parse_identities
    from backups.format.sealed import context_for, read
    from backups.format.sealed import unseal as opened
    from backups.private import read_private

    sealed = read(read_private(path, "the sealed identity").strip().encode() + b"\n")
    with wrapper_of(app, sealed.wrapper) as wrapper:
        told = {"wrapper": sealed.wrapper, "why": why}
        app.audit.note("identity.unsealed", customer or None, path.name, told)
        text = opened(sealed, wrapper, context_for(customer))
    return parse_identities(text.decode())


@contextmanager
def wrapper_of(app: App, url: str) -> Iterator[KeyWrapper]:
    """The key service that a URL names. Raises ConfigError."""
    from backups.fleet import resolve_password
    from providers.kms_registry import open_wrapper

    with closing(open_wrapper(url, app.entropy, resolve_password)) as wrapper:
        yield wrapper


def sealed_bytes(app: App, text: str, url: str, customer: str) -> bytes:
    """An identity file's text, sealed, and opened again to see that it can be.

    Raises ConfigError, KeyRefused, KeyServiceUnavailable."""
    from backups.format.sealed import context_for, read, seal
    from backups.format.sealed import unseal as opened

    context = context_for(customer)
    with wrapper_of(app, url) as wrapper:
        data = seal(text.encode(), url, wrapper, context, app.entropy).encode()
        if opened(read(data), wrapper, context).decode() != text:
            raise ConfigError(f"{url} does not give back what it sealed")
    return data
