"""What S3's answers about a bucket mean for us. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from providers.posture.looking import (
    Judged,
    View,
    judge_lifecycle,
    judge_locks,
    judge_versions,
    locked_by_default,
)

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_OURS = ("v1/", "README.txt")
"""What we put below the prefix (FORMAT.md)."""


def judge_versioning(answer: Mapping[str, Any], *, declared: bool) -> Judged:
    """GetBucketVersioning's answer against the store's URL."""
    status = answer.get("Status")
    if answer.get("MFADelete") == "Enabled":
        return "failed", "MFA delete is on: expired backups could never be deleted"
    if status == "Suspended" and not declared:
        return "warning", "suspended: versions from before stay, and cost"
    return judge_versions(on=status == "Enabled", declared=declared)


def judge_lock(configuration: Mapping[str, Any], mode: str | None) -> Judged:
    """ObjectLockConfiguration against the store's URL."""
    default = configuration.get("Rule", {}).get("DefaultRetention")
    if default:
        years = default.get("Years")
        return locked_by_default(f"{years} years" if years else f"{default.get('Days')} days")
    return judge_locks(on=configuration.get("ObjectLockEnabled") == "Enabled", mode=mode)


def judge_rules(rules: Sequence[Mapping[str, Any]], above: str, view: View) -> Judged:
    """Lifecycle rules against what is promised; `above` is what all our keys begin with.

    A rule's days are counted from when an object was put, which is after its backup's
    snapshot, so as many days as the window are enough."""
    harm: list[str] = []
    doubts: list[str] = []
    for rule in rules:
        if rule.get("Status") != "Enabled" or not _touches(rule, above):
            continue
        name = f"rule {rule.get('ID', 'without a name')!r}"
        _judge_expiry(name, rule, view, harm, doubts)
        moves = [
            *rule.get("Transitions", ()),
            *rule.get("NoncurrentVersionTransitions", ()),
        ]
        if any(move.get("StorageClass") in _ARCHIVES for move in moves):
            harm.append(f"{name} archives our objects, which cannot be read then")
    return judge_lifecycle(harm, doubts)


def _judge_expiry(
    name: str, rule: Mapping[str, Any], view: View, harm: list[str], doubts: list[str]
) -> None:
    expiry = rule.get("Expiration", {})
    if "Date" in expiry:
        harm.append(f"{name} expires all of our objects from {expiry['Date']:%Y-%m-%d} on")
    if "Days" in expiry:
        words = f"{name} expires our objects after {expiry['Days']} days"
        if expiry["Days"] < view.keep.days:
            harm.append(f"{words}, but {view.keep.days} are promised")
        else:
            doubts.append(f"{words}, also those under hold and the newest good backup")
    hidden = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    if hidden is not None and hidden < view.keep.days:
        doubts.append(f"{name} removes what somebody hid after {hidden} days")


def _touches(rule: Mapping[str, Any], above: str) -> bool:
    """Whether a rule is about any of our objects, which have no tags."""
    where = rule.get("Filter", {})
    both = where.get("And", {})
    if "Tag" in where or both.get("Tags"):
        return False
    # Rules from before filters have their prefix beside them.
    prefix = where.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or ""
    ours = [above + name for name in _OURS]
    return any(key.startswith(prefix) or prefix.startswith(key) for key in ours)
