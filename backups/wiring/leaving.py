"""A customer who leaves, and one who asks for erasure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backups.declared import Policy, Standing
from backups.errors import BackupsError, ConfigError, NotFound
from backups.ports import Progress
from backups.wiring.app import App
from backups.wiring.applying import standing
from backups.wiring.holding import held
from backups.wiring.pruning import prunable, prune_ports
from backups.wiring.stores import place_of, places
from backups.wiring.taking import backup_ports, copy_to, source_of

if TYPE_CHECKING:
    from backups.run.erase import Erased

KEYS = (
    "no key of theirs was ever held here; the restore agent's identity, which opens their "
    "backups until they end its access, serves other customers too and was not destroyed"
)
"""What the record says of keys, as it is."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a customer who left was given."""

    folder: Path
    last: tuple[str, ...]
    """The last backup of each database, taken now."""
    failed: tuple[str, ...]
    """Databases of which none could be taken, with the reason."""
    backups: int
    sha256: str
    """Of the list of backups."""


def in_state(app: App, customer: str, wanted: str) -> None:
    """Raises NotFound, and ConfigError unless the fleet file says so of the customer."""
    if not any(policy.customer == customer for policy in app.catalog.policies()):
        raise NotFound(f"there is no customer {customer!r}")
    found = standing(app, customer)
    if found is None or found.state != wanted:
        raise ConfigError(
            f"{customer} is {found.state if found else 'active'}, not {wanted}",
            hint=f"Write `state: {wanted}` into the fleet file and apply it first.",
        )


def offboard(app: App, customer: str, folder: Path, progress: Progress) -> Handover:
    """Last backups, manifests and recipe into `folder`, then nothing more is done for them.
    Their data stays where it is: it is theirs.

    Raises ConfigError unless they are leaving, or when the folder is not empty; BackupsError
    when a last backup failed: then they are not offboarded, and the call may be repeated.
    """
    in_state(app, customer, "leaving")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", hint="Name a new folder with --out.")
    policies = [policy for policy in app.catalog.policies() if policy.customer == customer]
    last, failed = _last_backups(app, policies, progress)
    if failed:
        raise BackupsError(
            f"no last backup of {'; '.join(failed)}",
            hint="Repair it, or take the database out of service with `retired: true`.",
        )
    count, digest = _hand_over(app, policies, folder)
    now = app.clock.now()
    app.catalog.save_policies([], [Standing(customer, "", "left", now, None, "offboarded")])
    app.audit.note(
        "customer.left", customer, customer, {"backups": count, "list": digest, "keys": KEYS}
    )
    return Handover(folder, tuple(last), tuple(failed), count, digest)


def _last_backups(
    app: App, policies: Sequence[Policy], progress: Progress
) -> tuple[list[str], list[str]]:
    from backups.run.backup import back_up

    last, failed = [], []
    for policy in policies:
        own = standing(app, policy.customer, policy.database)
        if own is not None and own.state == "retired":
            continue
        try:
            with backup_ports(app, policy, anyway=True) as ports:
                taken = back_up(ports, policy, source_of(policy), progress)
            for store in policy.stores[1:]:
                copy_to(app, taken, store, progress)
        except BackupsError as error:
            failed.append(f"{policy.database}: {error}")
        else:
            last.append(taken.id)
    return last, failed


def _hand_over(app: App, policies: Sequence[Policy], folder: Path) -> tuple[int, str]:
    """Every manifest, the list of them, the verify key and the recipe."""
    from backups.format.manifest import manifest_key
    from backups.format.recipe import readme_text
    from backups.run.reader import fetch

    listed = []
    for policy in policies:
        for entry in app.catalog.backups(policy.database):
            for place in places(app, entry):
                with place_of(app, entry, place) as store:
                    envelope = fetch(store, manifest_key(entry.database, entry.id))
                digest = hashlib.sha256(envelope).hexdigest()
                path = folder / "manifests" / entry.database / f"{entry.id}-{digest[:8]}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(envelope)
                listed.append(
                    {
                        "database": entry.database,
                        "backup": entry.id,
                        "taken": entry.created_at.isoformat(),
                        "store": place.store_url,
                        "manifest": str(path.relative_to(folder)),
                        "sha256": digest,
                    }
                )
    text = json.dumps(listed, indent=2) + "\n"
    (folder / "backups.json").write_text(text)
    (folder / "README.txt").write_text(readme_text())
    (folder / "verify.pem").write_bytes(app.home.verify_key.read_bytes())
    return len({each["backup"] for each in listed}), hashlib.sha256(text.encode()).hexdigest()


def erase(app: App, customer: str) -> dict[str, Erased]:
    """By database. Raises ConfigError unless the customer asked for it, Busy."""
    from backups.run.erase import erase as take_apart
    from backups.wiring.holding import alone

    in_state(app, customer, "erased")
    done = {}
    for owner, database in prunable(app, None):
        if owner != customer:
            continue
        with (
            held(app, database),
            alone(app, f"{database}.copies", "a copy"),
            prune_ports(app, owner, database) as ports,
        ):
            done[database] = take_apart(ports, "its customer asked for erasure")
    left = sum(each.left for each in done.values())
    app.audit.note(
        "customer.erased" if not left else "customer.erasing",
        customer,
        customer,
        {"left": left, "keys": KEYS},
    )
    return done
