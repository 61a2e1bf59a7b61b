"""From files to policies: reading, and the rules that span customers and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from backups.declared import Assertion
from backups.errors import ConfigError
from backups.fleet.document import EACH, Document, Place, near, read, refuse, validate
from backups.fleet.places import Claim, trespasses
from backups.fleet.rules import DEFAULT_PLANS, Fleet, PlanRule, Store
from backups.model import Destination, Plan, Policy
from providers.urls import StoreUrl, parse_store_url


def load_fleet(path: Path) -> Fleet:
    """The fleet that a file, or every *.yaml and *.yml of a directory, declares.

    Raises ConfigError that lists every problem with its file, line and path.
    """
    documents = [read(file) for file in _files(path)]
    parts = [validate(document, Fleet) for document in documents]
    # On the plain values, so that one typing error doesn't hide what else is wrong.
    for rule in (_plans, _ids, _one_place_each, _recipients, _stores_apart):
        rule(documents)
    refuse("the fleet", [problem for document in documents for problem in document.problems])
    fleets = [part for part in parts if part is not None]
    return Fleet(
        plans={name: plan for fleet in fleets for name, plan in fleet.plans.items()},
        customers=[customer for fleet in fleets for customer in fleet.customers],
    )


def policies(fleet: Fleet) -> list[Policy]:
    """One policy per database, its version 0: the catalog numbers them."""
    plans = {**DEFAULT_PLANS, **fleet.plans}
    found = []
    for customer in fleet.customers:
        stores = tuple(map(_destination, customer.stores))
        for database in customer.databases:
            policy = Policy(
                customer=customer.id,
                database=database.id,
                version=0,
                plan=_plan(customer.plan, plans[customer.plan]),
                engine=database.engine,
                source_url=database.url,
                password_ref=database.password,
                stores=stores,
                recipients=tuple(customer.recipients),
                window=database.window,
                maintenance=tuple(database.maintenance),
                paused=database.paused,
                assertions=tuple(Assertion(a.name, a.sql) for a in database.assertions),
                application_role=database.application_role,
                scratch_region=customer.scratch_region,
            )
            found.append(policy)
    return found


def _plan(name: str, rule: PlanRule) -> Plan:
    given = rule.model_dump(exclude_none=True)  # what is not said has the plan's own default
    return Plan(name, **given)


def _destination(store: Store) -> Destination:
    roles = store.principals
    return Destination(
        url=store.url,
        writer=roles.writer if roles else store.role_arn,
        restorer=roles.restorer if roles else store.role_arn,
        pruner=roles.pruner if roles else store.role_arn,
        key_ref=store.key,
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    if not files:
        raise ConfigError(f"{path} holds no *.yaml file", hint="Name a fleet file.")
    return files


# --- rules that span customers and files ----------------------------------------------

_WHOSE = ("customers", EACH)


def _plans(documents: list[Document]) -> None:
    known = set(DEFAULT_PLANS)
    defined: dict[str, str] = {}
    for document in documents:
        plans = document.data.get("plans") if isinstance(document.data, dict) else None
        for name in plans if isinstance(plans, dict) else ():
            at = f"{document.file}:{document.lines['plans', name]}"
            if name == "basic":
                document.complain(("plans", name), "the plan 'basic' has no backups")
            elif name in defined:
                document.complain(
                    ("plans", name), f"this plan is defined at {defined[name]} too"
                )
            defined.setdefault(name, at)
            known.add(name)
    for document in documents:
        for place, name in document.find(*_WHOSE, "plan"):
            if name == "basic":
                words = "the plan 'basic' has no backups: choose another, or leave them out"
                document.complain(place, words)
            elif name not in known:
                document.complain(place, f"there is no such plan{near(name, known)}")


def _ids(documents: list[Document]) -> None:
    for pattern in ((*_WHOSE, "id"), (*_WHOSE, "databases", EACH, "id")):
        seen: dict[str, str] = {}
        for document in documents:
            for place, name in document.find(*pattern):
                if name in seen:
                    document.complain(place, f"this id is used at {seen[name]} too")
                seen.setdefault(name, f"{document.file}:{document.lines[place]}")


def _one_place_each(documents: list[Document]) -> None:
    """A second copy beside the first would be lost together with it."""
    seen: dict[tuple[object, ...], Place] = {}
    for document in documents:
        for place, store in _stores(document):
            mine = (document.file, place[:2], store.root, store.folders)
            if mine in seen:
                document.complain(place, "this customer's store is listed twice")
            seen.setdefault(mine, place)


def _recipients(documents: list[Document]) -> None:
    for document in documents:
        seen: set[tuple[Place, str]] = set()
        for place, key in document.find(*_WHOSE, "recipients", EACH):
            mine = (place[:-1], key.strip().lower())
            if mine in seen:
                document.complain(place, "this recipient is listed twice")
            seen.add(mine)


def _stores_apart(documents: list[Document]) -> None:
    claims = [
        Claim(f"{document.file}:{place[:2]}", store, (document, place))
        for document in documents
        for place, store in _stores(document)
    ]
    for claim, other in trespasses(claims):
        document, place = claim.where
        theirs, their_place = other.where
        at = f"{theirs.file}:{theirs.lines[their_place]}"
        document.complain(place, f"this place is inside another customer's, at {at}")


def _stores(document: Document) -> Iterator[tuple[Place, StoreUrl]]:
    for place, url in document.find(*_WHOSE, "stores", EACH, "url"):
        with suppress(ConfigError):  # `validate` has said so
            yield place, parse_store_url(url)
