"""Which addresses a connection to a store may go to (OWASP, "Server-Side Request Forgery
Prevention"). `providers.guard` keeps an SDK's connections to it.

Hosted, a customer chooses where our requests go: by `?endpoint=`, or by the token server in a
Google key. What counts is the address that is connected to, never how its name is written.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from backups.errors import StoreDenied

Address = IPv4Address | IPv6Address

# Source: the IANA IPv4 Special-Purpose Address Registry, whole blocks even where a few of
# their addresses are global. Not from `ipaddress.is_global`, which differs between releases.
_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers; Alibaba Cloud's metadata is 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, but Azure's way into each of its machines
        "169.254.0.0/16",  # link-local; the metadata of AWS, Google and Azure
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata is 192.0.0.192
        "192.0.2.0/24",
        "192.88.99.0/24",  # the 6to4 relays that were
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
# The only part of IPv6 in use for all the world (IANA IPv6 Address Space): loopback,
# link-local, unique local (AWS's metadata is fd00:ec2::254) and multicast lie outside.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; local prefixes (RFC 8215) are not global


def _addresses(host: str, port: int) -> list[str]:
    """As the system resolves it, so `2130706433` and `0177.1` too are 127.0.0.1."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a name that can be resolved") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))


@dataclass(frozen=True, slots=True)
class Network:
    """Hosted: customers name endpoints, so none may lead to a private address."""

    hosted: bool = False
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that the operator trusts all the same."""
    resolve: Callable[[str, int], Sequence[str]] = _addresses
    """Numeric addresses of a host and port; raises socket.gaierror."""

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """Where a connection may go, resolved once. Raises StoreDenied if any of the answers
        is refused (one of several would be a way in), and socket.gaierror."""
        found = self.resolve(host, port)
        for address in found:
            self.check(address, host)
        return found

    def check(self, address: str, host: str) -> None:
        """Raises StoreDenied unless a connection may go to this numeric address."""
        if not self.hosted or _is_public(plain := _plain(address)):
            return
        if any(plain in network or _outer(address) in network for network in self.allowed):
            return
        raise StoreDenied(
            f"{host} leads to {address}, which is not a public address",
            hint="The operator may allow a network: hosted_allow in settings.yaml.",
        )


ANYWHERE = Network()


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)


def _outer(address: str) -> Address:
    return ip_address(address.partition("%")[0])  # without the interface of a link


def _plain(address: str) -> Address:
    """The IPv4 address that a mapped or translated one leads to, else the address itself."""
    outer = _outer(address)
    if isinstance(outer, IPv6Address):
        if outer.ipv4_mapped is not None:
            return outer.ipv4_mapped
        if outer in _NAT64:
            return IPv4Address(int(outer) & 0xFFFFFFFF)
    return outer
