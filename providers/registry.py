"""Store URLs, and which adapter serves which scheme.

    s3://bucket[/prefix][?endpoint=URL&region=R&owner=ACCOUNT&profile=P&versions=true&lock=MODE]
    file:///path/of/an/existing/directory
    memory:name                              tests only; lives as long as the process

A new cloud is one entry in `SCHEMES`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backups.errors import ConfigError
from backups.ports import Clock, Entropy, ObjectStore
from providers.retry import Retrying
from providers.roles import Role, RoleBound


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL taken apart and found well formed; holds nothing secret."""

    scheme: str
    bucket: str
    """Bucket; of `memory:` its name; empty for `file:`."""
    prefix: str
    """Without slashes at its ends, may be empty; of `file:` the absolute path."""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The URL without its options, for people and messages."""
        if self.scheme == "memory":
            return f"memory:{self.bucket}"
        if self.scheme == "file":
            return f"file://{self.prefix}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one kind of store is named and opened."""

    locate: Callable[[SplitResult], tuple[str, str]]
    """Bucket and prefix; raises ConfigError."""
    options: Mapping[str, re.Pattern[str]]
    """Query parameters and what their values look like."""
    open: Callable[[StoreUrl, Clock], ObjectStore]
    """The bare adapter; its SDK is imported here, so that a program starts quickly."""


def parse_store_url(url: str) -> StoreUrl:
    """Take a store URL apart. Raises ConfigError, whose message never repeats a value
    that could be a credential."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError("the store URL is malformed", hint=_HINT) from error
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        raise _unknown_scheme(parts.scheme)
    if "@" in parts.netloc:
        raise ConfigError(
            "a store URL must not hold credentials",
            hint="Credentials come from the environment, ?profile=NAME, or the machine's role.",
        )
    if parts.fragment or "#" in url or not url.isascii() or not url.isprintable():
        raise ConfigError("the store URL has characters that do not belong there", hint=_HINT)
    bucket, prefix = scheme.locate(parts)
    return StoreUrl(parts.scheme, bucket, prefix, _options(parts.query, scheme.options))


def open_store(
    url: str | StoreUrl, *, clock: Clock, entropy: Entropy, role: Role
) -> ObjectStore:
    """The store at `url`, retried and kept to what `role` may do; no call to the network.

    A writer may not delete; a restorer may neither write nor delete. Raises ConfigError.
    """
    place = parse_store_url(url) if isinstance(url, str) else url
    adapter = SCHEMES[place.scheme].open(place, clock)
    return RoleBound(Retrying(adapter, clock, entropy), role)


# --- the schemes ----------------------------------------------------------------------

_HINT = "A store URL is s3://bucket/prefix or file:///path, see the documentation."
_LATER = {"gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What S3 calls safe characters, and no part that is `.` or `..`.
_PREFIX = re.compile(
    r"(?!\.{1,2}(?:/|$))[\w!.*'()=@+,-]+(?:/(?!\.{1,2}(?:/|$))[\w!.*'()=@+,-]+)*", re.A
)


def _locate_bucket(parts: SplitResult) -> tuple[str, str]:
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise ConfigError(
            f"{parts.netloc[:80]!r} is not the name of an S3 bucket",
            hint="3 to 63 characters of a-z, 0-9, '.' and '-'.",
        )
    if prefix and (len(prefix) > 100 or not _PREFIX.fullmatch(prefix)):
        raise ConfigError(
            f"{prefix[:80]!r} is not usable as a prefix in a bucket",
            hint="Up to 100 letters, digits and !-_.*'()=@+, between single slashes.",
        )
    return parts.netloc, prefix


def _locate_directory(parts: SplitResult) -> tuple[str, str]:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ConfigError(
            "a directory is named by its absolute path without '..'",
            hint="file:///srv/backups, with three slashes.",
        )
    return "", path.rstrip("/") or "/"


def _locate_memory(parts: SplitResult) -> tuple[str, str]:
    if parts.netloc or not re.fullmatch(r"[a-z0-9-]{1,64}", parts.path):
        raise ConfigError("a store in memory is memory:name", hint=_HINT)
    return parts.path, ""


def _options(query: str, known: Mapping[str, re.Pattern[str]]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ConfigError("the store URL's parameters are malformed", hint=_HINT) from error
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"a store URL of this kind has no parameter {name[:40]!r}",
                hint=f"Did you mean {near[0]!r}?"
                if near
                else f"It may have: {', '.join(known) or 'none'}. Never a credential.",
            )
        if name in options:
            raise ConfigError(f"the store URL gives {name!r} twice")
        if not known[name].fullmatch(value):
            raise ConfigError(f"the store URL's {name!r} is not valid", hint=_VALID[name])
        options[name] = value
    return options


def _unknown_scheme(name: str) -> ConfigError:
    if name in _LATER:
        return ConfigError(f"{_LATER[name]} ({name}://) is not in this release", hint=_HINT)
    return ConfigError(f"{name[:20]!r} is not a kind of store", hint=_HINT)


_VALID = {
    "endpoint": "http(s)://host[:port], without user, path or query.",
    "region": "Such as eu-central-1.",
    "owner": "The 12 digits of the AWS account that owns the bucket.",
    "profile": "The name of a profile in the AWS configuration.",
    "versions": "Only ?versions=true, or leave it out.",
    "lock": "governance or compliance.",
}

_S3_OPTIONS = {
    "endpoint": re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?/?"),
    "region": re.compile(r"[a-z0-9-]{1,40}"),
    "owner": re.compile(r"\d{12}", re.A),
    "profile": re.compile(r"[\w+=,.@-]{1,64}", re.A),
    "versions": re.compile("true"),
    "lock": re.compile("governance|compliance"),
}


def _open_s3(url: StoreUrl, _clock: Clock) -> ObjectStore:
    from providers.s3 import S3Options, connect

    options = url.options
    lock = options.get("lock")
    return connect(
        S3Options(
            bucket=url.bucket,
            prefix=url.prefix,
            endpoint=options.get("endpoint"),
            region=options.get("region"),
            owner=options.get("owner"),
            profile=options.get("profile"),
            versions="versions" in options,
            lock="compliance" if lock == "compliance" else "governance" if lock else None,
        )
    )


def _open_local(url: StoreUrl, _clock: Clock) -> ObjectStore:
    from providers.local import LocalStore

    return LocalStore(Path(url.prefix))


def _open_memory(url: StoreUrl, clock: Clock) -> ObjectStore:
    from providers.memory import shared

    return shared(url.bucket, clock)


SCHEMES: Mapping[str, Scheme] = {
    "s3": Scheme(_locate_bucket, _S3_OPTIONS, _open_s3),
    "file": Scheme(_locate_directory, {}, _open_local),
    "memory": Scheme(_locate_memory, {}, _open_memory),
}
