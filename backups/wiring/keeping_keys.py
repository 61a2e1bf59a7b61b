"""Sealing identities, giving customers their own, rotating them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from backups.errors import BackupsError, ConfigError, NotFound, UsageError, WrongKey
from backups.keeping import Grant
from backups.model import Backup, Copy
from backups.ports import Progress
from backups.private import replace_private, write_private
from backups.wiring.app import App
from backups.wiring.roles import require
from backups.wiring.stores import destination_at, manifest_of, place_of, places, store_of
from backups.wiring.unsealing import identities_of, own_identities, sealed_bytes, unseal

if TYPE_CHECKING:
    from backups.format.age import Identity
    from backups.model import Manifest

FOR_ALL = ""
"""Instead of a customer's id: the identity of all who have none of their own."""
WHY = "rotation"
"""On record with each unsealing."""


def seal_identity(app: App, url: str) -> str:
    """Seal the restore identity by a key service, or by another one; the plain file is gone
    then. Returns its recipient. Raises ConfigError, KeyRefused, KeyServiceUnavailable."""
    from backups import keys

    home = app.home
    sealed = home.sealed_identity
    if sealed.exists():
        found = unseal(app, sealed, FOR_ALL, "to be sealed by another key")
    else:
        found = keys.load_identities(home.restore_identity)
    replace_private(sealed, sealed_bytes(app, _text(found), url, FOR_ALL))
    home.restore_identity.unlink(missing_ok=True)
    app.audit.note("identity.sealed", None, sealed.name, {"wrapper": url})
    return str(found[0].recipient)


def new_identity(app: App, customer: str, url: str) -> str:
    """A restore identity of a customer's own, sealed by a key that may be theirs: what is
    taken from now on is for it, and not for that of all. Returns its recipient.

    Raises NotFound, ConfigError when they have one, KeyRefused, KeyServiceUnavailable."""
    from backups.format.age import Identity

    _require_customer(app, customer)
    sealed, public = app.home.customer_identity(customer), app.home.customer_recipient(customer)
    if public.exists():
        raise ConfigError(
            f"customer {customer} has a restore key of their own",
            hint=f"A new one takes its place with: backups key rotate {customer}.",
        )
    identity = Identity.generate(app.entropy)
    sealed.unlink(missing_ok=True)  # of one that was killed before it was public
    write_private(sealed, sealed_bytes(app, _text([identity]), url, customer))
    write_private(public, f"{identity.recipient}\n".encode(), mode=0o644)
    app.audit.note("identity.made", customer, sealed.name, {"wrapper": url})
    return str(identity.recipient)


def grant(app: App, customer: str, until: datetime, reason: str, name: str) -> Grant:
    """Record the customer's consent to the use of their own restore key until then.

    Raises NotFound, UsageError."""
    _require_customer(app, customer)
    if not app.home.customer_recipient(customer).exists():
        raise NotFound(f"customer {customer} has no restore key of their own")
    if until <= app.clock.now():
        raise UsageError("a grant ends in the future")
    return app.grants.add(customer, until, reason, name, app.clock.now())


def known_keys(app: App) -> list[dict[str, str | None]]:
    """Every restore key of this home, in words; none is opened."""
    from backups import keys
    from backups.format.sealed import read

    home = app.home
    rows: list[dict[str, str | None]] = []
    for public in (home.restore_recipient, *sorted(home.keys.glob("customer-*.recipient"))):
        if not public.exists():
            continue
        owner = public.stem.removeprefix("customer-") if public.suffix == ".recipient" else ""
        path = home.customer_identity(owner) if owner else home.sealed_identity
        granted = app.grants.in_force(owner, app.clock.now()) if owner else None
        rows.append(
            {
                "customer": owner,
                "recipient": str(keys.load_restore_recipient(home, owner)),
                "sealed_by": read(path.read_bytes()).wrapper if path.exists() else None,
                "granted_until": granted.until.isoformat() if granted else None,
            }
        )
    return rows


def _require_customer(app: App, customer: str) -> None:
    if all(policy.customer != customer for policy in app.catalog.policies()):
        raise NotFound(f"there is no customer {customer!r}")


# --- rotation -------------------------------------------------------------------------


@dataclass(slots=True)
class Rotation:
    """What came of it."""

    recipient: str
    rewrapped: int = 0
    already: int = 0
    """Opened with the new key before."""
    failed: dict[str, str] = field(default_factory=dict)
    """Backup and store to why it could not be done."""
    proven: dict[str, str] = field(default_factory=dict)
    """Database to its oldest kept backup, read to its end with the new key alone."""
    finished: bool = False


