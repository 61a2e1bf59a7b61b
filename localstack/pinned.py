"""Files of other distributions, each held to its digest; standard library only.

Debian has no MySQL server, and PostgreSQL's regression scripts come with its source only.
Both are in the release pockets of Ubuntu's archive, whose files never change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ARCHIVE = "http://archive.ubuntu.com/ubuntu/pool/main"
PATIENCE = 60  # seconds for an answer

MYSQL = {
    "m/mysql-8.0/mysql-server-core-8.0_8.0.28-0ubuntu4_amd64.deb":
        "69a97fa36a94ce981cf4a5fd6eb674003fa42559b442ba9807309c69d1b90fdb",
    "m/mysql-8.0/mysql-client-core-8.0_8.0.28-0ubuntu4_amd64.deb":
        "2659942ab2c31551e4cd634f65f65b56786848b628e8ff2ceb5d30f0e51eea30",
    "liba/libaio/libaio1_0.3.112-13build1_amd64.deb":
        "2dcfe0b49d7cccfbf1bd6a3f627cf44bea9f51fb32f7e0e552a0df75698e0d27",
    "libe/libedit/libedit2_3.1-20210910-1build1_amd64.deb":
        "fb8783bdf0a59aaabf4e9b29192170f6cc17aa2eb94bc672c15add37ff39525b",
    "libe/libevent/libevent-core-2.1-7_2.1.12-stable-1build3_amd64.deb":
        "9317ae74915b9e4372f7506fbd16ae2a021e0ead79a8d88f96dad49b87d94508",
    "libe/libevent/libevent-pthreads-2.1-7_2.1.12-stable-1build3_amd64.deb":
        "078211a125a9ef5a9c7d24eb441761cefde8812b69889f7cee96824b0dc66831",
    "i/icu/libicu70_70.1-2_amd64.deb":
        "58a154f6307289813da2276f900498ef536ae7c0522d2cf31a3c3c5cf62dfd9a",
    "m/mecab/libmecab2_0.996-14build9_amd64.deb":
        "cb25c996ff0ed53158bc6b9cda66f68f003ff3824f8276ddfa0ad20d60e1411a",
    "n/numactl/libnuma1_2.0.14-3ubuntu2_amd64.deb":
        "0721c89001fbbd1ada23e89da5d60e762763c1a7b3dc814a2e9a518480a8043d",
    "p/protobuf/libprotobuf-lite23_3.12.4-1ubuntu7_amd64.deb":
        "74213165bb99962044366f56d43eaebf7f7ffd7903d60820abd8373f6fe067c0",
    "libt/libtirpc/libtirpc3_1.3.2-2build1_amd64.deb":
        "e5af8cc79ce2cd14a716922f7936d2a7c26d1e90642aaa7810afe4fcdc1cf2dc",
}  # fmt: skip
"""The server, its client tools, and libraries that Debian has in other releases."""
MYSQL_PROGRAMS = {
    "mysqld": "sbin", "mysql": "bin", "mysqldump": "bin", "mysqladmin": "bin",
}  # fmt: skip
WRAPPER = """#!/bin/sh
here="$(dirname "$0")/.."
LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu" exec "$here/usr/{folder}/{name}" "$@"
"""
POSTGRES_SOURCE = {
    "p/postgresql-16/postgresql-16_16.2.orig.tar.bz2":
        "446e88294dbc2c9085ab4b7061a646fa604b4bec03521d5ea671c2e5ad9b2952",
}  # fmt: skip
REGRESS = "src/test/regress/"
DUMP_TESTS = "src/bin/pg_dump/t/002_pg_dump.pl"
DEBIAN_SOURCES = {15: "bookworm", 18: "sid"}
"""Suites whose sources carry newer releases of pg_dump's own tests, by major version."""
DEBIAN = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NotAtHand(Exception):
    """The archive can't be reached, or has nothing for this machine."""


