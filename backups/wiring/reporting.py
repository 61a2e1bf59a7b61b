"""The monthly report, put together: facts from the catalog, a bundle, the customers' stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from backups import __version__
from backups.declared import Standing
from backups.errors import BackupsError, ConfigError, NotFound, ObjectExists, UsageError
from backups.ids import uuid7
from backups.keeping import Record
from backups.ports import Progress
from backups.proving import Begun, Drill, Examination, Opinion, Publication, SelfTest
from backups.wiring.app import App
from backups.wiring.stores import declared_stores, store_of

if TYPE_CHECKING:
    from pathlib import Path

    from verify.report.document import Report
    from verify.report.facts import Alarmed, Facts
    from verify.report.month import Month

BEFORE = timedelta(days=62)
"""How long before a month its report looks for the backups that were the newest then."""


@dataclass(frozen=True, slots=True)
class Built:
    """A report in every form."""

    report: Report
    files: dict[str, bytes]
    previous: Publication | None
    """What was published last of the months before."""
    replaced: Publication | None
    """What was published last of this one."""


def build(
    app: App, month: Month, customer: str | None, *, corrects: str = "", reason: str = ""
) -> Built:
    """The report of a month, of one customer or the fleet; nothing is published.

    `corrects` is the statement that it replaces, and `reason` why. Raises NotFound,
    UsageError when the month has not begun, Damaged when the audit chain is.
    """
    from backups import keys
    from verify import bundle
    from verify.report.build import build
    from verify.report.facts import Previous

    if month.start > app.clock.now():
        raise UsageError(f"{month} has not begun yet")
    if customer is not None and customer not in customers(app):
        raise NotFound(f"there is no customer {customer!r}")
    told = published(app, customer)
    before = [each for each in told if each.month < str(month)]
    same = [each for each in told if each.month == str(month)]
    previous = before[-1] if before else None
    place = Previous(previous.statement_sha256 if previous else None, corrects, reason)
    report = build(facts(app, month), customer, place)
    files = bundle.make(report, keys.load_signing_key(app.home))
    return Built(report, files, previous, same[-1] if same else None)


def published(app: App, customer: str | None) -> list[Publication]:
    """The reports of a customer, or of the fleet, oldest first."""
    found = app.archive.evidence(["publication"])
    wanted = customer or ""
    return [each for each in found if isinstance(each, Publication) and each.customer == wanted]


def customers(app: App) -> list[str]:
    """All that ever had a policy."""
    return sorted({policy.customer for policy in app.catalog.policies()})


# --- publishing -----------------------------------------------------------------------


def publish(
    app: App, month: Month, customer: str | None, progress: Progress, *, reason: str = ""
) -> Publication:
    """Build, keep in the home, put into each of the customer's stores, then record.

    A second one of the same month corrects the first and wants a `reason`. May be repeated
    after it was killed. Raises as `build` does, UsageError, and StoreError when a store did
    not take it: then nothing is recorded.
    """
    from verify import bundle

    if month.end > app.clock.now():
        raise UsageError(
            f"{month} is not over", hint="Look at it so far with `backups report build`."
        )
    told = [each for each in published(app, customer) if each.month == str(month)]
    if told and not reason:
        raise UsageError(
            f"the report of {month} was published already",
            hint="A correction names why: --reason WORDS.",
        )
    corrects = told[-1].statement_sha256 if told else ""
    built = build(app, month, customer, corrects=corrects, reason=reason)
    whose = ["customers", customer] if customer else ["fleet"]
    number = str(len(told) + 1)
    _keep(app.home.reports.joinpath(str(month), *whose, number), built.files)
    stores = []
    for owner, destination in declared_stores(app, customer) if customer else ():
        progress(f"the report of {owner} for {month}", 0, None)
        days = _retention(app, owner)
        with store_of(app, owner, destination, "writer") as store:
            locks = store.capabilities().retention
            until = app.clock.now() + timedelta(days=days) if locks else None
            for name in bundle.in_order(built.files):
                try:
                    key = f"v1/reports/{month}/{number}/{name}"
                    store.put(key, built.files[name], retain_until=until)
                except ObjectExists:  # by an attempt that was killed: the same bytes
                    continue
        stores.append(destination.url)
    now = app.clock.now()
    publication = Publication(
        id=uuid7(now, app.entropy.bytes(10)),
        month=str(month),
        customer=customer or "",
        built_at=now,
        sha256=bundle.digest_of(built.files, "report.json"),
        statement_sha256=bundle.digest_of(built.files),
        previous=built.previous.statement_sha256 if built.previous else None,
        corrects=corrects,
        reason=reason,
        stores=tuple(stores),
    )
    app.archive.add(publication)
    return publication


def publish_due(app: App, progress: Progress) -> list[str]:
    """Every report of the last month that is not published yet; returns whose were.

    One that fails does not keep the others from theirs. Raises BackupsError then."""
    from verify.report.month import Month

    month = Month.before(app.clock.now())
    whose: list[str | None] = [*_owed(app, month), None]
    if whose == [None]:  # nobody was promised anything yet
        return []
    did, failed = [], []
    for customer in whose:
        if any(each.month == str(month) for each in published(app, customer)):
            continue
        try:
            publish(app, month, customer, progress)
        except BackupsError as error:
            failed.append(f"{customer or 'the fleet'}: {error}")
            continue
        did.append(customer or "the fleet")
    if failed:
        raise BackupsError(f"reports of {month} are not published: {'; '.join(failed)}")
    return did


def _owed(app: App, month: Month) -> list[str]:
    """Customers who had a policy before the month was over."""
    return sorted(
        {
            record.customer
            for record in app.audit.records()
            if record.action == "policy.saved" and record.customer and record.at < month.end
        }
    )


def _retention(app: App, customer: str) -> int:
    policies = [each for each in app.catalog.policies() if each.customer == customer]
    return max(policy.plan.retention_days for policy in policies)


def _keep(folder: Path, files: dict[str, bytes]) -> None:
    """In the home; what an attempt left that was killed is written anew."""
    from verify import bundle

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in bundle.in_order(files):
        (folder / name).write_bytes(files[name])


def kept(app: App, publication: Publication) -> Path:
    """The folder of a published report in this home. Raises ConfigError when it is gone."""
    whose = ["customers", publication.customer] if publication.customer else ["fleet"]
    told = [
        each
        for each in published(app, publication.customer or None)
        if each.month == publication.month
    ]
    number = [each.id for each in told].index(publication.id) + 1
    folder = app.home.reports.joinpath(publication.month, *whose, str(number))
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is gone", hint="The customer's stores hold it below v1/reports/."
        )
    return folder


# --- facts ----------------------------------------------------------------------------


def facts(app: App, month: Month) -> Facts:
    """The evidence of a month, as far as it has come. Raises Damaged, CatalogError."""
    from backups.format.audit import digest, follow
    from verify.report.facts import Facts, Head, Version

    until = min(app.clock.now(), month.end)
    chain = list(follow(app.audit.records()))
    records = [record for record in chain if record.at < until]
    span = app.annals(month.start - BEFORE, until)
    evidence = app.archive.evidence(since=month.start, until=until)
    saved = {
        (record.subject, record.details["version"]): record.at
        for record in chain
        if record.action == "policy.saved"
    }
    return Facts(
        month=month,
        until=until,
        program=__version__,
        versions=[
            Version(policy, saved.get((policy.database, str(policy.version))))
            for policy in span.policies
        ],
        standings=_standings(records, span.standings),
        runs=span.runs,
        backups=span.backups,
        kept=span.kept,
        deletions=span.deletions,
        holds=app.ledger.holds(),
        begun=[each for each in evidence if isinstance(each, Begun)],
        drills=[each for each in evidence if isinstance(each, Drill)],
        self_tests=[each for each in evidence if isinstance(each, SelfTest)],
        opinions=[each for each in evidence if isinstance(each, Opinion)],
        alarms=list(_alarms(app, month, until)),
        records=[record for record in records if record.at >= month.start],
        scrubs=span.scrubs,
        examined=[
            each
            for each in app.archive.evidence(["examination"], until=until)
            if isinstance(each, Examination)
        ],
        operations=span.operations,
        head=Head(records[-1].sequence, digest(records[-1])) if records else None,
    )


def _standings(records: Sequence[Record], now: Sequence[Standing]) -> list[Standing]:
    """Every one there was, oldest first; the chain tells, and where it begins later than a
    standing did, the standing itself."""
    found = [
        Standing(
            customer=record.customer or "",
            database=record.details.get("database", ""),
            state=record.details["state"],
            since=datetime.fromisoformat(record.details["since"]),
            until=_day(record.details["until"]),
            reason=record.details.get("reason", ""),
        )
        for record in records
        if record.action == "state.changed"
    ]
    told = {(each.customer, each.database) for each in found}
    found += [each for each in now if (each.customer, each.database) not in told]
    return sorted(found, key=lambda each: each.since)


def _day(text: str) -> date | None:
    return None if text == str(None) else date.fromisoformat(text)


def _alarms(app: App, month: Month, until: datetime) -> Iterator[Alarmed]:
    from verify.report.facts import Alarmed

    causes = {each.alarm: each for each in app.notices.incidents()}
    both = app.notices.alarms() + app.notices.alarms(closed=True)
    for each in sorted(both, key=lambda one: (one.opened_at, one.id)):
        over = each.closed_at is not None and each.closed_at < month.start
        if each.opened_at >= until or over:
            continue
        incident = causes.get(each.id)
        closed = each.closed_at if each.closed_at and each.closed_at < until else None
        yield Alarmed(
            kind=each.alarm.kind,
            customer=each.alarm.customer,
            subject=each.alarm.subject,
            words=each.alarm.words,
            opened_at=each.opened_at,
            closed_at=closed,
            cause=(incident.cause or "") if incident else "",
            post_mortem=(incident.post_mortem or "") if incident else "",
        )
