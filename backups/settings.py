"""The home: one directory with settings, catalog and keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from backups.errors import ConfigError
from backups.notify.rules import Notify


@dataclass(frozen=True, slots=True)
class Home:
    """Where things lie. Nobody but its owner may look inside (0700)."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """An existing home. Raises ConfigError."""
        home = cls(path.absolute())
        if not home.settings_file.is_file():
            raise ConfigError(
                f"there is no home at {home.path}",
                hint="Make one with `backups init`, or name another with --home.",
            )
        return home

    @property
    def settings_file(self) -> Path:
        """Written last: what makes a directory a home."""
        return self.path / "settings.yaml"

    @property
    def catalog(self) -> Path:
        """The SQLite file."""
        return self.path / "catalog.sqlite3"

    @property
    def reports(self) -> Path:
        """Directory of the reports that were published."""
        return self.path / "reports"

    @property
    def locks(self) -> Path:
        """Directory of advisory locks; made when first needed."""
        return self.path / "locks"

    @property
    def keys(self) -> Path:
        """Directory of the key files."""
        return self.path / "keys"

    @property
    def signing_key(self) -> Path:
        """Secret: signs manifests."""
        return self.keys / "signing.pem"

    @property
    def verify_key(self) -> Path:
        """Public: handed to every customer."""
        return self.keys / "verify.pem"

    @property
    def enrolment_key(self) -> Path:
        """Secret: what external ids, ownership nonces and canaries are derived from."""
        return self.keys / "enrolment.key"

    @property
    def restore_identity(self) -> Path:
        """Secret: opens backups. May be moved elsewhere; taking backups never opens it."""
        return self.keys / "restore-identity.txt"

    @property
    def sealed_identity(self) -> Path:
        """The same, sealed by a key service; then the other one is not there."""
        return self.keys / "restore-identity.sealed"

    def customer_identity(self, customer: str) -> Path:
        """A customer's own restore identity, sealed by a key of theirs; where there is one."""
        return self.keys / f"customer-{customer}.sealed"

    def customer_recipient(self, customer: str) -> Path:
        """Its public half."""
        return self.keys / f"customer-{customer}.recipient"

    @property
    def restore_recipient(self) -> Path:
        """Public: every backup is encrypted to it too."""
        return self.keys / "restore-recipient.txt"


class ScratchSettings(BaseModel):
    """Where restore tests put a copy, to destroy it again."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["private", "server"] = "private"
    """`private`: a server made for each copy on this machine. `server`: a database on the
    server under `url`, which an operator set aside and marked."""
    url: str | None = None
    """libpq URL of that server, without a password."""
    password: str | None = None
    """Reference to its password, as in a fleet file."""
    region: str = ""
    """Where this machine, or that server, is: reports say where plaintext was."""
    directory: str | None = None
    """Folder for private servers; a short path, as a socket's is limited. The system's one for
    temporary files when none is named."""
    memory_mb: int | None = Field(default=None, ge=1024)
    """Address space of each process of a private server."""
    disk_mb: int | None = Field(default=None, ge=1024)
    """What a copy may be expected to take, and the length of any one of its files."""
    ttl_minutes: int = Field(default=240, ge=1, le=7 * 24 * 60)
    """A restore test that takes longer is ended. ASSUMED."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "server") != (self.url is not None):
            raise ValueError("scratch: a url is for kind `server`, which needs one")
        return self


class Issuer(BaseModel):
    """Whose tokens are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    issuer: str
    """As tokens have it in `iss`."""
    audience: str
    """As tokens must have it in `aud`."""
    algorithm: Literal["HS256", "ES256", "EdDSA"]
    """No other is believed of this issuer, whatever a token says."""
    secrets: list[str] = Field(default=[], max_length=2)
    """References to the secrets of HS256; two while one is being changed."""
    jwks: str | None = None
    """A file with the public keys (RFC 7517) of ES256 or EdDSA."""
    operator: bool = False
    """Its tokens are the operator's people, who see every customer."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.algorithm == "HS256") != bool(self.secrets) or bool(self.secrets) == bool(
            self.jwks
        ):
            raise ValueError("api: HS256 needs secrets; ES256 and EdDSA need jwks")
        return self


