"""Putting a backup in the place of a live database: the nouns, and what may happen when. Pure.

A plan is made and shown first; it holds for the database as it was then. The old database is
kept under another name, so that all of it can be undone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from backups.errors import ApprovalMissing, PlanVoid, RestoreFailed, UsageError

State = Literal["planned", "running", "replaced", "undone", "failed", "cancelled", "dropped"]
Step = Literal["", "safety", "restore", "compare", "swap", "undo", "drop"]
"""What was begun last; it is recorded before it is begun."""

HOLDS = timedelta(days=1)
"""A plan that is older says too little of what is there now. ASSUMED."""


MAX_ROWS = 1_000_000
"""Of a table, up to which its rows are compared one by one. ASSUMED."""

SAMPLE = 5
"""Keys that are named of each kind of change in a table."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What replacing would do to one table's rows."""

    schema: str
    name: str
    newest_now: datetime | None = None
    """The latest instant of the past in any of its columns, in the live database."""
    newest_then: datetime | None = None
    """The same in the backup."""
    comes: int = 0
    """Rows that only the backup has."""
    goes: int = 0
    """Rows that only the live database has."""
    changes: int = 0
    """Rows of the same primary key with other values."""
    keys: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())
    """The first primary keys of those that come, go and change."""
    unknown: str = ""
    """Why its rows were not compared."""
    note: str = ""
    """By what they were told apart, where it is no primary key that both sides have."""
    rows_now: int | None = None
    """All rows of the live database's, where it was counted."""
    rows_then: int | None = None
    """All rows of the backup's."""

    def without(self, why: str) -> Changes:
        """Not compared row by row."""
        return replace(self, unknown=why)

    def counted(
        self,
        counts: tuple[int, int, int],
        keys: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    ) -> Changes:
        """Compared; in the order come, go, change."""
        comes, goes, changes = counts
        return replace(self, comes=comes, goes=goes, changes=changes, keys=keys)

    def __str__(self) -> str:
        words = [
            f"{count:,} {what}"
            + (f" ({', '.join(keys)}{', ...' if count > len(keys) else ''})" if keys else "")
            for what, count, keys in zip(
                ("come back", "are lost", "change"),
                (self.comes, self.goes, self.changes),
                self.keys,
                strict=True,
            )
            if count
        ]
        if self.unknown:
            words = [f"not compared row by row: {self.unknown}"]
        if (self.unknown or self.note) and self.rows_now is not None:
            words.append(f"{self.rows_now:,} rows now, {self.rows_then or 0:,} then")
        if self.note:
            words.append(self.note)
        if self.newest_now or self.newest_then:
            words.append(f"newest now {_when(self.newest_now)}, then {_when(self.newest_then)}")
        return f"{self.schema}.{self.name}: {'; '.join(words) or 'rows differ'}"


@dataclass(frozen=True, slots=True)
class Replacement:
    """One plan to replace a live database, and what became of it."""

    id: str
    customer: str
    database: str
    backup: str
    snapshot_at: datetime
    """Of the backup: what was written since is not in it."""
    target: str
    """The live database's URL, without a password."""
    live: str
    """Its name on its server."""
    digest: str
    """SHA-256 (hex) of all that was planned: what is approved is this and nothing else."""
    target_sha256: str
    """Of the live database's fingerprint when it was planned."""
    difference: tuple[str, ...]
    """How the backup differs from the live database, in words."""
    stays_behind: tuple[str, ...]
    """What belongs to the old database and does not come along, in words."""
    planned_at: datetime
    planned_by: str
    needs: Literal["nothing", "person", "delay"]
    """Before it may start: another person's word, or a time to think."""
    not_before: datetime | None
    keep_days: int
    state: State = "planned"
    step: Step = ""
    copy: str = ""
    """The copy's name on the server while it is made, and until it is live."""
    aside: str = ""
    """The old database's name since the swap."""
    approved_by: str = ""
    approved_at: datetime | None = None
    started_by: str = ""
    undone_by: str = ""
    rehearsal: str = ""
    """The name of the copy that was made beside the live database to be looked at."""
    rehearsed_at: datetime | None = None
    seen: tuple[str, ...] = ()
    """What the rehearsal showed, in words: whole tables that come or go first."""
    rehearsed_sha256: str = ""
    """Of the live database's fingerprint when it was rehearsed."""
    exceptions: tuple[str, ...] = ()
    """What could not be made in the newest copy as the source has it, in words."""
    accepted_by: str = ""
    """Who started it although the copy lacks that."""
    broke_glass: str = ""
    """Why neither approval nor the plan's age were waited for."""
    ticket: str = ""
    """Of the customer's request, where support does it for them."""
    consent: str = ""
    """How the customer agreed to it."""
    safety_backup: str = ""
    replaced_at: datetime | None = None
    kept_until: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""

    @property
    def stale(self) -> bool:
        """The live database had changed since the plan when it was rehearsed."""
        return bool(self.rehearsed_sha256) and self.rehearsed_sha256 != self.target_sha256

    @property
    def over(self) -> bool:
        """Nothing more can be done with it."""
        return self.state in ("undone", "failed", "cancelled", "dropped")


