"""A home with daily backups in stores, at a time that the test sets: everything real but the
clock, and the data, which is a few bytes that nobody decrypts."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from backups import keys, wiring
from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.format.manifest import manifest_key, segment_key, sign
from backups.ids import uuid7
from backups.model import Artifact, Destination, Manifest, Plan, Policy, Segment
from backups.run.backup import as_backup
from backups.run.prune import Pruned
from backups.run.reader import fetch_segment
from backups.settings import Home
from backups.wiring.pruning import prune_ports

DAY = timedelta(days=1)
PLAN = Plan("pro", 5)
SEGMENTS = 2


@dataclass
class SetClock(SystemClock):
    """Shows the time that it was set to; waits as the machine does."""

    time: datetime

    def now(self) -> datetime:
        return self.time


@dataclass
class Shop:
    """One customer's one database, and the stores of its policy."""

    home: Path
    stores: tuple[str, ...]
    clock: SetClock = field(default_factory=lambda: SetClock(SystemClock().now()))
    plan: Plan = PLAN
    dates: bool = True
    """Folders date what is put by the clock that is set, not by the machine's."""

    def start(self) -> Shop:
        wiring.init(str(self.home))
        self.declare(self.plan)
        return self

    def twin(self, home: Path) -> Shop:
        """Another home with the same keys and an empty catalog."""
        wiring.init(str(home))
        for key in (self.home / "keys").iterdir():
            shutil.copy2(key, home / "keys")
        return replace(self, home=home)

    def declare(self, plan: Plan) -> Policy:
        self.plan = plan
        with self.opened() as app:
            return app.catalog.save_policy(
                Policy(
                    "acme", "shop", 0, plan, "postgresql", "postgresql://db/shop", None,
                    tuple(map(Destination, self.stores)), ("age1nobody",),
                )
            )  # fmt: skip

    @contextmanager
    def opened(self) -> Iterator[wiring.App]:
        with wiring.opened(self.home) as app:
            yield replace(app, clock=self.clock)

    def take(self, at: datetime, *, lock: bool = False, shared: Sequence[Segment] = ()) -> str:
        """A backup as it was taken at `at`, in every store; its id. Segments in `shared` are
        an earlier backup's."""
        entropy = SystemEntropy()
        backup = uuid7(at, entropy.bytes(10))
        expires_at = at + timedelta(days=self.plan.retention_days)
        until = expires_at if lock and expires_at > SystemClock().now() else None
        signing = keys.load_signing_key(Home.at(self.home))
        data = [entropy.bytes(40) for _ in range(SEGMENTS)]
        with self.opened() as app:
            for url in self.stores:
                with wiring.store_of(app, "acme", Destination(url), "writer") as store:
                    own = []
                    for number, body in enumerate(data):
                        key = segment_key("shop", backup, number)
                        receipt = store.put(key, body, retain_until=until)
                        digest = hashlib.sha256(body).hexdigest()
                        own.append(Segment(key, 40, 40, digest, receipt.version_id))
                    manifest = Manifest(
                        customer="acme", database="shop", backup=backup, engine="postgresql",
                        snapshot_at=at, position="", expires_at=expires_at, policy_version=1,
                        server_version="15", tool_version="15", program_version="0",
                        recipients=("ab" * 32,), fingerprint_sha256="cd" * 32,
                        artifacts=(
                            Artifact("archive", (*shared, *own[1:])),
                            Artifact("fingerprint", (own[0],)),
                        ),
                    )  # fmt: skip
                    envelope = sign(manifest, signing)
                    store.put(manifest_key("shop", backup), envelope, retain_until=until)
                if self.dates and url.startswith("file:"):
                    stamp = self.clock.now().timestamp()
                    for path in Path(urlsplit(url).path, "v1", "shop", backup).iterdir():
                        os.utime(path, (stamp, stamp))
                digest = hashlib.sha256(envelope).hexdigest()
                app.catalog.add_backup(as_backup(manifest, url, digest))
        return backup

    def daily(self, oldest: int, newest: int = 0) -> list[str]:
        """One backup a day, from so many days ago to so many; ids, oldest first."""
        now = self.clock.now()
        return [self.take(now - ago * DAY) for ago in range(oldest, newest - 1, -1)]

    def prune(self) -> Pruned:
        with self.opened() as app:
            return wiring.prune(app, "acme", "shop")

    def plan_of(self) -> dict[str, str]:
        """Backup to the reason that the dry run gives."""
        with self.opened() as app:
            seen = wiring.examine(app, "acme", "shop")
        return {decision.backup: decision.reason for decision in seen.decisions}

    def later(self, days: float) -> None:
        """Days go by, each with its backup."""
        whole = int(days)
        for _ in range(whole):
            self.clock.time += DAY
            self.take(self.clock.now())
        self.clock.time += (days - whole) * DAY

    def listed(self) -> set[str]:
        with self.opened() as app:
            return {backup.id for backup in app.catalog.backups()}

    def there(self) -> dict[str, set[str]]:
        """Every key below `v1/`, by store."""
        with self.opened() as app, prune_ports(app, "acme", "shop") as _:
            found = {}
            for url in self.stores:
                with wiring.store_of(app, "acme", Destination(url), "restorer") as store:
                    found[url] = {info.key for info in store.list("v1/")}
            return found

    def require_whole(self) -> None:
        """Whatever is listed can be read, to its last byte, where it is listed (I1)."""
        with self.opened() as app:
            for entry in app.catalog.backups():
                for place in wiring.places(app, entry):
                    with wiring.place_of(app, entry, place) as store:
                        manifest = wiring.manifest_of(app, store, entry, place)
                        for artifact in manifest.artifacts:
                            for segment in artifact.segments:
                                fetch_segment(store, segment)


def did(pruned: Pruned) -> dict[str, set[str]]:
    """What was done, to which backups."""
    found: dict[str, set[str]] = {}
    for step in pruned.steps:
        found.setdefault(step.did, set()).add(step.backup)
    return found


def of(keys: set[str], backup: str) -> set[str]:
    return {key for key in keys if f"/{backup}/" in key}
