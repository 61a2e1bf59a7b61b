"""A bucket of Google Cloud Storage, as it is set up.

Source of every field: Cloud Storage JSON API, "Buckets", resource representation. One answer
holds nearly all of it; the pruner asks, whose printed policy grants storage.buckets.get.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import google.auth
from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import credentials as of_people
from google.oauth2 import service_account
from requests import Response

from providers.access import Access
from providers.gcs import GcsOptions, options_of
from providers.gcs_access import GOOGLE, session_maker
from providers.gcs_errors import SDK_ERRORS, translate
from providers.posture.looking import (
    Judge,
    Judged,
    View,
    judge_clock,
    judge_lifecycle,
    judge_locks,
    judge_versions,
    locked_by_default,
    permitted,
)

_LOOK = "storage.buckets.get"
_OURS = ("v1/", "README.txt")
"""What we put below the prefix, and how it ends (FORMAT.md)."""
_ENDS = (".age", ".json", ".txt", ".age-bundle", ".head")
_EVERYBODY = frozenset({"allUsers", "allAuthenticatedUsers"})


@contextmanager
def looking(view: View) -> Iterator[Mapping[str, Judge]]:
    """Every look by name, while the context lasts."""
    options = options_of(view.url)
    access = view.access["pruner"]
    # The scope that goes with locks: a bucket's policy is shown to no narrower one.
    make = session_maker(replace(options, lock=options.lock or "unlocked"), access)
    bucket = _Bucket(make, options, view)
    with closing(bucket):
        yield {
            "region": permitted(bucket.region, _LOOK),
            "clock": permitted(bucket.clock, _LOOK),
            "versioning": permitted(bucket.versioning, _LOOK),
            "lock": permitted(bucket.lock, _LOOK),
            "public_access": permitted(
                bucket.public_access, f"{_LOOK} and storage.buckets.getIamPolicy"
            ),
            "lifecycle": permitted(bucket.lifecycle, _LOOK),
            "encryption": permitted(bucket.encryption, _LOOK),
            "credentials": lambda: judge_credentials(access),
        }


class _Bucket:
    """Asks for the bucket's resource once, and judges its fields."""

    def __init__(self, make: Any, options: GcsOptions, view: View) -> None:
        self._make_session = cache(make)
        self._options = options
        self._view = view
        self._date: tuple[datetime | None, datetime] | None = None
        self._fields = cache(lambda: self._get("", projection="noAcl"))

    def region(self) -> Judged:
        """`location`; the store's URL expects none."""
        fields = self._fields()
        return "passed", f"{fields['location']} ({fields.get('locationType', 'region')})"

    def clock(self) -> Judged:
        """The answer's `Date`."""
        self._fields()
        return judge_clock(*(self._date or (None, self._view.clock.now())))

    def versioning(self) -> Judged:
        """`versioning.enabled`."""
        on = bool(self._fields().get("versioning", {}).get("enabled"))
        return judge_versions(on=on, declared=self._options.versions)

    def lock(self) -> Judged:
        """`objectRetention`; and what would hold every object, wanted or not."""
        fields = self._fields()
        if fields.get("defaultEventBasedHold"):
            return locked_by_default("as long as its hold is not taken off")
        if seconds := int(fields.get("retentionPolicy", {}).get("retentionPeriod", 0)):
            return locked_by_default(f"{seconds / 86400:.1f} days")
        on = fields.get("objectRetention", {}).get("mode") == "Enabled"
        return judge_locks(on=on, mode=self._options.lock)

    def public_access(self) -> Judged:
        """`iamConfiguration.publicAccessPrevention`; else the bucket's policy."""
        access = self._fields().get("iamConfiguration", {})
        if access.get("publicAccessPrevention") == "enforced":
            return "passed", "prevented"
        bindings = self._get("/iam").get("bindings", ())
        members = {member for binding in bindings for member in binding["members"]}
        if found := members & _EVERYBODY:
            return "failed", f"the bucket's policy names {', '.join(sorted(found))}"
        if not access.get("uniformBucketLevelAccess", {}).get("enabled"):
            return "warning", "not prevented, and single objects can be made public"
        return "warning", "no policy makes the bucket public, but it does not prevent that"

    def lifecycle(self) -> Judged:
        """`lifecycle.rule`."""
        above = f"{self._options.prefix}/" if self._options.prefix else ""
        rules = self._fields().get("lifecycle", {}).get("rule", ())
        return judge_rules(rules, above, self._view)

    def encryption(self) -> Judged:
        """`encryption.defaultKmsKeyName`; without one it is Google's own key, always."""
        key = self._fields().get("encryption", {}).get("defaultKmsKeyName")
        return "passed", f"with {key or 'a key of Google'}, beneath our own"

    def close(self) -> None:
        """Let go of the connection."""
        if self._make_session.cache_info().currsize:
            self._make_session().close()

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        base = (self._options.endpoint or GOOGLE).rstrip("/")
        bucket = self._options.bucket
        try:
            session: AuthorizedSession = self._make_session()
            answer: Response = session.request(  # type: ignore[no-untyped-call]
                "GET",
                f"{base}/storage/v1/b/{bucket}{path}",
                params=query,
                timeout=(self._options.connect_timeout, self._options.read_timeout),
            )
            self._date = _date(answer), self._view.clock.now()
            if answer.status_code != 200:
                raise from_http_response(answer)  # type: ignore[no-untyped-call]
            fields: dict[str, Any] = answer.json()
        except SDK_ERRORS as error:
            raise translate(error, f"looking at the bucket {bucket}") from error
        return fields


