"""What a directory store leaves on the disk, and what it makes of a broken disk."""

from __future__ import annotations

import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backups.errors import (
    BucketMissing,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from providers.local import LocalStore

MIB = b"x" * (1 << 20)


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a/b/key", b"x")
    assert stat.S_IMODE((tmp_path / "a/b/key").stat().st_mode) == 0o600
    for folder in ("a", "a/b"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_nothing_is_left_of_a_put_that_lost(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("key", b"x")
    with pytest.raises(ObjectExists):
        store.put("key", b"y")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_leftovers_are_not_objects_and_foreign_files_do_no_harm(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"x")
    (tmp_path / "a" / ".put-crashed").write_bytes(b"half")
    (tmp_path / "lost+found").mkdir()
    assert [info.key for info in store.list("")] == ["a/key"]
    (tmp_path / "Someone else's.txt").write_bytes(b"?")  # listed, as a bucket would
    assert [info.key for info in store.list("")] == ["Someone else's.txt", "a/key"]
    with pytest.raises(StoreError):
        store.open("a/.put-crashed")


def test_a_link_out_of_the_directory_is_not_followed_for_listing(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (root / "link").symlink_to(outside)
    assert [info.key for info in LocalStore(root).list("")] == []


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    with pytest.raises(StoreError, match="is a file where a folder must be"):
        store.put("a/b", b"x")
    with pytest.raises(ObjectMissing):
        store.open("a/b")


def test_a_root_that_vanished(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store = LocalStore(root)
    store.put("key", b"x")
    (root / "key").unlink()
    root.rmdir()
    for call in (
        lambda: store.put("key", b"x"),
        lambda: store.open("key"),
        lambda: store.stat("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
    ):
        with pytest.raises(BucketMissing, match="does not exist"):
            call()


def test_a_full_disk_stores_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(MIB) // 2, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            store.put("key", MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    store.put("key", MIB)
    assert store.open("key").read() == MIB


def test_an_object_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("key", MIB)
    body = store.open("key")
    body.read(10)
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(StoreUnavailable):
        body.read()
    body.close()


KILLED_PUT = """
import os, signal, sys
from pathlib import Path
from providers.local import LocalStore

real = os.link
def link(*arguments):
    if sys.argv[2] == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = link
LocalStore(Path(sys.argv[1])).put("a/key", b"whole")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_leaves_a_whole_object_or_none(tmp_path: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_PUT, tmp_path, when], check=False)
    assert done.returncode == -signal.SIGKILL
    store = LocalStore(tmp_path)
    found = [(info.key, info.size) for info in store.list("")]
    assert found == ([("a/key", 5)] if when == "after" else [])
    if when == "before":
        store.put("a/key", b"again")
    assert store.open("a/key").read() == (b"whole" if when == "after" else b"again")
