"""What every cloud's looks share: what they are given, and what a refusal to look means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from backups.errors import CapabilityMissing, StoreDenied
from backups.model import Outcome
from backups.ports import Clock
from providers.access import Access, Role
from providers.urls import StoreUrl

Judged: TypeAlias = tuple[Outcome, str]
Judge: TypeAlias = Callable[[], Judged]
"""Looks at one property; raises StoreError's kinds when it could not."""

SKEW = timedelta(minutes=5)
"""Signatures of S3 hold for a quarter of an hour, those of Azure as well; locks end by the
store's clock while retention windows are counted by ours."""


@dataclass(frozen=True, slots=True)
class View:
    """A store to look at, and what is promised of it."""

    url: StoreUrl
    access: Mapping[Role, Access]
    clock: Clock
    keep: timedelta
    """The longest retention window among the policies that name the store."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun and not ended: its parts are stored, and cost, unseen."""

    key: str
    """Relative to the store's root."""
    upload_id: str
    started: datetime


def permitted(judge: Judge, right: str) -> Judge:
    """The same, where a refusal to look proves nothing and names the right to grant."""

    def run() -> Judged:
        try:
            return judge()
        except StoreDenied as error:
            return "unproven", f"may not look: grant {right} ({error})"
        except CapabilityMissing as error:
            return "unproven", f"the endpoint does not say ({error})"

    return run


def judge_clock(theirs: datetime | None, ours: datetime) -> Judged:
    """The store's clock, as an answer's `Date` header tells it (RFC 9110, 6.6.1)."""
    if theirs is None:
        return "unproven", "no answer carried the store's time"
    seconds = (ours - theirs).total_seconds()
    if abs(seconds) <= SKEW.total_seconds():
        return "passed", f"within {max(1, abs(round(seconds)))} s of the store's"
    way = "ahead of" if seconds > 0 else "behind"
    return (
        "failed",
        f"this machine is {abs(seconds):.0f} s {way} the store: signatures and locks "
        "depend on the time, synchronise it",
    )


def judge_versions(*, on: bool, declared: bool) -> Judged:
    """Whether the bucket keeps versions, against what the store's URL says."""
    if declared and not on:
        return "failed", "not kept, but the store's URL says versions or lock"
    if on and not declared:
        return (
            "failed",
            "kept, but the store's URL does not say so: deleting would only hide; add "
            "versions=true",
        )
    return "passed", "kept" if on else "not kept"


def judge_locks(*, on: bool, mode: str | None) -> Judged:
    """Whether objects can be locked one by one, against what the store's URL says."""
    if mode and not on:
        return "failed", "the bucket has none, but the store's URL says lock"
    if on and not mode:
        return "warning", "possible, but not used: add lock= to the store's URL"
    if not mode:
        return "warning", "none: whoever may delete can delete backups before their time"
    return "passed", f"each object can be; we lock in {mode} mode"


def locked_by_default(span: str) -> Judged:
    """A bucket that locks by itself locks too much."""
    return (
        "failed",
        f"the bucket itself locks every object for {span}, also what failed runs and checks "
        "leave: remove that, each backup is locked to the end of its own window",
    )


def judge_lifecycle(harm: list[str], doubts: list[str]) -> Judged:
    """What rules that delete by age do to us; `harm` breaks a promise, `doubts` may."""
    if harm:
        return "failed", "; ".join([*harm, *doubts])
    if doubts:
        return "warning", "; ".join(doubts)
    return "passed", "no rule touches our objects"