def approved(
    plan: Replacement, name: str, approvers: Collection[str], at: datetime
) -> Replacement:
    """With that person's word. Raises UsageError, ApprovalMissing."""
    _require(plan, "planned", "approved")
    if plan.needs == "nothing":
        raise UsageError("this plan needs nobody's approval")
    if name not in approvers:
        raise ApprovalMissing(
            f"{name!r} is none of those who may approve",
            hint="`restore_approvers` in settings.yaml names them.",
        )
    if name == plan.planned_by:
        raise ApprovalMissing(f"{name!r} planned it: another person must approve")
    return replace(plan, approved_by=name, approved_at=at)


def require_startable(
    plan: Replacement, confirm: str, at: datetime, broke_glass: str, *, accept: bool = False
) -> None:
    """Raises UsageError, ApprovalMissing, PlanVoid while it must not start. `accept`: what the
    rehearsal could not make is accepted."""
    _require(plan, "planned", "started")
    if confirm != plan.live:
        raise UsageError(
            f"what was typed is not the name of the database to be replaced, {plan.live!r}",
            hint=f"Look at the plan again, then type it: --confirm {plan.live}",
        )
    if plan.exceptions and not accept:
        raise ApprovalMissing(
            f"the rehearsal showed that {len(plan.exceptions)} things can't be made as the "
            "source has them",
            hint="Look at them; --accept-exceptions replaces the live database all the same.",
        )
    if broke_glass:
        return
    if plan.needs == "person" and not plan.approved_by:
        raise ApprovalMissing("another person has not approved this plan yet")
    if plan.not_before is not None and at < plan.not_before and not plan.approved_by:
        raise ApprovalMissing(
            f"this plan may start at {plan.not_before:%Y-%m-%d %H:%M UTC}, not before",
            hint="Nobody else can approve it, so there is a time to think.",
        )
    if at - plan.planned_at > HOLDS:
        raise PlanVoid(f"it was planned more than {HOLDS.days * 24} hours ago")


def require_same_target(plan: Replacement, target_sha256: str, broke_glass: str) -> None:
    """Raises PlanVoid when the live database is not what it was when it was planned."""
    if target_sha256 != plan.target_sha256 and not broke_glass:
        raise PlanVoid(
            f"{plan.live!r} has changed since the plan was made",
            hint="Keep applications from writing to it, then plan anew.",
        )


def require_accepted(
    plan: Replacement, found: Collection[str], *, accept: bool, broke_glass: str
) -> None:
    """Raises RestoreFailed when a copy that lacks something must not become the live database.

    Closed by default, also where the source has the same fault: the live database may keep the
    rule that the copy has lost, and applications may rely on it. What is accepted is what a
    rehearsal showed before, so that whoever approved it knew; in an emergency, all of it.
    """
    new = sorted(set(found) - set(plan.exceptions))
    if not found or (accept and (broke_glass or not new)):
        return
    listed = "; ".join(new or sorted(found))
    raise RestoreFailed(
        f"the copy is not all that the source was: {listed}",
        hint="The live database is untouched. Plan it anew, rehearse it, and start it with "
        "--accept-exceptions if the copy will do.",
    )


def require_undoable(plan: Replacement) -> None:
    """Raises UsageError when there is no old database to go back to."""
    _require(plan, "replaced", "undone")


def require_rehearsable(plan: Replacement) -> None:
    """Raises UsageError once it was started."""
    _require(plan, "planned", "rehearsed")


def stale_rehearsal(plan: Replacement, at: datetime) -> bool:
    """Whether a copy lies there of a plan that can't be started any more."""
    return bool(plan.rehearsal) and plan.state == "planned" and at - plan.planned_at > HOLDS


def require_cancellable(plan: Replacement) -> None:
    """Raises UsageError once it was started."""
    _require(plan, "planned", "cancelled")


def _require(plan: Replacement, state: State, what: str) -> None:
    if plan.state != state:
        raise UsageError(
            f"replacement {plan.id} is {plan.state}: it can't be {what}",
            hint="`backups replace list` shows how things stand.",
        )


def settled(plan: Replacement, names: Collection[str], at: datetime) -> Replacement:
    """What became of one whose process died, told from the databases that there are.

    The swap is one transaction: the old database has its new name if and only if it happened.
    """
    if plan.state != "running":
        return plan
    words = "the process ended in the middle"
    if plan.step == "swap" and plan.aside in names:
        return done(plan, at)
    if plan.step == "undo":
        if plan.aside not in names:
            return replace(plan, state="undone", ended_at=at)
        return replace(plan, state="replaced", error=words)
    if plan.step == "drop":
        return replace(plan, state="replaced", error=words)
    return replace(plan, state="failed", ended_at=at, error=words)


def done(plan: Replacement, at: datetime) -> Replacement:
    """The copy is live, the old database kept."""
    return replace(
        plan,
        state="replaced",
        copy="",
        replaced_at=at,
        kept_until=at + timedelta(days=plan.keep_days),
        error="",
    )


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M UTC}" if at else "none"
