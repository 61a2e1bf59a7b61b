"""From files to policies: reading, and the rules that span customers and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backups.errors import ConfigError
from backups.fleet.document import EACH, Document, Place, near, read, refuse, validate
from backups.fleet.rules import DEFAULT_PLANS, Fleet
from backups.model import Plan, Policy
from providers.urls import StoreUrl, parse_store_url


def load_fleet(path: Path) -> Fleet:
    """The fleet that a file, or every *.yaml and *.yml of a directory, declares.

    Raises ConfigError that lists every problem with its file, line and path.
    """
    documents = [read(file) for file in _files(path)]
    parts = [validate(document, Fleet) for document in documents]
    # On the plain values, so that one typing error doesn't hide what else is wrong.
    for rule in (_plans, _ids, _one_store, _recipients, _stores_apart):
        rule(documents)
    refuse("the fleet", [problem for document in documents for problem in document.problems])
    fleets = [part for part in parts if part is not None]
    return Fleet(
        plans={name: plan for fleet in fleets for name, plan in fleet.plans.items()},
        customers=[customer for fleet in fleets for customer in fleet.customers],
    )


def policies(fleet: Fleet) -> list[Policy]:
    """One policy per database, its version 0: the catalog numbers them.

    Raises ConfigError when the fleet asks for what this release can't do.
    """
    plans = {**DEFAULT_PLANS, **fleet.plans}
    found = []
    for customer in fleet.customers:
        store = customer.stores[0]
        if store.role_arn is not None:
            raise ConfigError(
                f"customer {customer.id}: assuming a role_arn is not in this release",
                hint="Name a profile that assumes it: `url: s3://bucket/prefix?profile=NAME`.",
            )
        for database in customer.databases:
            policy = Policy(
                customer=customer.id,
                database=database.id,
                version=0,
                plan=Plan(customer.plan, plans[customer.plan].retention_days),
                engine=database.engine,
                source_url=database.url,
                password_ref=database.password,
                store_url=store.url,
                recipients=tuple(customer.recipients),
            )
            found.append(policy)
    return found


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


def _one_store(documents: list[Document]) -> None:
    for document in documents:
        for place, _ in document.find(*_WHOSE, "stores", EACH, "url"):
            if place[-2] != 0:
                document.complain(
                    place[:-1], "copies in a second store are not in this release"
                )


def _recipients(documents: list[Document]) -> None:
    for document in documents:
        seen: set[tuple[Place, str]] = set()
        for place, key in document.find(*_WHOSE, "recipients", EACH):
            mine = (place[:-1], key.strip().lower())
            if mine in seen:
                document.complain(place, "this recipient is listed twice")
            seen.add(mine)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A customer's place in some store."""

    document: Document
    place: Place
    store: tuple[str, str, str]
    folders: tuple[str, ...]

    @property
    def customer(self) -> tuple[Path, Place]:
        return self.document.file, self.place[:2]


def _stores_apart(documents: list[Document]) -> None:
    """No customer's place in a store is another's, nor lies inside it."""
    claims = list(_claims(documents))
    owners: dict[tuple[object, ...], _Claim] = {}
    for claim in claims:
        owners.setdefault((claim.store, claim.folders), claim)
    for claim in claims:
        for depth in range(len(claim.folders) + 1):
            other = owners.get((claim.store, claim.folders[:depth]))
            if other is not None and other.customer != claim.customer:
                at = f"{other.document.file}:{other.document.lines[other.place]}"
                words = f"this place is inside another customer's, at {at}"
                claim.document.complain(claim.place, words)


def _claims(documents: list[Document]) -> Iterator[_Claim]:
    for document in documents:
        for place, url in document.find(*_WHOSE, "stores", EACH, "url"):
            try:
                store = parse_store_url(url)
            except ConfigError:  # `validate` has said so
                continue
            folders = tuple(part for part in store.prefix.split("/") if part)
            yield _Claim(document, place, _identity(store), folders)


def _identity(store: StoreUrl) -> tuple[str, str, str]:
    # AWS has one name space of buckets, however its endpoint is spelled.
    endpoint = urlsplit(store.options.get("endpoint", ""))
    aws = (endpoint.hostname or "").endswith(".amazonaws.com")
    where = "" if aws else endpoint.netloc.lower()
    return store.scheme, f"{store.account}/{store.bucket}", where
