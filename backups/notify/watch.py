"""One look at everything: what stands, whom it is told, what is on its way. Ports only.

What changes on record and what is entered into the outbox is one transaction. What is sent is
sent after it, and recorded after that: killed in between, it is sent again with the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backups.ids import uuid7
from backups.model import Policy
from backups.notify.alarms import BEFORE, FAILED_RUNS, Facts, Shelf, Watched, compare, standing
from backups.notify.events import from_alarm, from_record, wanted_by
from backups.notify.incidents import OPENING, due_at
from backups.notify.model import Alarm, Answer, Delivery, Endpoint, Event, Incident, Recorded
from backups.notify.ports import Desk, Notices, Proofs
from backups.notify.proof import Proof, Tested
from backups.notify.retries import after, next_attempt
from backups.ports import Clock, Diary, Entropy

MEMORY = timedelta(days=40)
"""How far back backups and runs are looked at: more than any of the alarms asks."""
KEPT = timedelta(days=90)
"""How long what was told is kept on record."""
AT_ONCE = 500
"""Audit records that one look turns into events."""
CLAIM = timedelta(minutes=2)
"""Nobody else tries a delivery for so long: more than any attempt takes."""
ROUNDS = 20
"""Deliveries to one endpoint in one look."""


@dataclass(frozen=True, slots=True)
class WatchPorts:
    """What a look needs."""

    notices: Notices
    proofs: Proofs
    diary: Diary
    clock: Clock
    entropy: Entropy
    endpoints: Sequence[Endpoint]
    send: Callable[[Endpoint, Delivery, datetime], Answer]
    place: Callable[[str], Hashable]
    """Two URLs of one place have one of these."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A database that is declared, and whether backups of it are expected now."""

    policy: Policy
    backed_up: bool
    tested: bool
    """Whether restore tests of it are owed now."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of it."""

    standing: int
    opened: int
    closed: int
    delivered: int
    undelivered: int
    trouble: bool
    """An alarm stands, and there is nobody who can be told of it."""


def watch(ports: WatchPorts, fleet: Sequence[Expected]) -> Looked:
    """Look once. Raises CatalogError, Busy."""
    now = ports.clock.now()
    seen = _seen(ports, fleet, now)
    with ports.notices.changing() as desk:
        found = standing(_facts(ports, desk, fleet, seen, now), now)
        changes = compare(found, desk.standing(), now)
        for alarm in changes.opened:
            _open(ports, desk, alarm, now)
        for recorded, alarm in changes.again:
            desk.tell_alarm(recorded.id, alarm.words, now)
            _tell(ports, desk, recorded.id, alarm, "standing", now)
        for recorded in changes.closed:
            desk.close_alarm(recorded.id, now)
            _tell(ports, desk, recorded.id, recorded.alarm, "closed", now)
        for record in desk.unread(AT_ONCE):
            event = from_record(record)
            if event is not None:
                _enter(ports, desk, event, now)
            desk.passed(record.sequence)
        desk.abandon([endpoint.id for endpoint in ports.endpoints], now)
        desk.forget(now - KEPT)
    delivered, undelivered = deliver(ports)
    health = ports.notices.health()
    deaf = all(
        endpoint.id in health and health[endpoint.id].failures for endpoint in ports.endpoints
    )
    return Looked(
        standing=len(found),
        opened=len(changes.opened),
        closed=len(changes.closed),
        delivered=delivered,
        undelivered=undelivered,
        trouble=bool(found) and deaf,
    )


def deliver(ports: WatchPorts) -> tuple[int, int]:
    """Try what waits, a bounded number; returns how many arrived, and how many did not."""
    counts = {True: 0, False: 0}
    endpoints = {endpoint.id: endpoint for endpoint in ports.endpoints}
    for _ in range(ROUNDS):
        now = ports.clock.now()
        health = ports.notices.health()
        able = [
            name
            for name in endpoints
            if name not in health
            or (health[name].disabled_at is None and (health[name].next_at or now) <= now)
        ]
        taken = ports.notices.take(able, now, now + CLAIM)
        if not taken:
            break
        for delivery in taken:
            answer = ports.send(endpoints[delivery.endpoint], delivery, now)
            _answered(ports, delivery, answer)
            counts[answer.delivered] += 1
    return counts[True], counts[False]


def _answered(ports: WatchPorts, delivery: Delivery, answer: Answer) -> None:
    at, chance = ports.clock.now(), int.from_bytes(ports.entropy.bytes(4)) / 2**32
    again = None
    if not answer.delivered and not answer.gone:
        again = next_attempt(delivery.since, delivery.attempts + 1, at, chance, answer.wait)
    ports.notices.answered(
        delivery, answer, at, again, lambda health: after(health, answer, at, chance)
    )


# --- what is entered ------------------------------------------------------------------


def _open(ports: WatchPorts, desk: Desk, alarm: Alarm, now: datetime) -> None:
    recorded = Recorded(_id(ports, now), alarm, now, now)
    desk.open_alarm(recorded)
    if alarm.kind in OPENING:
        desk.open_incident(
            Incident(
                id=_id(ports, now),
                alarm=recorded.id,
                kind=alarm.kind,
                customer=alarm.customer,
                subject=alarm.subject,
                started_at=alarm.since,
            )
        )
    _tell(ports, desk, recorded.id, alarm, "opened", now)


