"""Whose place in a store is whose: no customer's lies in another's. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from backups.errors import ConfigError
from providers.urls import StoreUrl

Where = TypeVar("Where")


@dataclass(frozen=True, slots=True)
class Claim(Generic[Where]):
    """A customer's place in some store."""

    customer: str
    store: StoreUrl
    where: Where
    """How the one who asks finds it again."""


def trespasses(
    claims: Iterable[Claim[Where]],
) -> list[tuple[Claim[Where], Claim[Where]]]:
    """Each claim that lies at or below another customer's, and that other claim."""
    claims = list(claims)
    owners: dict[tuple[object, ...], Claim[Where]] = {}
    for claim in claims:
        owners.setdefault((claim.store.root, claim.store.folders), claim)
    found = []
    for claim in claims:
        for depth in range(len(claim.store.folders) + 1):
            other = owners.get((claim.store.root, claim.store.folders[:depth]))
            if other is not None and other.customer != claim.customer:
                found.append((claim, other))
    return found


def refuse_trespass(
    declared: Iterable[tuple[str, StoreUrl]], known: Iterable[tuple[str, StoreUrl]]
) -> None:
    """Raises ConfigError when a customer's declared place lies at, in or around another's,
    be that declared as well or known from before."""
    claims = [Claim(customer, store, False) for customer, store in known]
    claims += [Claim(customer, store, True) for customer, store in declared]
    for claim, other in trespasses(claims):
        if claim.where or other.where:
            raise ConfigError(
                f"{claim.store.place} of {claim.customer} lies in {other.store.place}, "
                f"which is {other.customer}'s",
                hint="Give each customer a bucket or a prefix of their own; nothing changed.",
            )
