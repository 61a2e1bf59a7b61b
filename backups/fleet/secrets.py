"""A secret by its reference; the value never stands in a file that we keep.

Which kinds of reference there are is one table, `VAULTS`; a new one is a new row.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from backups.errors import ConfigError
from backups.model import Secret
from backups.ports import Vault
from backups.private import read_private

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def resolve_password(reference: str) -> Secret:
    """What a reference leads to: one line of text.

    Raises ConfigError when there is none or it may not be read, StoreUnavailable when the
    service that keeps it gives no answer.
    """
    value = _value(reference, "password")
    if _NOT_TEXT.search(value):
        raise ConfigError(
            f"the password of {reference} has line breaks or control characters",
            hint="It must be one line of text.",
        )
    return Secret(value)


def resolve_key(reference: str) -> Secret:
    """A stored key of a cloud, which may have several lines; else as a password."""
    return Secret(_value(reference, "key"))


def is_reference(text: str) -> bool:
    """Whether it may stand in a fleet file; where it leads is not looked at."""
    kind, _, name = text.partition(":")
    return kind in VAULTS and VAULTS[kind].name.fullmatch(name) is not None


def forms() -> str:
    """How references look, in words."""
    *others, last = (f"{kind}:{vault.form}" for kind, vault in VAULTS.items())
    return f"{', '.join(others)} or {last}"


def _value(reference: str, what: str) -> str:
    kind, _, name = reference.partition(":")
    if kind not in VAULTS or not name:
        # It isn't repeated: it may be the password itself.
        raise ConfigError(
            f"a {what} is given by reference", hint=f"Use {forms()}, never the value."
        )
    return VAULTS[kind].read(name, what)


# --- where secrets lie ----------------------------------------------------------------


def _environment(name: str, what: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(
            f"the environment variable {name} holds no {what}",
            hint="Set it where this command runs.",
        )
    return value


def _file(name: str, what: str) -> str:
    value = read_private(Path(name), f"the {what} file")
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ConfigError(f"the {what} file {name} is empty", hint="Write it into it.")
    return value


def _aws_secrets_manager(name: str, what: str) -> str:
    from providers.secrets_aws import read_secret  # noqa: PLC0415  # the SDK takes its time

    return read_secret(name, what)


@dataclass(frozen=True, slots=True)
class _Kind:
    name: re.Pattern[str]
    """What may follow the colon in a fleet file."""
    form: str
    """The same, for people."""
    read: Vault


VAULTS: Mapping[str, _Kind] = MappingProxyType(
    {
        "env": _Kind(re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "NAME", _environment),
        "file": _Kind(re.compile(r"/[^\x00-\x1f\x7f]+"), "/PATH", _file),
        "aws-sm": _Kind(
            re.compile(r"[A-Za-z0-9/_+=.@:-]{1,2048}(#[^\x00-\x1f\x7f]{1,256})?"),
            "SECRET-ID[#JSON-KEY]",
            _aws_secrets_manager,
        ),
    }
)