def rotate(
    app: App,
    customer: str,
    progress: Progress,
    say: Callable[[str], None],
    *,
    finish: bool = False,
) -> Rotation:
    """Take a new restore identity into use, or go on with one that was begun, until every kept
    backup opens with it alone. `finish`: forget the old one, if nothing needs it.

    Raises UsageError when there is nothing to finish, and as opening and storing do.
    """
    require(app, "backup", "rotating keys")
    identities = _identities(app, customer)
    if finish and len(identities) == 1:
        raise UsageError("no rotation is under way", hint="`backups key rotate` begins one.")
    if len(identities) == 1:
        identities = _begin(app, customer, identities)
    new = identities[0]
    done = Rotation(str(new.recipient))
    _publish(app, customer, done.recipient)
    everything = [*identities, *(identities_of(app, FOR_ALL, WHY) if customer else ())]
    oldest: dict[str, Backup] = {}
    for entry in app.catalog.backups():  # newest first
        if customer not in (FOR_ALL, entry.customer):
            continue
        # What was taken for their own key alone does not concern the one of all.
        own = not customer and app.home.customer_recipient(entry.customer).exists()
        for place in places(app, entry):
            try:
                _rewrap(app, entry, place, everything, done, progress)
                oldest[entry.database] = entry
            except BackupsError as error:
                if own and isinstance(error, WrongKey):
                    break
                done.failed[f"{entry.id} in {place.store_url}"] = str(error)
                say(f"{entry.id} in {place.store_url}: {error}")
    for database, entry in sorted(oldest.items()):
        if any(one.startswith(entry.id) for one in done.failed):
            continue
        _prove(app, entry, new, progress)
        done.proven[database] = entry.id
    if finish and not done.failed:
        _store_identities(app, customer, [new])
        app.audit.note("identity.forgotten", customer or None, done.recipient)
        done.finished = True
    return done


def _identities(app: App, customer: str) -> tuple[Identity, ...]:
    if customer:
        _require_customer(app, customer)
        if not app.home.customer_identity(customer).exists():
            raise NotFound(f"customer {customer} has no restore key of their own")
        return own_identities(app, customer, WHY)
    return identities_of(app, FOR_ALL, WHY)


def _begin(app: App, customer: str, identities: Sequence[Identity]) -> tuple[Identity, ...]:
    """Both are kept from here on: whoever is killed next leaves something that opens all."""
    from backups.format.age import Identity

    fresh = Identity.generate(app.entropy)
    both = (fresh, *identities)
    _store_identities(app, customer, both)
    told = {"recipient": str(fresh.recipient)}
    app.audit.note("identity.rotated", customer or None, "restore identity", told)
    return both


def _publish(app: App, customer: str, recipient: str) -> None:
    """New backups are for the new one."""
    home = app.home
    path = home.customer_recipient(customer) if customer else home.restore_recipient
    replace_private(path, f"{recipient}\n".encode(), mode=0o644)


def _store_identities(app: App, customer: str, found: Sequence[Identity]) -> None:
    from backups.format.sealed import read

    home = app.home
    path = home.customer_identity(customer) if customer else home.sealed_identity
    if path.exists():
        url = read(path.read_bytes()).wrapper
        replace_private(path, sealed_bytes(app, _text(found), url, customer))
    else:
        replace_private(home.restore_identity, _text(found).encode())


def _rewrap(
    app: App,
    entry: Backup,
    place: Copy,
    identities: Sequence[Identity],
    done: Rotation,
    progress: Progress,
) -> None:
    from backups.format.age import Recipient
    from backups.run.rotate import RotatePorts
    from backups.run.rotate import rotate as rewrapped

    policy = app.catalog.policy(entry.database)
    destination = destination_at(app, entry.database, place.store_url)
    with ExitStack() as stack:
        reader = stack.enter_context(place_of(app, entry, place))
        writer = stack.enter_context(store_of(app, entry.customer, destination, "writer"))
        ports = RotatePorts(
            reader=reader,
            writer=writer,
            clock=app.clock,
            entropy=app.entropy,
            identities=identities,
            identity=identities[0],
            recipients=(*map(Recipient.parse, policy.recipients), identities[0].recipient),
        )
        manifest: Manifest = manifest_of(app, reader, entry, place)
        number = rewrapped(ports, manifest, progress)
    if number:
        done.rewrapped += 1
        told = {"store": place.store_url, "headers": number}
        app.audit.note("backup.rewrapped", entry.customer, entry.id, told)
    else:
        done.already += 1


def _prove(app: App, entry: Backup, new: Identity, progress: Progress) -> None:
    """Raises IntegrityError's kinds when the new one alone does not open it."""
    from backups.run.restore import check
    from backups.wiring.giving import from_nearest, restore_ports

    def use(store: object, manifest: Manifest) -> None:
        check(restore_ports(store, manifest, [new]), manifest, progress)  # type: ignore[arg-type]

    from_nearest(app, entry, use, lambda _: None)


def _text(identities: Sequence[Identity]) -> str:
    """As `age-keygen` writes them, newest first."""
    lines = ["# The restore agent's age identities, newest first. They open backups.\n"]
    for identity in identities:
        lines += [f"# public key: {identity.recipient}\n", f"{identity.reveal()}\n"]
    return "".join(lines)
