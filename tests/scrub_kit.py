"""Stores made up for scrub: backups in every state that a crash, a customer or an attacker
leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backups import keys, wiring
from backups.entropy import SystemEntropy
from backups.format.manifest import manifest_key, segment_key, sign
from backups.format.segment import SegmentBuilder
from backups.ids import uuid7
from backups.keeping import Deletion
from backups.model import Artifact, Context, Destination, Manifest, Plan, Policy, Run, Segment
from backups.run.backup import as_backup
from backups.run.scrub import ScrubOptions, scrub
from providers.memory import MemoryStore, shared

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SIGNED = ("kept", "unlisted", "stranger", "deleted")
UNBELIEVED = ("gone", "forged", "stranger")
STATES = [*SIGNED, "gone", "forged", "dead", "running", "prepared", "elsewhere"]


class SetClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Planned:
    """A backup to be made up."""

    state: str
    segments: tuple[str, ...]
    """Each right, gone, cut, flipped, or misplaced: its manifest names another segment."""
    extra: bool
    """An object of a put whose reply was lost."""
    borrows: bool
    """Names the last segment of the backup before it."""
    old: bool


class World:
    """A customer of its own, with a store made up from a plan."""

    def __init__(self, app: wiring.App) -> None:
        self.app = app
        self.clock, self.next = SetClock(), NOW
        self.name = "c" + SystemEntropy().bytes(8).hex()
        self.url = f"memory:{self.name}"
        self.store: MemoryStore = shared(self.name, self.clock)
        self.key = keys.load_signing_key(app.home)
        self.recipient = keys.load_restore_recipient(app.home)
        self.expected: set[tuple[str, str]] = set()
        self.orphans: set[str] = set()
        self.named: set[str] = set()
        destination = Destination(self.url)
        self.policy = app.catalog.save_policy(
            Policy(
                self.name, self.name, 0, Plan("pro", 30), "postgresql", "postgresql:///x",
                None, (destination,), (str(self.recipient),),
            )
        )  # fmt: skip
        self.ports = replace(
            wiring.scrub_ports(app, self.name, destination, with_identity=True),
            clock=self.clock,
        )

    def segment(self, backup: str, number: int, artifact: str, index: int, last: bool) -> bytes:
        context = Context(self.name, self.name, backup, artifact, index, last, "postgresql")
        builder = SegmentBuilder([self.recipient], context, SystemEntropy())
        builder.write(b"rows" * (number + 1))
        self.built = builder.finish(last)
        return self.built.data

    def add(self, plan: Planned, before: tuple[Planned, Manifest] | None) -> Manifest:
        """Make the backup up, and note what must be found of it."""
        self.clock.at = NOW - timedelta(days=10 if plan.old else 1)
        backup = uuid7(self.clock.at, SystemEntropy().bytes(10))
        borrowed = []
        if before and plan.borrows:
            borrowed = [before[1].artifacts[0].segments[-1]]
        segments: list[Segment] = []
        present: list[str] = []
        for number, state in enumerate(plan.segments):
            index = number + len(borrowed)
            last = number == len(plan.segments) - 1
            key = segment_key(self.name, backup, number)
            artifact = "archive" if state == "misplaced" else "fingerprint"
            data = self.segment(backup, number, artifact, index, last)
            segments.append(
                Segment(key, self.built.plain_bytes, len(data), self.built.sha256.hex())
            )
            damaged = {
                "right": data,
                "misplaced": data,
                "cut": data[:-1],
                "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            }
            if state in damaged:
                self.store.put(key, damaged[state])
                present.append(key)
        if plan.extra:
            key = segment_key(self.name, backup, 99)
            self.store.put(key, b"lost")
        whole = Artifact("fingerprint", (*borrowed, *segments))
        manifest = Manifest(
            customer="another" if plan.state == "stranger" else self.name,
            database=self.name, backup=backup, engine="postgresql", snapshot_at=self.clock.at,
            position="", expires_at=self.clock.at + timedelta(days=30), policy_version=1,
            server_version="15", tool_version="15", program_version="1",
            recipients=("ab" * 32,), artifacts=(whole,), fingerprint_sha256="cd" * 32,
        )  # fmt: skip
        self.record(plan, manifest)
        believed = plan.state in ("kept", "unlisted", "deleted")
        if believed:
            kinds = {"gone": "missing", "cut": "altered", "flipped": "altered"}
            self.expected |= {
                (kinds[state], segment.key)
                for state, segment in zip(plan.segments, segments, strict=True)
                if state in kinds
            }
            if borrowed and before and before[0].segments[-1] in kinds:
                self.expected.add((kinds[before[0].segments[-1]], borrowed[0].key))
        if believed or plan.state == "prepared":
            self.named |= {segment.key for segment in (*segments, *borrowed)}
        if plan.old:
            if plan.state == "dead":
                self.orphans.update(present)
            if plan.extra and plan.state in ("dead", "kept", "unlisted", "deleted"):
                self.orphans.add(segment_key(self.name, backup, 99))
        return manifest

    def record(self, plan: Planned, manifest: Manifest) -> None:
        """What store and catalog hold of a backup in that state."""
        signer = Ed25519PrivateKey.generate() if plan.state == "forged" else self.key
        envelope = sign(manifest, signer)
        key = manifest_key(self.name, manifest.backup)
        if plan.state in (*SIGNED, "forged"):
            digest = self.store.put(key, envelope).checksum.removeprefix("sha256:")
        else:
            digest = "ef" * 32
        catalog = self.app.catalog
        if plan.state in ("kept", "gone", "forged"):
            catalog.add_backup(as_backup(manifest, self.url, digest))
        if plan.state == "deleted":
            catalog.add_backup(as_backup(manifest, self.url, digest))
            deletion = Deletion(
                manifest.backup, self.name, self.name, "expired", "", self.clock.at
            )
            assert self.app.ledger.delete_backup(deletion)
        if plan.state == "elsewhere":
            catalog.add_backup(as_backup(manifest, "memory:elsewhere", digest))
        if plan.state in ("running", "prepared"):
            catalog.start_run(
                Run(manifest.backup, self.name, self.name, 1, "running", self.clock.at)
            )
        if plan.state == "prepared":
            catalog.prepare_run(manifest.backup, envelope)
        told = {"forged": "unreadable", "stranger": "unreadable", "gone": "missing"}
        told["unlisted"] = "unlisted"
        if plan.state in told:
            self.expected.add((told[plan.state], key))

    def objects(self) -> dict[str, bytes]:
        return {info.key: self.store.open(info.key).read() for info in self.store.list("")}

    def scrub(self, **options: object) -> set[tuple[str, str]]:
        self.clock.at = self.next = self.next + timedelta(seconds=1)
        count = len(list(self.store.list("v1/")))
        done = scrub(self.ports, replace(ScrubOptions(), **options), silent)  # type: ignore[arg-type]
        assert done == self.app.catalog.scrubs(self.name)[0]
        if ("unreachable", self.url) not in {(f.kind, f.subject) for f in done.findings}:
            assert done.objects == count
        self.words = {finding.subject: finding.words for finding in done.findings}
        return {(finding.kind, finding.subject) for finding in done.findings}


def silent(step: str, done: int, total: int | None) -> None:
    """No progress is shown."""
