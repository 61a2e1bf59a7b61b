"""Whose place in a store is whose: no customer's lies in another's. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

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
