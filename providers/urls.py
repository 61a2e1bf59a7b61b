"""Store URLs: where a store is, without a word about how it is reached. Pure.

    s3://bucket[/prefix][?endpoint=URL&region=R&owner=ACCOUNT&profile=P&versions=true&lock=MODE]
    gs://bucket[/prefix][?endpoint=URL&versions=true&lock=MODE]
    az://account/container[/prefix][?endpoint=URL&tenant=ID&versions=true&lock=MODE]
    file:///path/of/an/existing/directory
    memory:name                              tests only; lives as long as the process

`lock` is the mode of the locks we set per object: governance or compliance on S3, unlocked or
locked on Google Cloud Storage and Azure. `versions` says that the bucket keeps versions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backups.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL taken apart and found well formed; holds nothing secret."""

    scheme: str
    bucket: str
    """Bucket or container; of `memory:` its name; empty for `file:`."""
    prefix: str
    """Without slashes at its ends, may be empty; of `file:` the absolute path."""
    options: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    """Azure's storage account."""

    @property
    def place(self) -> str:
        """The URL without its options, for people and messages."""
        if self.scheme == "memory":
            return f"memory:{self.bucket}"
        parts = (self.account, self.bucket, self.prefix.strip("/"))
        lead = "/" if self.scheme == "file" else ""
        return f"{self.scheme}://{lead}{'/'.join(part for part in parts if part)}"

    @property
    def root(self) -> tuple[str, str, str]:
        """What makes a bucket one and the same, however its URL is spelled."""
        # AWS has one name space of buckets, however its endpoint is spelled.
        endpoint = urlsplit(self.options.get("endpoint", ""))
        aws = (endpoint.hostname or "").endswith(".amazonaws.com")
        bucket = f"{self.account}/{self.bucket}" if self.account else self.bucket
        return self.scheme, bucket, "" if aws else endpoint.netloc.lower()

    @property
    def folders(self) -> tuple[str, ...]:
        """The prefix, level by level."""
        return tuple(part for part in self.prefix.split("/") if part)


@dataclass(frozen=True, slots=True)
class Syntax:
    """How one kind of store is named."""

    locate: Callable[[SplitResult], tuple[str, str, str]]
    """Account, bucket and prefix; raises ConfigError."""
    options: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    """Query parameters and what their values look like."""


def parse_store_url(url: str) -> StoreUrl:
    """Take a store URL apart. Raises ConfigError, whose message never repeats a value
    that could be a credential."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError("the store URL is malformed", hint=_HINT) from error
    syntax = SYNTAX.get(parts.scheme)
    if syntax is None:
        raise ConfigError(f"{parts.scheme[:20]!r} is not a kind of store", hint=_HINT)
    if "@" in parts.netloc:
        raise ConfigError(
            "a store URL must not hold credentials",
            hint="Credentials come from the environment, ?profile=NAME, or the machine's role.",
        )
    if parts.fragment or "#" in url or not url.isascii() or not url.isprintable():
        raise ConfigError("the store URL has characters that do not belong there", hint=_HINT)
    account, bucket, prefix = syntax.locate(parts)
    options = _options(parts.query, syntax.options)
    return StoreUrl(parts.scheme, bucket, prefix, options, account)


# --- names ----------------------------------------------------------------------------

_HINT = (
    "A store URL is s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix or "
    "file:///path."
)
_S3_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_GCS_BUCKET = re.compile(
    r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?(?:\.[a-z0-9][a-z0-9_-]{0,62})*"
)
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9](?:-?[a-z0-9])*")
# What S3 calls safe characters, and no part that is `.` or `..`.
_PREFIX = re.compile(
    r"(?!\.{1,2}(?:/|$))[\w!.*'()=@+,-]+(?:/(?!\.{1,2}(?:/|$))[\w!.*'()=@+,-]+)*", re.A
)


def _locate_s3(parts: SplitResult) -> tuple[str, str, str]:
    if not _S3_BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise ConfigError(
            f"{parts.netloc[:80]!r} is not the name of an S3 bucket",
            hint="3 to 63 characters of a-z, 0-9, '.' and '-'.",
        )
    return "", parts.netloc, _prefix(parts.path)


def _locate_gcs(parts: SplitResult) -> tuple[str, str, str]:
    # Source: cloud.google.com/storage/docs/buckets, "Bucket names".
    if not 3 <= len(parts.netloc) <= 222 or not _GCS_BUCKET.fullmatch(parts.netloc):
        raise ConfigError(
            f"{parts.netloc[:80]!r} is not the name of a Google Cloud Storage bucket",
            hint="3 to 63 characters of a-z, 0-9, '-', '_' and '.'.",
        )
    return "", parts.netloc, _prefix(parts.path)


def _locate_azure(parts: SplitResult) -> tuple[str, str, str]:
    container, _, prefix = parts.path.lstrip("/").partition("/")
    if not _ACCOUNT.fullmatch(parts.netloc) or not _CONTAINER.fullmatch(container):
        raise ConfigError(
            "an Azure store is az://account/container/prefix",
            hint="Account: 3 to 24 of a-z and 0-9. Container: 3 to 63 of a-z, 0-9 and '-'.",
        )
    return parts.netloc, container, _prefix(prefix)


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if prefix and (len(prefix) > 100 or not _PREFIX.fullmatch(prefix)):
        raise ConfigError(
            f"{prefix[:80]!r} is not usable as a prefix in a bucket",
            hint="Up to 100 letters, digits and !-_.*'()=@+, between single slashes.",
        )
    return prefix


def _locate_directory(parts: SplitResult) -> tuple[str, str, str]:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ConfigError(
            "a directory is named by its absolute path without '..'",
            hint="file:///srv/backups, with three slashes.",
        )
    return "", "", path.rstrip("/") or "/"


def _locate_memory(parts: SplitResult) -> tuple[str, str, str]:
    if parts.netloc or not re.fullmatch(r"[a-z0-9-]{1,64}", parts.path):
        raise ConfigError("a store in memory is memory:name", hint=_HINT)
    return "", parts.path, ""


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


_VALID = {
    "endpoint": "http(s)://host[:port], without user, path or query.",
    "region": "Such as eu-central-1.",
    "owner": "The 12 digits of the AWS account that owns the bucket.",
    "profile": "The name of a profile in the AWS configuration.",
    "tenant": "The id of the Microsoft Entra tenant, as 8-4-4-4-12 hexadecimal digits.",
    "versions": "Only ?versions=true, or leave it out.",
    "lock": "On S3 governance or compliance; elsewhere unlocked or locked.",
}
_ENDPOINT = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?/?")
_VERSIONS = re.compile("true")
_UNLOCKED = re.compile("unlocked|locked")

SYNTAX: Mapping[str, Syntax] = {
    "s3": Syntax(
        _locate_s3,
        {
            "endpoint": _ENDPOINT,
            "region": re.compile(r"[a-z0-9-]{1,40}"),
            "owner": re.compile(r"\d{12}", re.A),
            "profile": re.compile(r"[\w+=,.@-]{1,64}", re.A),
            "versions": _VERSIONS,
            "lock": re.compile("governance|compliance"),
        },
    ),
    "gs": Syntax(
        _locate_gcs, {"endpoint": _ENDPOINT, "versions": _VERSIONS, "lock": _UNLOCKED}
    ),
    "az": Syntax(
        _locate_azure,
        {
            "endpoint": _ENDPOINT,
            "tenant": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
            "versions": _VERSIONS,
            "lock": _UNLOCKED,
        },
    ),
    "file": Syntax(_locate_directory),
    "memory": Syntax(_locate_memory),
}
