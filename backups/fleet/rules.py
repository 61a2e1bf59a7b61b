"""What a fleet file may say: its keys, their types, and what each value must look like.

No message repeats a value: a secret in the wrong place must not end up in a log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from backups.errors import ConfigError
from backups.fleet.secrets import forms, is_reference
from backups.format.age import Recipient
from backups.ids import ID
from backups.schedule.window import parse_hours
from providers.urls import parse_store_url

SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mariadb": "mariadb",
    "mysql": "mysql",
    "sqlite": "sqlite",
}
"""Of a database's URL, to its engine."""


def _recipient(text: str) -> str:
    if "SECRET" in text.upper():
        raise ValueError("this is a secret identity: its public key, age1..., belongs here")
    try:
        return str(Recipient.parse(text))
    except ConfigError:
        raise ValueError("this is not an age public key: age1...") from None


def _store_url(url: str) -> str:
    try:
        parse_store_url(url)
    except ConfigError as error:
        raise ValueError(f"{error}. {error.hint}") from None
    return url


def _source_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise ValueError("this is not a URL") from None
    if parts.scheme == "sqlite":
        return _file_url(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("this is not postgresql://user@host/database, nor another engine's")
    if parts.password is not None or any("pass" in name.lower() for name in query):
        raise ValueError("a password must not stand in the URL: give `password: file:PATH`")
    if "@" in parts.path or "#" in url or not url.isprintable() or " " in url:
        raise ValueError("characters that mean something in a URL must be percent-encoded")
    if not parts.path.strip("/"):
        raise ValueError("the URL names no database: postgresql://user@host/database")
    return url


def _file_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc or parts.query or "#" in url or not url.isprintable() or " " in url:
        raise ValueError("this is not sqlite:///folder/database.db, its path percent-encoded")
    if not PurePosixPath(parts.path).name or ".." in PurePosixPath(parts.path).parts:
        raise ValueError("the URL names no file: sqlite:///folder/database.db")
    return url


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError(f"must be a reference, {forms()}, never the password")
    return text


def _window(text: str) -> str:
    if not text[:1].isdigit():  # which days are left out is for `maintenance` to say
        raise ValueError("must be like '01:00-05:00 Europe/Berlin'")
    return _hours(text)


def _hours(text: str) -> str:
    try:
        parse_hours(text)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("these hours ")) from None
    return text


def _day(text: str) -> str:
    try:
        valid = date.fromisoformat(text).isoformat() == text
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a day in quotes: '2026-12-31'")
    return text


_PRINCIPALS = {
    "s3": (
        re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}"),
        "a role's ARN: arn:aws:iam::123456789012:role/NAME",
    ),
    "gs": (
        re.compile(r"[a-z0-9-]{1,64}@[a-z0-9.-]{1,100}\.iam\.gserviceaccount\.com"),
        "a service account: NAME@PROJECT.iam.gserviceaccount.com",
    ),
    "az": (
        re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "a client id, as 8-4-4-4-12 hexadecimal digits",
    ),
}

Id = Annotated[str, StringConstraints(pattern=f"^{ID.pattern}$")]


