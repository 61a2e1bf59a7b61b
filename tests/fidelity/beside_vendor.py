"""What the vendor's `pg_dump -Fc | pg_restore` makes of a database, and what we make of it.

    python tests/fidelity/beside_vendor.py SERVER_URL SCRIPT.sql...

Each script makes a database. Then both ways copy it on the same server, and an oracle that
knows neither (catalogs.py) tells what the copies lack. A line for each script: what the
vendor's copy lost, what ours lost, what we named as not backed up; and each fact that the
vendor keeps and we lose, which is a fault. Exit code 1 when there is one.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))
from fidelity.catalogs import everything, forget_subscriptions
from pg_kit import ENGINE, create, drop, name_of, silent, take, url_of

from backups.engines.postgres.tools import choose
from backups.errors import BackupsError
from backups.format.fingerprint import differences
from backups.model import RestoreOptions, Source

NAMES = ("proof_case", "proof_case_vendors", "proof_case_ours")


@dataclass
class Way:
    """What one way made."""

    ended: str = "ok"
    lost: frozenset[str] = frozenset()
    more: frozenset[str] = frozenset()
    said: tuple[str, ...] = ()


def vendors(url: str, copy: str, major: int) -> Way:
    tools = choose(major)
    dumped = subprocess.run(
        [tools.path("pg_dump"), "-Fc", "-Z0", "-d", url], capture_output=True, check=False
    )
    if dumped.returncode:
        return Way("dump: " + dumped.stderr.decode(errors="replace").strip()[:200])
    restored = subprocess.run(
        [tools.path("pg_restore"), "-d", copy], input=dumped.stdout, capture_output=True,
        check=False,
    )  # fmt: skip
    errors = restored.stderr.decode(errors="replace").count("error:")
    return Way(f"{errors} errors" if errors else "ok")


def ours(url: str, copy: str) -> Way:
    try:
        artifacts, expected = take(url)
        with ENGINE.restore(Source(copy), RestoreOptions()) as restoration:
            written = restoration.load(expected, lambda name: iter(artifacts[name]), silent)
            found = restoration.fingerprint()
            differs = [str(item) for item in differences(written.expected, found)]
            restoration.publish()
    except BackupsError as error:
        return Way(f"{type(error).__name__}: {str(error)[:300]}")
    except Exception:  # noqa: BLE001  (a fault of ours: the next case is tried too)
        return Way("CRASH " + traceback.format_exc()[-500:])
    said = (*expected.not_backed_up, *(f"{e.subject}: {e.reason}" for e in written.exceptions))
    return Way(f"differs: {differs[:3]}" if differs else "ok", said=said)


def compared(way: Way, before: set[str], copy: str) -> Way:
    try:
        after = everything(copy)
    except psycopg.OperationalError:
        return way
    return Way(way.ended, frozenset(before - after), frozenset(after - before), way.said)


def tidy(server: str, url: str) -> None:
    with suppress(psycopg.OperationalError):  # it is not there
        forget_subscriptions(url)
    drop(server, name_of(url))


def one(server: str, script: Path) -> bool:
    """Whether we lose nothing that the vendor keeps."""
    with psycopg.connect(server) as connection:
        major = connection.info.server_version // 10000
    urls = [url_of(server, name) for name in NAMES]
    for url in urls:
        tidy(server, url)
    source, theirs, mine = urls
    try:
        create(server, source)
        create(server, theirs)
        made = subprocess.run(
            ["psql", "-X", "-q", "-d", source, "-f", str(script)],
            capture_output=True, check=False,
        )  # fmt: skip
        refused = made.stderr.decode(errors="replace").count("ERROR")
        before = everything(source)
        vendor = compared(vendors(source, theirs, major), before, theirs)
        we = compared(ours(source, mine), before, mine)
    finally:
        for url in urls:
            tidy(server, url)
    print(
        f"{script.stem:8} | made with {refused} errors | vendor {vendor.ended}, lost"
        f" {len(vendor.lost)} | ours {we.ended}, lost {len(we.lost)}, named {len(we.said)}"
    )
    for words in we.said:
        print(f"    named: {words[:200]}")
    worse = sorted(we.lost - vendor.lost)
    for line in worse[:12]:
        print(f"    - {line[:420]}")
    for line in sorted(we.more - vendor.more)[:12] if worse else ():
        print(f"    + {line[:420]}")
    for line in sorted(we.lost & vendor.lost)[:12]:
        print(f"    both lose {line[:300]}")
    sys.stdout.flush()
    return not worse and we.ended == "ok"


def main(argv: list[str]) -> int:
    server, *scripts = argv
    fine = [one(server, Path(script)) for script in scripts]
    print(f"{sum(fine)} of {len(fine)} lose nothing that the vendor keeps")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
