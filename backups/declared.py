"""What the fleet file declares, as plain values beside `model`. No behaviour, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """Commercial entitlement. Never says when."""

    name: str
    retention_days: int
    rpo_hours: int = 26
    """How old the newest backup may become. ASSUMED where the fleet file doesn't say."""
    keep_weekly: int = 0
    """How many ISO weeks (UTC) keep their newest backup beyond the window."""
    keep_monthly: int = 0
    keep_yearly: int = 0
    restore_test: str | None = "monthly"
    """How often one of its backups is restored for proof: daily, weekly or monthly, which is
    also what None, in old records, stands for."""
    restore_test_gb: int | None = None
    """What restore tests may read of a customer's store in a month, in 10^9 bytes, before only
    the newest backup of each database is tested."""
    rto_minutes: int | None = None
    """How long a restore may take, by what was promised."""
    second_approver: bool = False
    """A restore over what is there needs another person's word."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One store of a policy, and as whom each of our roles reaches it."""

    url: str
    writer: str | None = None
    """A principal in the customer's account: an AWS role's ARN, a Google service account's
    address, a Microsoft Entra client id. None: the credentials at hand."""
    restorer: str | None = None
    pruner: str | None = None
    key_ref: str | None = None
    """The reference of a stored key, where there must be one."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A customer's query that must be true of every copy."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Immutable, versioned rule for one database; editing makes a new version."""

    customer: str
    database: str
    version: int
    plan: Plan
    engine: str
    source_url: str
    password_ref: str | None
    """By reference, such as `env:NAME`; never the value."""
    stores: tuple[Destination, ...]
    """Where backups are taken to, and after it where each is copied to."""
    recipients: tuple[str, ...]
    """The customer's own; the restore agent's is added when a run starts."""
    window: str | None = None
    """Local hours in which the day's backup starts: `01:00-05:00 Europe/Berlin`."""
    maintenance: tuple[str, ...] = ()
    """Hours in which none starts: `Sun 02:00-06:00 Europe/Berlin`."""
    paused: bool = False
    """No backup is taken by the schedule."""
    assertions: tuple[Assertion, ...] = ()
    application_role: str = ""
    """A role that must be able to read a copy; empty: the database's owner."""
    scratch_region: str = ""
    """Where alone a copy may be made for a restore test; empty: anywhere."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand with a customer, or with one database of theirs."""

    customer: str
    database: str
    """Empty: the customer as a whole."""
    state: str
    """One of `backups.fleet.states.STATES`."""
    since: datetime
    until: date | None = None
    """The day that was set for its end. Nothing happens then by itself."""
    reason: str = ""
    """In a person's words."""