class _Rule(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class PlanRule(_Rule):
    """What a customer pays for."""

    retention_days: int = Field(ge=1, le=36500)
    """How long each backup is kept, from the instant of its snapshot."""
    keep_weekly: int = Field(default=0, ge=0, le=5300)
    """Beyond the window: the newest backup of each of so many ISO weeks, in UTC."""
    keep_monthly: int = Field(default=0, ge=0, le=1200)
    """The same of so many calendar months."""
    keep_yearly: int = Field(default=0, ge=0, le=100)
    """The same of so many years."""
    restore_test: Literal["daily", "weekly", "monthly"] | None = None
    """How often a backup is restored for proof; monthly when not said."""
    restore_test_gb: int | None = Field(default=None, ge=1)
    """What restore tests may read of a customer's store in a month, in 10^9 bytes; when it is
    spent, the newest backup of each database is tested alone."""
    rpo_hours: int | None = Field(default=None, ge=1)
    """How old the newest backup may become before the alarm rings; 26 when not said."""
    rto_minutes: int | None = Field(default=None, ge=1)
    """How long a restore may take, by what was promised."""
    second_approver: bool = False
    """A restore over what is there needs another person's word."""


class Principals(_Rule):
    """Whom each of our roles becomes in the customer's account."""

    writer: str
    restorer: str
    pruner: str


class Store(_Rule):
    """A place for backups, in the customer's own account; a second one is for copies."""

    url: Annotated[str, AfterValidator(_store_url)]
    """s3://, gs://, az:// or file://; each customer has a place of their own."""
    role_arn: str | None = None
    """One AWS role for all three of ours, narrowed for each when it is assumed."""
    principals: Principals | None = None
    """On S3 role ARNs, on Google Cloud Storage service accounts, on Azure client ids."""
    key: Annotated[str, AfterValidator(_reference)] | None = None
    """A stored key by reference: a service account's JSON, an Azure account key or SAS."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        scheme = parse_store_url(self.url).scheme
        pattern, words = _PRINCIPALS.get(scheme, (None, ""))
        if self.role_arn is not None and (scheme != "s3" or self.principals):
            raise ValueError("role_arn is for S3, and instead of principals")
        named = [self.role_arn] if self.role_arn is not None else []
        if self.principals:
            named += [self.principals.writer, self.principals.restorer, self.principals.pruner]
        if named and pattern is None:
            raise ValueError("a store of this kind knows no principals")
        if pattern is not None and not all(map(pattern.fullmatch, named)):
            raise ValueError(f"a principal here is {words}")
        if self.key is not None and scheme not in ("gs", "az"):
            raise ValueError("a stored key here is a profile: ?profile=NAME in the URL")
        return self


class Assertion(_Rule):
    """A query that must be true of every restored copy: one row with one boolean."""

    name: str = Field(min_length=1, max_length=200)
    sql: str = Field(min_length=1)


class Database(_Rule):
    """One logical database, dumped as a unit."""

    id: Id
    """Unique over the fleet, and never passed on to another customer."""
    engine: Literal["postgresql", "mariadb", "mysql", "sqlite"]
    url: Annotated[str, AfterValidator(_source_url)]
    """Without a password: postgresql://user@host/database, mariadb://user@host/database,
    mysql://user@host/database, sqlite:///folder/database.db."""
    password: Annotated[str, AfterValidator(_reference)] | None = None
    """By reference, never the value: env:NAME, file:/PATH or aws-sm:SECRET-ID#JSON-KEY."""
    window: Annotated[str, AfterValidator(_window)] | None = None
    """Local hours in which the day's backup starts, at an instant of the database's own."""
    maintenance: list[Annotated[str, AfterValidator(_hours)]] = Field([], max_length=20)
    """Hours in which none starts, on every day or on some: `Mon-Fri 08:00-18:00 UTC`."""
    paused: bool = False
    """The schedule leaves it alone until this is taken away; `backups run` does not."""
    retired: bool = False
    """It is no more: no new backups, and the last good one goes when its window ends."""
    assertions: list[Assertion] = []
    """What restore tests ask of every copy, read-only."""
    application_role: str = Field(default="", max_length=63)
    """A role that must be able to read a copy; the database's owner when not said."""

    @model_validator(mode="after")
    def _of_its_engine(self) -> Self:
        if SCHEMES[urlsplit(self.url).scheme] != self.engine:
            raise ValueError("the URL is another engine's")
        if self.engine == "sqlite" and self.password:
            raise ValueError("a file has no password")
        if self.engine != "postgresql" and self.application_role:
            raise ValueError("application_role is for PostgreSQL")
        return self


class Customer(_Rule):
    """The paying party, and the boundary of isolation."""

    id: Id
    plan: str
    """One of `plans`, or an assumed one: pro (30 days) or max (90 days)."""
    state: Literal["active", "paused", "leaving", "erased"] | None = None
    """What is done for them: see the README. Not said: active, unless they left."""
    until: Annotated[str, AfterValidator(_day)] | None = None
    """A reminder of when the state is to be looked at again; ends nothing by itself."""
    reason: str = Field(default="", max_length=500)
    """Why, for whoever reads `backups status`."""
    stores: list[Store] = Field(min_length=1)
    """Backups are taken to the first, and copied from there into the others."""
    recipients: list[Annotated[str, AfterValidator(_recipient)]] = Field(
        min_length=1, max_length=20
    )
    """age public keys (age1...): whoever holds one's identity can read every backup."""
    scratch_region: str = Field(default="", max_length=100)
    """Where alone copies are made for restore tests: the `region` of the scratch settings."""
    databases: list[Database] = []

    @model_validator(mode="after")
    def _of_a_state(self) -> Self:
        if self.state in (None, "active") and (self.until or self.reason):
            raise ValueError("until and reason belong to a state: give `state: paused`")
        return self

    @property
    def until_date(self) -> date | None:
        """The day itself."""
        return None if self.until is None else date.fromisoformat(self.until)


class Fleet(_Rule):
    """A fleet file, or all of a directory's together."""

    plans: dict[Id, PlanRule] = {}
    """What customers pay for, by name. The plan basic has no backups."""
    customers: list[Customer] = []


DEFAULT_PLANS: Mapping[str, PlanRule] = {
    "pro": PlanRule(retention_days=30),
    "max": PlanRule(retention_days=90),
}
"""ASSUMED: what a plan means where the fleet file doesn't say; the operator's word counts."""


def fleet_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a fleet file, for editors."""
    schema = Fleet.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