def fetch(files: dict[str, str], folder: Path) -> list[Path]:
    """Raises NotAtHand; SystemExit when one is not what it should be."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda item: fetch_one(*item, folder), files.items()))


def fetch_one(name: str, sha256: str, folder: Path) -> Path:
    path = folder / name.rpartition("/")[2]
    try:
        with (
            urllib.request.urlopen(f"{ARCHIVE}/{name}", timeout=PATIENCE) as answer,
            path.open("wb") as out,
        ):
            shutil.copyfileobj(answer, out)
    except OSError as error:  # URLError is one
        raise NotAtHand(f"{ARCHIVE}: {error}") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"localstack/setup: {name} is not what it should be: {found}")
    return path


def unpack_mysql(folder: Path) -> None:
    """The programs as wrappers in `folder`/bin."""
    if os.uname().machine != "x86_64" or not shutil.which("dpkg-deb"):
        raise NotAtHand("MySQL is at hand for Debian-like systems on x86-64 only")
    fresh(folder)
    for package in fetch(MYSQL, folder):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        package.unlink()
    (folder / "bin").mkdir()
    for name, place in MYSQL_PROGRAMS.items():
        wrapper = folder / "bin" / name
        wrapper.write_text(WRAPPER.format(folder=place, name=name))
        wrapper.chmod(0o755)
    kept = {f"usr/{place}/{name}" for name, place in MYSQL_PROGRAMS.items()}
    for place in ("bin", "sbin"):
        for path in (folder / "usr" / place).iterdir():
            if str(path.relative_to(folder)) not in kept:
                path.unlink()  # 100 MB of others


def unpack_regression_scripts(folder: Path) -> None:
    """PostgreSQL's regression scripts and their data, in `folder`; pg_dump's own tests of each
    release that is to be had, in `folder`/pg_dump/<major>.pl."""
    fresh(folder)
    (source,) = fetch(POSTGRES_SOURCE, folder)
    with tarfile.open(source) as archive:
        for member in archive:
            _, _, name = member.name.partition(f"/{REGRESS}")
            wanted = name == "parallel_schedule" or name.startswith(("sql/", "data/"))
            if member.name.endswith(f"/{DUMP_TESTS}"):
                name, wanted = "pg_dump/16.pl", True
            if wanted and member.isfile() and ".." not in name:
                keep(archive, member, folder / name)
    source.unlink()
    for major in DEBIAN_SOURCES:
        try:
            unpack_dump_tests(folder, major)
        except (NotAtHand, OSError, subprocess.CalledProcessError) as error:
            # That release's server is tried with 16's, which are there.
            print(f"localstack/setup: without pg_dump's tests of {major}: {error}")


def unpack_dump_tests(folder: Path, major: int) -> None:
    """Of one release, out of Debian's source package: apt checks its signature, with a
    configuration, lists and a cache of its own. Raises NotAtHand, CalledProcessError."""
    if not shutil.which("apt-get") or not KEYRING.exists():
        raise NotAtHand("sources of Debian's are at hand where its apt is")
    place = folder / "source"
    for each in ("lists/partial", "cache/archives/partial"):
        (place / each).mkdir(parents=True)
    suite = DEBIAN_SOURCES[major]
    (place / "list").write_text(f"deb-src [signed-by={KEYRING}] {DEBIAN} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": place / "list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place / "cache",
        "APT::Sandbox::User": "root",  # its own user can't look into every folder
    }
    apt = ["apt-get", "-qq", *(f"--option={key}={value}" for key, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    package = f"postgresql-{major}"
    subprocess.run(
        [*apt, "source", "--download-only", "--tar-only", "--only-source", package],
        cwd=place, check=True,
    )  # fmt: skip
    (source,) = place.glob("*.orig.tar.*")
    with tarfile.open(source) as archive:
        member = next(each for each in archive if each.name.endswith(f"/{DUMP_TESTS}"))
        keep(archive, member, folder / "pg_dump" / f"{major}.pl")
    shutil.rmtree(place)


def keep(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """One file of an archive, as `path`."""
    content = archive.extractfile(member)
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_bytes(content.read())


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
