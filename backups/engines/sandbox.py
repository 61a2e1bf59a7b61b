"""What keeps a vendor's tool in that speaks with a live server, or reads an archive.

The tool sees programs, certificates, how names are resolved, and what it is given; no home, no
key, no other process. Its environment, descriptors and secrets are `engines.process`'s to give.
Where the system allows no namespaces it still gets no new privileges and limits. A restore test
has a boundary of its own, without a network: `verify.scratch`.
Sources: bwrap(1), setpriv(1), prlimit(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["namespace", "limits", "none"]

OFF = "BACKUPS_SANDBOX"
"""An environment variable: `off` leaves namespaces out, where tools need files that this module
knows nothing of."""
MEMORY = 8 << 30
"""Bytes of address space of one tool. ASSUMED: pg_dump needs some KiB for each object."""
FILES = 4096
"""Open descriptors of one tool."""
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")
_CONFIGURATION = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl", "pki",
    "ca-certificates", "resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf",
    "services", "protocols", "passwd", "group", "localtime", "krb5.conf", "crypto-policies",
)  # fmt: skip


def kept_in(argv: Sequence[str], reads: Iterable[Path]) -> list[str]:
    """`argv` inside the strongest boundary that works here; `reads`: files and folders outside
    the system's own that it must see."""
    limited = ["prlimit", "--core=0", f"--nofile={FILES}", f"--as={MEMORY}", "--", *argv]
    match kind():
        case "namespace":
            needed = outside_usr(Path(shutil.which(argv[0]) or argv[0]).parent)
            return [*_namespace([*needed, *reads]), *limited]
        case "limits":
            return ["setpriv", "--no-new-privs", "--", *limited]
        case "none":
            return list(argv)


def kind() -> Kind:
    """What this machine gives."""
    return _strongest(os.environ.get(OFF) == "off")


def outside_usr(folder: Path) -> tuple[Path, ...]:
    """Folders that programs in `folder` need, but for those below /usr."""
    if folder.is_relative_to("/usr") or folder.resolve().is_relative_to("/usr"):
        return ()
    if folder.match("usr/lib/postgresql/*/bin"):  # a package of Debian's, unpacked beside
        return (folder.parents[3],)
    package = folder.parent.parent  # a wheel keeps its libraries beside its package
    libraries = package.with_name(f"{package.name}.libs")
    return (folder.parent, *([libraries] if libraries.is_dir() else []))


def programs() -> Iterator[str]:
    """Arguments of bwrap: the system's programs and libraries, read-only."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))


def _namespace(seen: Sequence[Path]) -> Iterator[str]:
    yield from ("bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--cap-drop", "ALL")
    if os.geteuid() == 0:  # who reads another user's socket or key as root goes on to
        yield from ("--cap-add", "CAP_DAC_OVERRIDE")
    else:
        yield from ("--unshare-user", "--disable-userns")
    yield from programs()
    for name in _CONFIGURATION:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    # Where resolv.conf is a link to, with systemd.
    yield from ("--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve")
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108  # its own
    for path in seen:
        yield from ("--ro-bind", str(path), str(path))
    yield from ("--remount-ro", "/", "--chdir", "/", "--")


@cache
def _strongest(off: bool) -> Kind:
    if not off and _works([*_namespace([]), "true"]):
        return "namespace"
    return (
        "limits" if _works(["setpriv", "--no-new-privs", "--", "prlimit", "true"]) else "none"
    )


def _works(argv: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            argv,
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
