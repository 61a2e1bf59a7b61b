"""The nouns of DESIGN section 2, as plain values. No behaviour, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from backups.declared import Destination as Destination
from backups.declared import Plan as Plan
from backups.declared import Policy as Policy
from backups.restoring import RestoreOptions as RestoreOptions
from backups.restoring import Unrestored as Unrestored


class Secret:
    """A text that must not be printed; `reveal()` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"


# --- stores ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a store answered to a put: the proof that a commit is built on."""

    key: str
    size: int
    """Bytes stored."""
    checksum: str
    """As the store gave it, `algorithm:value`; empty when it gives none."""
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object, or one version of it, as `stat` and `list` see it."""

    key: str
    size: int
    modified: datetime
    version_id: str | None = None
    checksum: str = ""
    """`sha256:<hex>` where the store keeps one we gave it; else empty."""
    retain_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store really does, as its adapter declares it."""

    checksum: str
    """The checksum the store itself verifies on put, e.g. `sha256`."""
    versions: bool
    """Deleting by name alone only hides; calls carry version ids."""
    retention: bool
    """`retain_until` is enforced against deletion."""

    def lock(self, until: datetime, now: datetime) -> datetime | None:
        """`until`, where the store has locks and it is not over."""
        return until if self.retention and until > now else None


# --- format ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Context:
    """Where a segment belongs; sealed into its header (FORMAT.md, context stanza)."""

    customer: str
    database: str
    backup: str
    artifact: str
    index: int
    """Position of the segment in its artifact, from 0."""
    last: bool
    """True for the artifact's last segment only."""
    engine: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One immutable encrypted object that holds a piece of an artifact."""

    key: str
    """Full key below the store's root, so that later backups may refer to it."""
    plain_bytes: int
    stored_bytes: int
    sha256: str
    """Hex digest of the stored bytes."""
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One named stream of a backup: its segments, in order."""

    name: str
    segments: tuple[Segment, ...]

    @property
    def plain_bytes(self) -> int:
        """Length of the whole stream before compression."""
        return sum(segment.plain_bytes for segment in self.segments)

    @property
    def stored_bytes(self) -> int:
        """Bytes in the bucket."""
        return sum(segment.stored_bytes for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. Written last, create-only: it is the commit."""

    customer: str
    database: str
    backup: str
    engine: str
    snapshot_at: datetime
    """The instant whose data the backup holds; its retention window starts here."""
    position: str
    """The server's log position at the snapshot (LSN, GTID), or empty."""
    expires_at: datetime
    policy_version: int
    server_version: str
    tool_version: str
    program_version: str
    recipients: tuple[str, ...]
    """SHA-256 (hex) of each recipient's text, sorted."""
    artifacts: tuple[Artifact, ...]
    fingerprint_sha256: str
    """Hex digest of the fingerprint artifact's plain bytes (they carry a salt)."""
    previous: str | None = None
    """Hex SHA-256 of the previous manifest's envelope of this database, if known."""
    warnings: tuple[str, ...] = ()
    """What the backup could not carry, in words without the customer's names."""


# --- what a database contained --------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class ObjectDigest:
    """One schema object and the digest of its definition, owner and rights."""

    kind: str
    schema: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, order=True)
class TableContent:
    """The rows of one table: exact count and an order-independent content hash."""

    schema: str
    name: str
    columns: tuple[str, ...]
    """Names of the columns hashed, in the dump's order."""
    rows: int
    content: str
    """16 hex digits; how it is computed is the engine's to document."""


@dataclass(frozen=True, slots=True, order=True)
class SequenceValue:
    """Where a sequence stands, as the dump says it."""

    schema: str
    name: str
    last_value: int
    is_called: bool


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the source contained in the dump's own snapshot."""

    engine: str
    server_version: str
    settings: Mapping[str, str]
    """Encoding, collation, time zone and the like: what restored data depends on."""
    extensions: Mapping[str, str]
    """Name to version."""
    roles: tuple[str, ...]
    """Roles that the database refers to."""
    objects: tuple[ObjectDigest, ...]
    tables: tuple[TableContent, ...]
    sequences: tuple[SequenceValue, ...]
    large_objects: TableContent | None = None
    """All large objects as one pseudo-table: a row is an object."""
    not_compared: tuple[str, ...] = ()
    """What the dump doesn't carry rows of, each named with its reason."""
    not_backed_up: tuple[str, ...] = ()
    """What the source held and the backup doesn't carry, each named with its reason."""
    members: tuple[tuple[str, str, bool], ...] = ()
    """Who uses the database through a group: role, the group it is a member of, and whether it
    has the group's rights without becoming it. A restore makes no memberships."""