# --- judging --------------------------------------------------------------------------


def judge_credentials(access: Access) -> Judged:
    """What kind of credentials we come with."""
    if access.key is not None:
        return "warning", "a stored key of a service account: name principals instead"
    try:
        ours, _project = google.auth.default()
    except SDK_ERRORS as error:
        raise translate(error, "finding credentials") from error
    beside = "" if access.principal else ", and name principals in the fleet file"
    if isinstance(ours, service_account.Credentials):
        return "warning", f"a stored key of a service account: use the machine's own{beside}"
    if isinstance(ours, of_people.Credentials):
        return "warning", f"a person's login: use the machine's own account{beside}"
    kind = type(ours).__module__.rpartition(".")[2].replace("_", " ")
    return "passed", f"without a stored key ({kind})"


def judge_rules(rules: Sequence[Mapping[str, Any]], above: str, view: View) -> Judged:
    """Lifecycle rules against what is promised; `above` is what all our names begin with.

    All conditions of a rule must hold (Cloud Storage, "Object Lifecycle Management")."""
    harm: list[str] = []
    doubts: list[str] = []
    for number, rule in enumerate(rules, 1):
        when = rule.get("condition", {})
        if rule.get("action", {}).get("type") != "Delete" or not _touches(when, above):
            continue
        name = f"rule {number}"
        if _of_hidden(when):
            doubts.append(f"{name} removes versions that somebody hid")
            continue
        age = when.get("age")
        before = when.get("createdBefore")
        if age is not None and age >= view.keep.days:
            doubts.append(
                f"{name} deletes our objects after {age} days, also those under hold and the "
                "newest good backup"
            )
        elif age is not None:
            words = f"after {age} days, but {view.keep.days} are promised"
            harm.append(f"{name} deletes our objects {words}")
        elif before is None or before >= f"{view.clock.now() - view.keep:%Y-%m-%d}":
            harm.append(f"{name} deletes our objects made before {before or 'any day'}")
    return judge_lifecycle(harm, doubts)


def _of_hidden(when: Mapping[str, Any]) -> bool:
    """Whether a rule is about versions that are not the newest, of which we have none."""
    names = ("daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions")
    return when.get("isLive") is False or any(when.get(name) for name in names)


def _touches(when: Mapping[str, Any], above: str) -> bool:
    """Whether a rule is about any of our objects, which have no custom time."""
    if "daysSinceCustomTime" in when or "customTimeBefore" in when:
        return False
    ours = [above + name for name in _OURS]
    begins = when.get("matchesPrefix", [""])
    ends = when.get("matchesSuffix", [""])
    return any(
        key.startswith(begin) or begin.startswith(key) for key in ours for begin in begins
    ) and any(kind.endswith(end) or end.endswith(kind) for kind in _ENDS for end in ends)


def _date(answer: Response) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).astimezone(UTC)
    except ValueError:
        return None
