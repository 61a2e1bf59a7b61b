"""The parts of a report that are about restore tests, keys, posture and cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from verify.report.rows import Outcome


@dataclass(frozen=True, slots=True)
class CheckRow:
    """Expected against actual."""

    level: int
    name: str
    subject: str
    passed: bool | None
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody else's verdict; it changes nothing in ours."""

    name: str
    passed: bool
    words: str
    at: str


@dataclass(frozen=True, slots=True)
class Test:
    """One restore test."""

    id: str
    customer: str
    database: str
    backup: str
    kind: str
    began_at: str
    ended_at: str | None
    outcome: Outcome
    level: int | None
    reason: str
    rule: str
    """By which the backup was chosen."""
    seed: str
    among: int
    checks: tuple[CheckRow, ...]
    retest: str | None
    """The test that passed later and answers one that did not."""
    tables: int
    rows: int
    plain_bytes: int
    policy_version: int | None
    procedure: str
    opinions: tuple[Voice, ...]


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A part of a test."""

    name: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a restore took, how old its data was, against what was promised."""

    test: str
    customer: str
    database: str
    restore_milliseconds: int
    """Preparing, fetching, loading and comparing."""
    rto_seconds: int | None
    rto_met: bool | None
    phases: tuple[PhaseRow, ...]


@dataclass(frozen=True, slots=True)
class Age:
    """The longest time in the month without a newer backup."""

    customer: str
    database: str
    longest_seconds: int | None
    """None: there was never a backup."""
    rpo_seconds: int
    rpo_met: bool


@dataclass(frozen=True, slots=True)
class Timings:
    """Measured against target."""

    restores: tuple[Timing, ...]
    ages: tuple[Age, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """One backup."""

    customer: str
    database: str
    backup: str
    taken_at: str
    plain_bytes: int
    stored_bytes: int
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Use:
    """Who used what opens or restores backups, how often."""

    customer: str
    subject: str
    actor: str
    action: str
    times: int
    last_at: str


@dataclass(frozen=True, slots=True)
class Key:
    """A recipient that tested backups are encrypted to."""

    customer: str
    key_id: str
    databases: int
    last_seen: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that a person asked for."""

    id: str
    customer: str
    database: str
    backup: str
    target: str
    state: str
    started_at: str
    ended_at: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Access:
    """Uses of keys, and restores."""

    keys: tuple[Key, ...]
    uses: tuple[Use, ...]
    restores: tuple[Restored, ...]


@dataclass(frozen=True, slots=True)
class LookRow:
    """One property of a store."""

    name: str
    outcome: str
    words: str


@dataclass(frozen=True, slots=True)
class Posture:
    """A store: when it was last looked at and scrubbed, and what that found."""

    customer: str
    store: str
    examined_at: str | None
    looks: tuple[LookRow, ...]
    scrubbed_at: str | None
    scrubs: int
    objects: int | None
    findings: tuple[LookRow, ...]


@dataclass(frozen=True, slots=True)
class Exceptional:
    """Something that was not as promised."""

    customer: str
    subject: str
    kind: str
    words: str
    at: str | None


@dataclass(frozen=True, slots=True)
class Control:
    """Where evidence for a rule stands. A pointer: it claims nothing."""

    framework: str
    rule: str
    asks: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to copies of a real backup on purpose, and how often that was caught."""

    name: str
    damage: str
    check: str
    tried: int
    caught: int


@dataclass(frozen=True, slots=True)
class SelfTested:
    """The verifier, tested with copies that it must reject."""

    runs: int
    unfinished: int
    tried: int
    caught: int
    last_at: str | None
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Plaintext:
    """Where a copy lay decrypted, and that it is gone."""

    test: str
    customer: str
    database: str
    kind: str
    region: str
    """Empty: the operator's settings don't say."""
    server_version: str
    boundary: tuple[str, ...]
    destroyed_at: str | None
    proof: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a test took out of the customer's store."""

    test: str
    customer: str
    database: str
    read_bytes: int
    requests: int