# --- databases ------------------------------------------------------------------------


Confine = Callable[[Sequence[str], Sequence[Path]], list[str]]
"""From a client tool's argv, and the folders that it reads, to an argv that runs it inside."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a database lives. The password is never part of the URL."""

    url: str
    password: Secret | None = None
    confine: Confine | None = field(default=None, compare=False, repr=False)
    """Keeps client tools in that speak with this server; None: nothing does."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What an engine found before it reads a row."""

    server_version: str
    tool_version: str
    size_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The instant a dump shows."""

    taken_at: datetime
    position: str


@dataclass(frozen=True, slots=True)
class Written:
    """What was written into a copy."""

    expected: Fingerprint
    """What the copy is to contain: all of the backup, or the part that was asked for."""
    notes: tuple[str, ...] = ()
    """What was done differently from the source, in words."""
    exceptions: tuple[Unrestored, ...] = ()
    """What the copy lacks; `expected` is without it."""


# --- the fleet ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class History:
    """What the schedule needs to know of a database's last two days."""

    taken: tuple[datetime, ...] = ()
    """Snapshot instants of committed backups."""
    failed: tuple[datetime, ...] = ()
    """When attempts that came to nothing were over."""
    interrupted: tuple[datetime, ...] = ()
    """When attempts began that their process did not survive, or that were stopped."""


# --- records --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a backup. A failed run is not a backup."""

    id: str
    """Also the id of the backup that it commits, if it does."""
    customer: str
    database: str
    policy_version: int
    state: str
    """running, prepared, committed, failed or interrupted."""
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    envelope: bytes | None = field(default=None, repr=False)
    """The signed manifest once all that it names is stored (state prepared)."""
    slot: date | None = None
    """The local day that the schedule took it for; None: a person asked for it."""
    epoch: int | None = None
    """Of the lease under which it was taken: of two runs, the higher one's is in force."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One committed copy, as the catalog indexes it."""

    id: str
    customer: str
    database: str
    engine: str
    created_at: datetime
    """The snapshot's instant."""
    expires_at: datetime
    plain_bytes: int
    stored_bytes: int
    store_url: str
    """Where it was committed first; further copies are `Copy`s."""
    manifest_sha256: str
    seconds: float | None = None
    """How long the run took; unknown after a rebuild."""
    warnings: tuple[str, ...] = ()
    """The manifest's."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The same backup in a further store, with a manifest of its own there."""

    backup: str
    store_url: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a store that is not as the manifests say."""

    kind: str
    """missing, altered, unlisted, unreadable, orphan, foreign, upload or unreachable; what each
    means stands in `backups.run.scrub`."""
    subject: str
    """A key in the store, or a backup's id."""
    words: str
    bytes: int = 0
    """What it occupies, where that costs somebody something."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """One comparison of a store with the manifests."""

    id: str
    customer: str
    store_url: str
    started_at: datetime
    ended_at: datetime
    objects: int
    """Listed in the store."""
    backups: int
    """With a manifest that is believed."""
    read_bytes: int
    """Read and authenticated as a sample."""
    findings: tuple[Finding, ...]


Outcome = Literal["passed", "warning", "failed", "unproven"]
"""Unproven: the endpoint does not say, or we may not look. It is never passed."""


@dataclass(frozen=True, slots=True)
class Look:
    """One property of a customer's store, as it was found at enrolment or later."""

    name: str
    outcome: Outcome
    words: str
    """What was seen, and what to do where it is not as it should be."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The durable record of a restore."""

    id: str
    customer: str
    database: str
    backup: str
    target: str
    """In words, without a password."""
    state: str
    """running, done, failed or interrupted."""
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
