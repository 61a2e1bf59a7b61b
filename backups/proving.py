"""The nouns of proof, as plain values beside `model`: what restore tests found, what the
verifier itself was tested with, what was published. No behaviour, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backups.model import Look

Verdict = Literal["PASSED", "FAILED", "ENVIRONMENT", "INCONCLUSIVE", "NOT TESTED"]
"""Only PASSED counts. ENVIRONMENT: the scratch server lacks what the source has.
INCONCLUSIVE: it could not be told, as after a time limit or without the store."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named predicate of a restore test."""

    name: str
    """One of `verify.ladder.CHECKS`."""
    passed: bool | None
    """None: it could not be told, and why stands in `actual`. It never counts as passed."""
    expected: str
    actual: str
    subject: str = ""
    """Which table, sequence or assertion; empty: the backup as a whole."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a restore test, timed."""

    name: str
    """prepare, fetch and load, compare, examine or destroy."""
    milliseconds: int

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a copy was restored to, and that nothing is left of it."""

    id: str
    kind: str
    """`private server`: made for the test; `scratch database`: on a configured server."""
    region: str
    """Where plaintext was, as the operator's settings say; empty when they don't."""
    server_version: str
    boundary: tuple[str, ...]
    """What kept restored code in, each in words; e.g. `no network`."""
    destroyed_at: datetime | None = None
    """None: it was not, or nobody saw it."""
    proof: tuple[str, ...] = ()
    """What was seen to be gone: directory, processes, database."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Why this backup was tested."""

    rule: Literal["newest", "random", "oldest", "person"]
    seed: str = ""
    """What the choice was computed from, for anybody to compute it again."""
    among: int = 1
    """How many backups there were to choose from."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A restore test was begun; without a `Drill` of the same id, its process died."""

    id: str
    customer: str
    database: str
    backup: str
    pick: Pick
    at: datetime


@dataclass(frozen=True, slots=True)
class Drill:
    """One restore test, as evidence: what was done, seen and measured."""

    id: str
    customer: str
    database: str
    backup: str
    store_url: str
    """The store that it was read from."""
    engine: str
    policy_version: int
    pick: Pick
    kind: Literal["drill", "cold start"]
    """A cold start begins with an empty directory, the store and an identity."""
    began_at: datetime
    ended_at: datetime
    verdict: Verdict
    level: int | None
    """The highest level of the ladder such that all of its checks and of those below passed."""
    reason: str
    """Why it is not PASSED, or not at the highest level, in a sentence; empty otherwise."""
    checks: tuple[Check, ...]
    phases: tuple[Phase, ...]
    place: Place | None
    snapshot_at: datetime
    """Of the backup."""
    rto_seconds: int | None
    rpo_seconds: int
    tables: int
    rows: int
    plain_bytes: int
    read_bytes: int
    """Read out of the customer's store: what it costs them."""
    requests: int
    """Calls to the store."""
    key_ids: tuple[str, ...]
    """SHA-256 (hex) of the recipients that the backup is encrypted to."""
    procedure: str
    """This program's version."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One damaged copy, and whether the named check rejected it."""

    name: str
    """One of `verify.controls.CONTROLS`."""
    damage: str
    """What was done to the copy, in words."""
    check: str
    """The check that must reject it."""
    caught: bool
    by: str
    """The check that did reject it, with what it found; or that nothing did."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Negative controls: a verifier that passes a bad copy proves nothing."""

    id: str
    customer: str
    database: str
    backup: str
    """The real one that the copies were made of."""
    began_at: datetime
    ended_at: datetime
    trials: tuple[Trial, ...]
    error: str = ""
    """Why it could not be brought to its end; it then counts as not done."""

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of what was damaged and let pass."""
        return tuple(trial.name for trial in self.trials if not trial.caught)


@dataclass(frozen=True, slots=True)
class Publication:
    """A report that was built, and where it was put."""

    id: str
    month: str
    """YYYY-MM."""
    customer: str
    """Empty: of the whole fleet."""
    built_at: datetime
    sha256: str
    """Hex digest of the report's canonical JSON."""
    statement_sha256: str
    """Of the signed statement; the next month's names it."""
    previous: str | None
    """The statement of the month before, or None."""
    corrects: str = ""
    """The statement that this one replaces, and with `reason` why."""
    reason: str = ""
    stores: tuple[str, ...] = ()
    """URLs of the stores that it was put into."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """A verdict of somebody else on a restore test, beside ours; it can't make it pass."""

    id: str
    customer: str
    database: str
    drill: str
    name: str
    """Of the person or validator who gives it."""
    passed: bool
    words: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Examination:
    """A customer's store, as it was looked at."""

    id: str
    customer: str
    store_url: str
    at: datetime
    looks: tuple[Look, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of what is not as it must be."""
        return tuple(look.name for look in self.looks if look.outcome == "failed")


Evidence = Begun | Drill | SelfTest | Publication | Opinion | Examination
