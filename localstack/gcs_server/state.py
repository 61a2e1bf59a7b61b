"""What the server holds: buckets, and the versions of their objects. All of it is lost with
the process, but for the bodies: each is a file below the server's folder."""

from __future__ import annotations

# ruff: noqa: TID251  (a server of its own, not a part of the project)
import base64
import itertools
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from refusals import Refusal, held, invalid, no_bucket, no_object, retained

Json = dict[str, Any]


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Version:
    """One generation of one object."""

    name: str
    generation: int
    size: int
    crc32c: str
    md5: str | None
    body: Path
    created: datetime
    fields: Json
    """What clients set: contentType, metadata, holds, retention."""
    metageneration: int = 1
    updated: datetime = field(default_factory=now)
    noncurrent: datetime | None = None
    released: datetime | None = None
    """When an event-based hold was last taken off: the bucket's retention starts there."""


@dataclass
class Bucket:
    """One bucket with all generations of its objects, oldest first."""

    name: str
    fields: Json
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)
    metageneration: int = 1
    bindings: list[Json] = field(default_factory=list)
    policy_version: int = 1
    policy_number: int = 1
    versions: dict[str, list[Version]] = field(default_factory=dict)

    @property
    def versioned(self) -> bool:
        return bool(self.fields.get("versioning", {}).get("enabled"))

    def live(self, name: str) -> Version | None:
        newest = self.versions.get(name, [None])[-1]
        return newest if newest is not None and newest.noncurrent is None else None

    def find(self, name: str, generation: int | None = None) -> Version:
        """The live version, or the one of that generation, live or not. Raises Refusal."""
        found = self.live(name)
        if generation is not None:
            every = self.versions.get(name, [])
            found = next((one for one in every if one.generation == generation), None)
        if found is None:
            raise no_object(self.name, name)
        return found

    def retained_until(self, version: Version) -> datetime | None:
        """End of the bucket's retention policy for a version; None: no policy, or an
        event-based hold keeps its end open. cloud.google.com/storage/docs/bucket-lock"""
        policy = self.fields.get("retentionPolicy")
        if not policy or version.fields.get("eventBasedHold"):
            return None
        start = version.released or version.created
        return start + timedelta(seconds=int(policy["retentionPeriod"]))

    def refuse_if_protected(self, version: Version) -> None:
        """Source: cloud.google.com/storage/docs/object-holds, /object-lock, /bucket-lock."""
        for hold, word in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
            if version.fields.get(hold):
                raise held(self.name, version.name, word)
        ends = [self.retained_until(version)]
        if retention := version.fields.get("retention"):
            ends.append(parse_time(retention["retainUntilTime"]))
        end = max((end for end in ends if end is not None), default=None)
        if end is not None and now() < end:
            raise retained(self.name, version.name, rfc3339(end))

    def drop_live(self, version: Version) -> None:
        """A live version is deleted or replaced by name: where the bucket keeps versions it
        becomes noncurrent, protected or not; else it is gone.
        Source: cloud.google.com/storage/docs/object-versioning"""
        if self.versioned:
            version.noncurrent = now()
        else:
            self.erase(version)

    def erase(self, version: Version) -> None:
        self.refuse_if_protected(version)
        left = [one for one in self.versions[version.name] if one is not version]
        if left:
            self.versions[version.name] = left
        else:
            del self.versions[version.name]
        version.body.unlink(missing_ok=True)  # a reader that has it open reads on


class State:
    """All buckets, the folder of the bodies, and one lock around every look and change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self._bodies = itertools.count()
        self._generation = 0

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise no_bucket()
        return self.buckets[name]

    def new_body(self) -> Path:
        return self.folder / str(next(self._bodies))

    def next_generation(self) -> int:
        """Microseconds, and always more than the last: a generation is never used twice."""
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        return self._generation


def rfc3339(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def parse_time(text: object) -> datetime:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise invalid(f"Invalid value for a time: {text!r}") from error
    if when.tzinfo is None:
        raise Refusal(400, "invalid", f"Invalid value for a time: {text!r}")
    return when


def etag(*numbers: int) -> str:
    return base64.b64encode("/".join(map(str, numbers)).encode()).decode()
