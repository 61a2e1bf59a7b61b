"""Making a home: a directory with keys and settings, private from its first byte."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from backups.errors import ConfigError
from backups.keys import create_keys, keys_of, load_enrolment_key
from backups.ports import Entropy, Role
from backups.private import write_private
from backups.settings import Home, Settings

_TEXT = (
    "# Settings of this home. These are the defaults; take the # away to change one.\n"
    + "".join(
        f"# {name}: {json.dumps(value)}\n"  # which is YAML
        for name, value in Settings().model_dump(mode="json").items()
    )
)


def init_home(path: Path, entropy: Entropy) -> Home:
    """Make a home at `path`, which must be missing or an empty directory.

    The catalog is made when it is first opened. Raises ConfigError, and leaves what was
    there alone.
    """
    home = _empty(path)
    create_keys(home, entropy)
    write_private(home.settings_file, _TEXT.encode())
    return home


def init_like(path: Path, other: Home, roles: Collection[Role], entropy: Entropy) -> Home:
    """Make a home for one more worker: the settings of another, and of its keys those that
    these roles need. Raises ConfigError."""
    load_enrolment_key(other, entropy)  # made when it was never asked for
    needed = keys_of(other, roles)
    found = {key: key.read_bytes() for key in needed if key.exists()}
    missing = sorted(key.name for key in needed - found.keys())
    if missing:
        raise ConfigError(
            f"{other.path} has not {', '.join(missing)}",
            hint="Make it like a home that has the keys of these roles.",
        )
    home = _empty(path)
    for key, content in found.items():
        known = (other.verify_key, other.restore_recipient)
        public = key.suffix == ".recipient" or key in known
        write_private(home.keys / key.name, content, mode=0o644 if public else 0o600)
    write_private(home.settings_file, other.settings_file.read_bytes())
    return home


def _empty(path: Path) -> Home:
    home = Home(path.absolute())
    try:
        home.path.mkdir(mode=0o700, exist_ok=True)
        found = sorted(entry.name for entry in home.path.iterdir())
        # The root of a file system that was mounted for this purpose is as good as empty.
        if found not in ([], ["lost+found"]):
            whose = "a home is there" if home.settings_file.exists() else "it is not empty"
            raise ConfigError(
                f"no home was made at {home.path}: {whose}",
                hint="Nothing was touched. Name a new directory with --home.",
            )
        home.path.chmod(0o700)
        home.keys.mkdir(mode=0o700)  # of two that start at once, one fails here
    except OSError as error:
        raise ConfigError(f"no home was made at {home.path}: {error.strerror}") from error
    return home
