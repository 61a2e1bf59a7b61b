"""Files that hold secrets: made private from their first byte, refused when they are not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from backups.errors import ConfigError

LIMIT = 64 * 1024
"""Bytes; no key or password is longer."""

MOUNTED = ("/run/secrets", "/run/credentials", "/var/run/secrets")
"""Where container engines and systemd mount secrets. Modes there are the mount's, often
0444; who may see the mount at all is what protects it."""

READABLE = 0o077
WRITABLE = 0o022


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make a file that must not exist yet, on disk when this returns. Raises ConfigError."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already", hint="Nothing is overwritten; move it away first."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} can't be made: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def replace_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make it a file's content in one step, on disk when this returns. Raises ConfigError."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # of one that was killed
    write_private(draft, data, mode)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was named, renamed or removed in it is on disk when this returns."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_private(path: Path, what: str, *, refused: int = READABLE) -> str:
    """The text of a small file that others have none of the `refused` permissions on.

    `what` names it in errors, which never hold its content. Raises ConfigError.
    """
    try:
        # Not blocking: opening a pipe would wait for its other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{what} {path} is not a file", hint=_HINT)
            if found.st_mode & refused and not _mounted(path):
                raise ConfigError(
                    f"{what} {path} is open to other users (mode {found.st_mode & 0o777:04o})",
                    hint=f"chmod {found.st_mode & 0o777 & ~refused:04o} {path}",
                )
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"{what} {path} can't be read: {error.strerror}", hint=_HINT
        ) from None
    if len(data) > LIMIT:
        raise ConfigError(f"{what} {path} is longer than {LIMIT} bytes", hint=_HINT)
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Not chained: the exception carries the bytes.
        raise ConfigError(f"{what} {path} is not text", hint=_HINT) from None


_HINT = "Check the path, and that this user may read it."


def _mounted(path: Path) -> bool:
    return any(path.absolute().is_relative_to(place) for place in MOUNTED)
