"""What the settings may say of whom is told: their keys and what each value must look like."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from backups.fleet.secrets import forms, is_reference
from backups.ids import ID
from backups.notify.alarms import KINDS
from backups.notify.model import Endpoint


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be https://host/path")
    if parts.username is not None or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("must have no user, no password, no fragment and no blanks")
    return text


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError(f"must be a reference, {forms()}, never the value")
    return text


def _ping(text: str) -> str:
    return text if is_reference(text) else _url(text)


def _pattern(text: str) -> str:
    if not text.replace("*", "").replace(".", "").replace("_", "").isalnum() and text != "*":
        raise ValueError("must be a type of events, such as backup.missed, or backup.*")
    return text


def _address(text: str) -> str:
    name, at, host = text.rpartition("@")
    if not (name and at and host) or not text.isprintable() or set(text) & set(" ,;<>\"'"):
        raise ValueError("must be an address: name@host")
    return text


Id = Annotated[str, Field(pattern=f"^{ID.pattern}$")]
Reference = Annotated[str, AfterValidator(_reference)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Address = Annotated[str, AfterValidator(_address)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Webhook(_Rule):
    """A receiver of signed events (Standard Webhooks)."""

    id: Id
    url: Annotated[str, AfterValidator(_url)]
    secrets: list[Reference] = Field(min_length=1, max_length=2)
    """One; two while it is being changed: each event is signed with both."""
    events: list[Pattern] = ["*"]

    def endpoint(self) -> Endpoint:
        """As a place to send to."""
        return Endpoint(
            self.id, "webhook", tuple(self.events), url=self.url, secrets=tuple(self.secrets)
        )


class Email(_Rule):
    """People, by a mail server. By default they get alarms only."""

    id: Id
    server: str = Field(pattern=r"^[A-Za-z0-9.\[\]:-]+:[0-9]{1,5}$")
    """`host:port`, most often port 587."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    sender: Address
    recipients: list[Address] = Field(min_length=1)
    user: str | None = None
    password: Reference | None = None
    events: list[Pattern] = sorted(KINDS)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        if self.password is not None and self.tls == "none":
            raise ValueError("a password is not sent without TLS")
        return self

    def endpoint(self) -> Endpoint:
        """As a place to send to."""
        return Endpoint(
            self.id,
            "email",
            tuple(self.events),
            url=f"{self.tls}://{self.server}",
            sender=self.sender,
            recipients=tuple(self.recipients),
            user=self.user,
            password=self.password,
        )


class Notify(_Rule):
    """Whom the operator has told, and the way by which silence is noticed."""

    webhooks: list[Webhook] = []
    email: list[Email] = []
    dead_man: Annotated[str, AfterValidator(_ping)] | None = None
    """A URL that expects to be called, or a reference to one: its path is a secret."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [endpoint.id for endpoint in self.endpoints()]
        if len(set(names)) < len(names):
            raise ValueError("two endpoints have one id")
        return self

    def endpoints(self) -> list[Endpoint]:
        """Every place to send to."""
        hooks = [each.endpoint() for each in self.webhooks]
        return hooks + [each.endpoint() for each in self.email]
