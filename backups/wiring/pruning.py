"""Retention: what pruning a database and holding a backup need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from backups.errors import NotFound
from backups.model import Backup
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.applying import standing
from backups.wiring.holding import held
from backups.wiring.stores import destination_at, places, store_of

if TYPE_CHECKING:
    from backups.policy.retention import Rule
    from backups.run.holds import HoldPorts
    from backups.run.prune import Pruned
    from backups.run.pruning import Examined, PrunePorts


def prunable(app: App, database: str | None) -> list[tuple[str, str]]:
    """Customer and database of all that have backups, or of the one. Raises NotFound."""
    found = {(entry.customer, entry.database) for entry in app.catalog.backups(database)}
    found |= {
        (policy.customer, policy.database)
        for policy in app.catalog.policies()
        if database in (None, policy.database)
    }
    if database and not found:
        raise NotFound(f"there is no database {database!r}")
    return sorted(found)


def examine(app: App, customer: str, database: str) -> Examined:
    """What pruning would do now; changes nothing."""
    from backups.run.pruning import examine

    with prune_ports(app, customer, database) as ports:
        return examine(ports)


def prune(app: App, customer: str, database: str) -> Pruned:
    """Carry the plan out. Raises Busy while a run or a copy of the database is under way."""
    from backups.run.prune import prune
    from backups.wiring.holding import alone

    with (
        held(app, database),
        alone(app, f"{database}.copies", "a copy"),
        prune_ports(app, customer, database) as ports,
    ):
        done = prune(ports)
    marked = {step.backup: step.until for step in done.steps if step.did == "marked"}
    for backup, until in marked.items():
        told = {"database": database, "until": until.isoformat() if until else ""}
        app.audit.note("backup.marked", customer, backup, told)
    return done


@contextmanager
def prune_ports(app: App, customer: str, database: str) -> Iterator[PrunePorts]:
    """Every store of the database, as the restorer to look and as the pruner to delete."""
    from backups import keys
    from backups.run.pruning import PrunePorts
    from backups.run.shelves import Shelf
    from providers.urls import parse_store_url

    shelves: dict[tuple[object, ...], Shelf] = {}
    listed: dict[tuple[object, ...], dict[str, str]] = {}

    def where(url: str) -> tuple[object, ...]:
        parsed = parse_store_url(url)
        return parsed.root, parsed.folders

    for entry in app.catalog.backups(database):
        for copy in places(app, entry):
            listed.setdefault(where(copy.store_url), {})[entry.id] = copy.manifest_sha256
    urls = [destination_at(app, database, url).url for url in app.ledger.stores(database)]
    declared: list[str] = []
    with suppress(NotFound):
        declared = [store.url for store in app.catalog.policy(database).stores]
    with ExitStack() as stack:
        for url in urls:
            if where(url) not in shelves:
                destination = destination_at(app, database, url)
                reader = store_of(app, customer, destination, "restorer")
                pruner = store_of(app, customer, destination, "pruner")
                shelves[where(url)] = Shelf(
                    destination.url,
                    stack.enter_context(reader),
                    stack.enter_context(pruner),
                    listed.get(where(url), {}),
                )
        yield PrunePorts(
            catalog=app.catalog,
            ledger=app.ledger,
            archive=app.archive,
            clock=app.clock,
            signing_key=keys.load_signing_key(app.home),
            customer=customer,
            database=database,
            rule=rule_of(app, database),
            shelves=tuple(shelves.values()),
            state=_forbidding(app, customer, database),
            ended=_ended(app, customer, database),
            unread=app.reconciliation.unread(dict.fromkeys([*declared, *urls])),
            limit=load_settings(app.home).prune_limit,
        )


def _forbidding(app: App, customer: str, database: str) -> str:
    """The state in words, where it lets nothing be deleted."""
    from backups.fleet.states import STATES, in_words

    found = standing(app, customer, database)
    if found is None or STATES[found.state].prune:
        return ""
    return f"{found.database or customer} is {in_words(found, app.clock.now())}"


def _ended(app: App, customer: str, database: str) -> bool:
    found = standing(app, customer, database)
    today = app.clock.now().date()
    return (
        found is not None
        and found.state == "retired"
        and found.until is not None
        and today > found.until
    )


def rule_of(app: App, database: str) -> Rule | None:
    """What the policy in force says of keeping; None without one."""
    from backups.policy.retention import Rule, earlier_plans

    plans = app.ledger.plans(database)
    if not plans:
        return None
    settings = load_settings(app.home)
    return Rule(
        plan=plans[-1][0],
        earlier=earlier_plans(plans),
        downgrade_grace=timedelta(days=settings.downgrade_grace_days),
        deletion_grace=timedelta(days=settings.prune_grace_days),
        clock_bound=timedelta(days=settings.clock_doubt_days),
    )


def hold_ports(app: App, entry: Backup) -> HoldPorts:
    """What holding one backup needs: every store that has it, as the writer."""
    from backups import keys
    from backups.run.holds import HoldPorts

    stores = [destination_at(app, entry.database, p.store_url) for p in places(app, entry)]
    return HoldPorts(
        ledger=app.ledger,
        clock=app.clock,
        entropy=app.entropy,
        signing_key=keys.load_signing_key(app.home),
        stores=[(s.url, store_of(app, entry.customer, s, "writer")) for s in stores],
    )
