"""A secret by its reference; the value never stands in a file that we keep."""

from __future__ import annotations

import os
import re
from pathlib import Path

from backups.errors import ConfigError
from backups.model import Secret
from backups.private import read_private

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def resolve_password(reference: str) -> Secret:
    """What `env:NAME` or `file:PATH` holds, less one final line feed.

    Raises ConfigError when there is none, or others may read the file.
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


def _value(reference: str, what: str) -> str:
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(
                f"the environment variable {name} holds no {what}",
                hint="Set it where this command runs.",
            )
    elif kind == "file" and name:
        value = read_private(Path(name), f"the {what} file")
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise ConfigError(f"the {what} file {name} is empty", hint="Write it into it.")
    else:
        # It isn't repeated: it may be the password itself.
        raise ConfigError(
            f"a {what} is given by reference",
            hint="Use env:NAME or file:PATH, never the value.",
        )
    return value
