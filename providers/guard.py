"""Keeps an SDK's connections to a `Network`: pools of urllib3, beneath all three SDKs, that
resolve a name once, check every answer, and connect to the very address that was checked.

Redirects, retries and token requests make their connections here too. TLS and the Host header
keep the name. A proxy is refused: it would resolve the names itself, where nobody checks.

The client of a store is guarded, and whatever asks for tokens at an address of a customer's
choice. What the SDKs ask for our own credentials is not: instance metadata is link-local.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from backups.errors import ConfigError, StoreDenied
from providers.network import Network

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter


class _Guarded:
    """Mixed into a connection class of urllib3; raises StoreDenied, which passes through
    urllib3, requests, google-auth and azure-core as it is, and is wrapped by botocore."""

    network: Network

    def _new_conn(self: Any) -> socket.socket:
        name = self._dns_host  # `host` lacks the dot that ends an absolute name
        if self.proxy is not None:
            raise _no_proxy(self.host)
        try:
            addresses = self.network.addresses(name.strip("[]"), self.port)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        failure: Exception = NewConnectionError(self, f"{self.host} has no address")
        for address in addresses:
            try:
                with _called(self, address):
                    connected: socket.socket = super()._new_conn()  # type: ignore[misc]
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            else:
                return connected
        raise failure


@contextlib.contextmanager
def _called(connection: Any, address: str) -> Iterator[None]:
    """While it connects, its host is an address, which is not resolved again."""
    name = connection._dns_host
    connection.host = address
    try:
        yield
    finally:
        connection.host = name


def _guarded(pool: type[HTTPConnectionPool], network: Network) -> type[HTTPConnectionPool]:
    bases = (_Guarded, pool.ConnectionCls)
    connection = type(f"Guarded{pool.ConnectionCls.__name__}", bases, {"network": network})
    return type(f"Guarded{pool.__name__}", (pool,), {"ConnectionCls": connection})


def guarded_pools(network: Network) -> dict[str, type[HTTPConnectionPool]]:
    """Pools of urllib3 kept to `network`, by scheme."""
    return {
        "http": _guarded(HTTPConnectionPool, network),
        "https": _guarded(HTTPSConnectionPool, network),
    }


def guard_boto3(client: Any, network: Network) -> None:
    """Keep a boto3 or botocore client to `network`, in place; none when it is not hosted."""
    if not network.hosted:
        return
    # One dict for all of its pool managers; there is no public way to say it.
    pools = client._endpoint.http_session._pool_classes_by_scheme
    pools.update({scheme: _guarded(pool, network) for scheme, pool in pools.items()})
    made = client._endpoint.http_session._manager.connection_from_url("https://example.org")
    if not issubclass(made.ConnectionCls, _Guarded):
        raise ConfigError("this release of botocore cannot be kept to public addresses")


def requests_adapter(network: Network, **arguments: Any) -> HTTPAdapter:
    """An adapter of requests kept to `network`, to be mounted for both `http://` and
    `https://`; an ordinary one when it is not hosted. `arguments` are HTTPAdapter's own."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415  part of the gcs and azure extras

    if not network.hosted:
        return HTTPAdapter(**arguments)
    pools = guarded_pools(network)

    class GuardedAdapter(HTTPAdapter):
        def init_poolmanager(self, *positional: Any, **named: Any) -> None:
            super().init_poolmanager(*positional, **named)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: str, **_: Any) -> Any:
            raise _no_proxy(urlsplit(proxy).hostname or "unnamed")

    return GuardedAdapter(**arguments)


def _no_proxy(host: str) -> StoreDenied:
    return StoreDenied(
        f"the way to stores leads through a proxy, {host}: refused when hosted",
        hint="Start this program without HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.",
    )
