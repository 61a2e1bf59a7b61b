"""Which addresses a connection to a store may go to (OWASP, "Server-Side Request Forgery
Prevention")."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class Network:
    """Hosted: customers name endpoints, so none may lead to a private address."""

    hosted: bool = False
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that the operator trusts all the same."""


ANYWHERE = Network()
