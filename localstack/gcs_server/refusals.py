"""Every answer that is not a success, worded and shaped as Google's.

Shape and reasons: cloud.google.com/storage/docs/json_api/v1/status-codes.
"""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """Ends a call: status, reason and message of Google's JSON error document."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.location = location
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        message = str(self)
        item = {"message": message, "domain": "global", "reason": self.reason}
        if self.location:
            item |= {"locationType": "header", "location": self.location}
        return {"error": {"code": self.status, "message": message, "errors": [item]}}


def invalid(message: str) -> Refusal:
    return Refusal(400, "invalid", message)


def not_implemented(what: str) -> Refusal:
    """Ours: what this server does not do is refused aloud, never ignored."""
    return Refusal(501, "notImplemented", f"this local server does not implement {what}")


def no_bucket() -> Refusal:
    return Refusal(404, "notFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> Refusal:
    return Refusal(404, "notFound", f"No such object: {bucket}/{name}")


def unmet() -> Refusal:
    return Refusal(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
        location="If-Match",
    )


def not_modified() -> Refusal:
    return Refusal(304, "notModified", "Not Modified")


def denied(email: str, permission: str, resource: str) -> Refusal:
    kind = "object" if "/objects/" in resource else "bucket"
    return Refusal(
        403,
        "forbidden",
        f"{email} does not have {permission} access to the Google Cloud Storage {kind}. "
        f"Permission '{permission}' denied on resource (or it may not exist).",
    )


def held(bucket: str, name: str, hold: str) -> Refusal:
    return Refusal(
        403,
        "objectUnderActiveHold",
        f"Object '{bucket}/{name}' is under active {hold} hold and cannot be deleted, "
        "overwritten or archived until hold is removed.",
    )


def retained(bucket: str, name: str, until: str) -> Refusal:
    return Refusal(
        403,
        "retentionPolicyNotMet",
        f"Object '{bucket}/{name}' is subject to bucket's retention policy or object "
        f"retention and cannot be deleted or overwritten until {until}",
    )