class ApiSettings(BaseModel):
    """The HTTP API."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    issuers: list[Issuer] = []
    longest_token_minutes: int = Field(default=60, ge=1)
    """A token that lives longer is not believed. ASSUMED."""
    per_minute: int = Field(default=600, ge=1)
    """Calls of one customer. ASSUMED."""
    session_minutes: int = Field(default=30, ge=1)
    """How long a page's session lives. ASSUMED."""


class Settings(BaseModel):
    """What an operator may set for the whole home; every one has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    zstd_level: int = Field(default=2, ge=1, le=19)
    """Higher stores less and takes longer: on the SQL of Chinook and Sakila, 3 stores 0.5 and
    0.9 % less than 2, for 1.1 and 1.5 times the work."""
    restore_jobs: int = Field(default=2, ge=1, le=64)
    """Parallel index builds and row streams of a restore that doesn't say."""
    prune_limit: int = Field(default=10, ge=1)
    """Backups of one database that one `prune` deletes at most, and marks at most. ASSUMED."""
    prune_grace_days: int = Field(default=3, ge=0)
    """Days between marking a backup and deleting it. ASSUMED."""
    downgrade_grace_days: int = Field(default=14, ge=0)
    """Days that a lowered plan takes nothing away. ASSUMED."""
    clock_doubt_days: int = Field(default=7, ge=1)
    """Days without any record after which the clock, or we, were away: nothing is deleted
    until as many have passed again. ASSUMED."""
    workers: int = Field(default=2, ge=1, le=256)
    """Backups that `serve` takes at once on this machine."""
    restores: int = Field(default=2, ge=1, le=64)
    """Of what customers asked for over the API, done at once on this machine."""
    drills: int = Field(default=1, ge=1, le=64)
    """Restore tests at once on this machine."""
    released: int = Field(default=64, ge=1)
    """Backups that wait for workers or run, over all machines that share a catalog; no more
    are put into the queue, so that what becomes urgent does not stand at its end. ASSUMED."""
    lost_seconds: int = Field(default=60, ge=1)
    """A worker that is not heard of for so long is taken for lost, and its work given to
    others; one that holds a database, after twice as long. ASSUMED."""
    workers_per_source: int = Field(default=1, ge=1)
    """Of them, from one database server."""
    workers_per_bucket: int = Field(default=4, ge=1)
    """Of them, into one bucket."""
    stall_minutes: int = Field(default=15, ge=1)
    """Without any progress for so long, a backup is ended and tried again. ASSUMED."""
    run_hours: int = Field(default=6, ge=1)
    """A backup that takes longer is ended and tried again. ASSUMED."""
    drain_minutes: int = Field(default=30, ge=0)
    """How long `serve`, told to stop, lets running backups go on. ASSUMED."""
    catalog_url: str | None = None
    """libpq URL of a PostgreSQL database, without a password: the catalog of many machines,
    and what they share work through. None: the SQLite file of this home."""
    catalog_password: str | None = None
    """Reference to its password, as in a fleet file."""
    catalog_store: str | None = None
    """The operator's own store, for the catalog's own backups by `serve`."""
    catalog_recipients: list[str] = []
    """age public keys of the operator: whom the catalog's own backups are encrypted to."""
    restore_approvers: list[str] = []
    """Who may approve that a live database is replaced, where the plan asks for a second
    person; with fewer than two of them there is a time to think instead."""
    restore_cooling_minutes: int = Field(default=60, ge=0)
    """That time. ASSUMED."""
    restore_keep_days: int = Field(default=7, ge=1)
    """How long a database that was replaced is kept beside. ASSUMED."""
    scratch: ScratchSettings = ScratchSettings()
    api: ApiSettings = ApiSettings()
    notify: Notify = Notify()
    """Whom alarms and events are sent to, and the dead-man's URL."""
    hosted: bool = False
    """Customers name endpoints themselves: none may lead to a private address."""
    hosted_allow: list[IPvAnyNetwork] = []
    """Private networks that a hosted program may reach all the same."""


def load_settings(home: Home) -> Settings:
    """A home's settings. Raises ConfigError that lists every problem with file and line."""
    from backups.fleet.document import read, refuse, validate  # noqa: PLC0415

    document = read(home.settings_file)
    settings = validate(document, Settings)
    refuse("the settings file", document.problems)
    return settings or Settings()
