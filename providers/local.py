"""A directory as an object store (`file:///path`): a disk, a mounted share, a test."""

# ruff: noqa: ARG002 - neither versions nor locks here, but the port has words for them

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backups.errors import (
    BucketMissing,
    CapabilityMissing,
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TransferDamaged,
)
from backups.model import Capabilities, ObjectInfo, Receipt
from backups.ports import Body
from backups.private import sync_folder
from providers.keys import check_key, check_prefix

_TEMPORARY = ".put-"  # no key may start with a dot, so a crash's leftovers are never listed

_ERRNO: dict[int, type[StoreError]] = {
    errno.EACCES: StoreDenied,
    errno.EPERM: StoreDenied,
    errno.EROFS: StoreDenied,
    errno.EIO: StoreUnavailable,
    errno.ESTALE: StoreUnavailable,
    errno.ETIMEDOUT: StoreUnavailable,
    errno.EMFILE: StoreUnavailable,
    errno.ENFILE: StoreUnavailable,
}


class LocalStore:
    """Adapter of `ports.ObjectStore` on a directory, which must exist.

    A put writes a temporary file beside its place, syncs it and links it under its name:
    a link never replaces, so the name appears once, whole, or not at all.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(
        self,
        key: str,
        data: bytes,
        *,
        sha256: bytes | None = None,
        retain_until: datetime | None = None,
    ) -> Receipt:
        """See `ports.ObjectStore.put`."""
        path = self._path(key)
        if retain_until is not None:
            raise CapabilityMissing("a directory has no object lock")
        digest = hashlib.sha256(data)
        if sha256 is not None and sha256 != digest.digest():
            raise TransferDamaged(f"{key}: the bytes do not have the digest given")
        with self._errors(key):
            if path.exists():
                raise ObjectExists(f"{key} exists already")
            self._make_parents(path.parent)
            descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                _link(temporary, path, key)
            finally:
                os.unlink(temporary)
            sync_folder(path.parent)
        return Receipt(key, len(data), f"sha256:{digest.hexdigest()}")

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        version_id: str | None = None,
    ) -> Body:
        """See `ports.ObjectStore.open`."""
        path = self._path(key)
        with self._errors(key):
            file = path.open("rb")
            size = os.fstat(file.fileno()).st_size
            file.seek(min(start, size))
            left = max(0, size - start)
            return _FileBody(file, key, left if length is None else min(left, length))

    def stat(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """See `ports.ObjectStore.stat`."""
        path = self._path(key)
        with self._errors(key):
            if not path.is_file():
                raise FileNotFoundError(errno.ENOENT, "no such object")
            return _info(key, path.stat())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ports.ObjectStore.list`."""
        check_prefix(prefix)
        self._check_root()
        folder = prefix.rpartition("/")[0]
        for key in _walk(self._root / folder, f"{folder}/" if folder else "", prefix):
            # An object may be deleted while its neighbours are being listed.
            with contextlib.suppress(ObjectMissing):
                with self._errors(key):  # also files that are not ours, whatever their name
                    info = _info(key, (self._root / key).stat())
                yield info

    def delete(self, key: str, *, version_id: str | None = None) -> None:
        """See `ports.ObjectStore.delete`."""
        path = self._path(key)
        with contextlib.suppress(ObjectMissing), self._errors(key):
            path.unlink()
            sync_folder(path.parent)

    def extend_retention(
        self, key: str, until: datetime, *, version_id: str | None = None
    ) -> None:
        """Raises CapabilityMissing: a directory has no object lock."""
        raise CapabilityMissing("a directory has no object lock")

    def capabilities(self) -> Capabilities:
        """See `ports.ObjectStore.capabilities`."""
        return Capabilities(checksum="sha256", versions=False, retention=False)

    def close(self) -> None:
        """Nothing to let go of."""

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _check_root(self) -> None:
        # Never made here: an empty mount point must not pass for the disk meant to be on it.
        if not self._root.is_dir():
            raise BucketMissing(
                f"the directory {self._root} does not exist",
                hint="Make it or mount it, then try again.",
            )

    def _make_parents(self, folder: Path) -> None:
        self._check_root()
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another writer was quicker
                new.mkdir(mode=0o700)
            # Asked only now: between two questions that writer might have made it.
            if not new.is_dir():
                raise StoreError(f"{new} is a file where a folder must be")
            sync_folder(new.parent)

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            self._check_root()
            raise ObjectMissing(f"there is no object {key}") from error
        except OSError as error:
            kind = _ERRNO.get(error.errno or 0, StoreError)
            raise kind(f"{key}: {error.strerror} in {self._root}") from error


class _FileBody:
    """`ports.Body` over a part of an open file."""

    def __init__(self, file: BinaryIO, key: str, left: int) -> None:
        self._file = file
        self._key = key
        self._left = left

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        try:
            data = self._file.read(wanted)
        except OSError as error:
            raise StoreUnavailable(f"{self._key}: {error.strerror} while reading") from error
        if len(data) < wanted:
            raise StoreUnavailable(f"{self._key} ended before its length")
        self._left -= wanted
        return data

    def close(self) -> None:
        self._file.close()


def _link(temporary: str, path: Path, key: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise ObjectExists(f"{key} exists already") from error
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise CapabilityMissing(
                "this file system has no hard links, which create-only writing needs",
                hint="Use a file system such as ext4, XFS, ZFS or NFS.",
            ) from error
        raise


def _walk(folder: Path, above: str, prefix: str) -> Iterator[str]:
    """Keys below `folder` in the order of whole keys, as object stores list them."""
    try:
        with os.scandir(folder) as entries:
            # `a-b` sorts before `a/b`, so a folder takes part with its slash.
            names = sorted(
                entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                for entry in entries
                if not entry.name.startswith(".") and not entry.is_symlink()
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        kind = _ERRNO.get(error.errno or 0, StoreError)
        raise kind(f"{folder}: {error.strerror}") from error
    for name in names:
        key = above + name
        if name.endswith("/"):
            if key.startswith(prefix) or prefix.startswith(key):
                yield from _walk(folder / name, key, prefix)
        elif key.startswith(prefix):
            yield key


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
