"""A password by its reference; the value never stands in a file that we keep."""

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
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(
                f"the environment variable {name} holds no password",
                hint="Set it where this command runs.",
            )
    elif kind == "file" and name:
        value = read_private(Path(name), "the password file")
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise ConfigError(f"the password file {name} is empty", hint="Write it into it.")
    else:
        # It isn't repeated: it may be the password itself.
        raise ConfigError(
            "a password is given by reference",
            hint="Use env:NAME or file:PATH, never the value.",
        )
    if _NOT_TEXT.search(value):
        raise ConfigError(
            f"the password of {kind}:{name} has line breaks or control characters",
            hint="It must be one line of text.",
        )
    return Secret(value)