def _tell(
    ports: WatchPorts, desk: Desk, alarm_id: str, alarm: Alarm, state: str, now: datetime
) -> None:
    _enter(ports, desk, from_alarm(_id(ports, now), alarm_id, alarm, state, now), now)


def _enter(ports: WatchPorts, desk: Desk, event: Event, now: datetime) -> None:
    desk.add_event(event, wanted_by(event, ports.endpoints), now)


def _id(ports: WatchPorts, now: datetime) -> str:
    return uuid7(now, ports.entropy.bytes(10))


# --- facts ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the catalog says, database by database; read outside the transaction."""

    databases: Sequence[Watched]
    declared: Mapping[str, datetime]
    unproven: Collection[str]
    proof: Proof
    """But for what is owed tests."""


def _seen(ports: WatchPorts, fleet: Sequence[Expected], now: datetime) -> _Seen:
    newest = ports.notices.newest()
    recent = ports.notices.recent(now - MEMORY)
    runs = ports.notices.runs(now - MEMORY)
    proven = ports.notices.proven()
    databases = []
    for each in fleet:
        policy = each.policy
        wanted = {ports.place(store.url) for store in policy.stores}
        shown = [
            replace(seen, lacking=len(wanted - {ports.place(url) for url in urls}))
            for seen, urls in recent.get(policy.database, [])[: BEFORE + 1]
        ]
        databases.append(
            Watched(
                customer=policy.customer,
                database=policy.database,
                rpo=timedelta(hours=policy.plan.rpo_hours),
                expected_since=None,
                newest=newest.get(policy.database),
                recent=shown,
                runs=runs.get(policy.database, [])[:FAILED_RUNS],
            )
        )
    return _Seen(
        databases,
        ports.notices.declared_at({each.policy.database for each in fleet}),
        {
            each.policy.customer
            for each in fleet
            if not set(each.policy.recipients) & proven.get(each.policy.customer, set())
        },
        _proof(ports, fleet),
    )


def _proof(ports: WatchPorts, fleet: Sequence[Expected]) -> Proof:
    """What stands of databases and stores that are declared no more concerns nobody."""
    databases = {each.policy.database for each in fleet if each.tested}
    stores = {(each.policy.customer, s.url) for each in fleet for s in each.policy.stores}
    return Proof(
        outcomes=ports.proofs.outcomes(),
        failing=[each for each in ports.proofs.failing() if each.database in databases],
        postures=[
            (each.customer, each.store_url, each.at, each.failed)
            for each in ports.proofs.unfit()
            if (each.customer, each.store_url) in stores
        ],
    )


def _facts(
    ports: WatchPorts, desk: Desk, fleet: Sequence[Expected], seen: _Seen, now: datetime
) -> Facts:
    since = desk.watch(
        "database",
        {
            (each.policy.customer, each.policy.database): (
                seen.declared.get(each.policy.database, now) if each.backed_up else None
            )
            for each in fleet
        },
    )
    owed = desk.watch(
        "restore tests",
        {
            (each.policy.customer, each.policy.database): (
                seen.declared.get(each.policy.database, now) if each.tested else None
            )
            for each in fleet
        },
    )
    stores = {(each.policy.customer, s.url): now for each in fleet for s in each.policy.stores}
    declared = desk.watch("store", dict.fromkeys(stores, now))
    unproven = desk.watch("recipients", {(name, name): now for name in seen.unproven})
    scrubs = {
        (customer, ports.place(url)): (at, findings)
        for customer, url, at, findings in ports.notices.scrubs()
    }
    shelves = []
    for (customer, url), first in declared.items():
        at, findings = scrubs.get((customer, ports.place(url)), (None, {}))
        shelves.append(Shelf(customer, url, first or now, at, findings))
    health = ports.notices.health()
    return Facts(
        databases=[
            replace(each, expected_since=since[each.customer, each.database])
            for each in seen.databases
        ],
        shelves=shelves,
        unproven=[(customer, first or now) for (customer, _), first in unproven.items()],
        retention_ran=_retention(ports, desk),
        disabled=[
            (endpoint.id, at, health[endpoint.id].words)
            for endpoint in ports.endpoints
            if endpoint.id in health and (at := health[endpoint.id].disabled_at) is not None
        ],
        overdue=[
            (incident.id, incident.customer, incident.subject, due_at(incident.started_at))
            for incident in ports.notices.incidents(closed=False)
            if now >= due_at(incident.started_at)
        ],
        proof=replace(
            seen.proof,
            tested=[
                Tested(policy.customer, policy.database, first, policy.plan.restore_test or "")
                for policy in (each.policy for each in fleet)
                if (first := owed[policy.customer, policy.database]) is not None
            ],
        ),
    )


def _retention(ports: WatchPorts, desk: Desk) -> datetime | None:
    """When it last came to its end; the diary knows the last attempt only."""
    attempt = ports.diary.attempts().get("prune")
    if attempt is None:
        return None
    if attempt.ended_at is not None and attempt.error is None:
        desk.set_moment("retention", attempt.ended_at)
        return attempt.ended_at
    known = desk.moment("retention")
    if known is None:  # it never did: the first attempt counts
        desk.set_moment("retention", attempt.began_at)
        return attempt.began_at
    return known
