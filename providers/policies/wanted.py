"""What a set of policy documents is asked for, and what one document is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backups.errors import ConfigError
from providers.access import Role
from providers.urls import StoreUrl

ROLES: tuple[Role, ...] = ("writer", "restorer", "pruner")


@dataclass(frozen=True, slots=True)
class Document:
    """A text for the customer's administrator."""

    name: str
    """A file's name."""
    form: Literal["json", "terraform", "commands"]
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """For whom, where, and who we are."""

    url: StoreUrl
    customer: str
    external_id: str
    operator_principal: str
    principals: Mapping[Role, str | None]

    @property
    def locks(self) -> bool:
        """Objects are locked one by one."""
        return "lock" in self.url.options

    @property
    def versions(self) -> bool:
        """The bucket keeps versions."""
        return self.locks or "versions" in self.url.options

    def advice(self) -> str:
        """What the store's URL leaves out and should not."""
        if self.locks:
            return ""
        return (
            "\nRecommended: locks, so that nobody deletes a backup before its time. Add &lock="
            "\nto the store's URL, and print these documents anew."
        )


def checked(pattern: re.Pattern[str], value: str, what: str, example: str) -> re.Match[str]:
    """The match of the whole value. Raises ConfigError."""
    match = pattern.fullmatch(value)
    if match is None:
        raise ConfigError(f"{value[:120]!r} is not {what}", hint=f"Such as {example}.")
    return match
