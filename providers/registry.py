"""Which adapter serves which kind of store. A new cloud is one entry in `ADAPTERS`, and its
syntax one in `urls.SYNTAX`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from backups.errors import ConfigError
from backups.ports import Clock, Entropy, ObjectStore
from providers.access import Access
from providers.retry import Retrying
from providers.roles import RoleBound
from providers.urls import StoreUrl, parse_store_url

Open = Callable[[StoreUrl, Access, Clock], ObjectStore]
"""Makes the bare adapter; its SDK is imported there, so that a program starts quickly."""


def open_store(
    url: str | StoreUrl, *, clock: Clock, entropy: Entropy, access: Access
) -> ObjectStore:
    """The store at `url`, retried and kept to what the role may do; no call to the network.

    A writer may not delete; a restorer may neither write nor delete. Raises ConfigError.
    """
    place = parse_store_url(url) if isinstance(url, str) else url
    try:
        adapter = ADAPTERS[place.scheme](place, access, clock)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(place.scheme)
        if extra is None:
            raise
        raise ConfigError(
            f"{place.place} needs a package that is not installed: {error.name}",
            hint=f"pip install 'bloomneo-backups[{extra}]'",
        ) from error
    bound = Retrying(adapter, clock, entropy)
    return RoleBound(bound, access.role, sees_data=access.sees_data)


# --- the adapters ---------------------------------------------------------------------


def _open_s3(url: StoreUrl, access: Access, clock: Clock) -> ObjectStore:
    from providers.s3 import connect
    from providers.s3_client import options_of

    return connect(options_of(url), access, clock)


def _open_gcs(url: StoreUrl, access: Access, _clock: Clock) -> ObjectStore:
    from providers.gcs import connect, options_of

    return connect(options_of(url), access)


def _open_azure(url: StoreUrl, access: Access, clock: Clock) -> ObjectStore:
    from providers.azure import connect, options_of

    return connect(options_of(url), access, clock)


def _open_local(url: StoreUrl, _access: Access, _clock: Clock) -> ObjectStore:
    from providers.local import LocalStore

    return LocalStore(Path(url.prefix))


def _open_memory(url: StoreUrl, _access: Access, clock: Clock) -> ObjectStore:
    from providers.memory import shared

    return shared(url.bucket, clock)


_EXTRAS = {"gs": "gcs", "az": "azure"}
"""Clouds whose SDK is installed only where it is wanted."""

ADAPTERS: Mapping[str, Open] = {
    "s3": _open_s3,
    "gs": _open_gcs,
    "az": _open_azure,
    "file": _open_local,
    "memory": _open_memory,
}
