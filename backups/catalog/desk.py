"""What is noticed and told, changed in one transaction: adapter of `notify.ports.Desk`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from backups.catalog import tables
from backups.catalog.audit import record_of
from backups.catalog.sql import storable
from backups.keeping import Record
from backups.notify.events import body
from backups.notify.model import Alarm, Event, Incident, Recorded

AUDIT = "audit"
"""The moment whose position is how far the audit chain was read."""


class SqlDesk:
    """Adapter of `notify.ports.Desk`."""

    def __init__(self, connection: Connection) -> None:
        """Within that connection's transaction."""
        self._connection = connection

    def unread(self, limit: int) -> list[Record]:
        """The next records of the audit chain, in order."""
        moments, audit = tables.moments, tables.audit
        query = select(moments.c.position).where(moments.c.name == AUDIT)
        position = self._connection.execute(query).scalar() or 0
        later = select(audit).where(audit.c.sequence > position)
        rows = self._connection.execute(later.order_by(audit.c.sequence).limit(limit))
        return [record_of(row) for row in rows]

    def passed(self, sequence: int) -> None:
        """All up to it were seen to."""
        self._keep(AUDIT, position=sequence)

    def moment(self, name: str) -> datetime | None:
        """When something was done that has that name."""
        return moment(self._connection, name)

    def set_moment(self, name: str, at: datetime) -> None:
        """It was done then."""
        self._keep(name, at=at)

    def _keep(self, name: str, **values: Any) -> None:
        table = tables.moments
        mine = update(table).where(table.c.name == name).values(**values)
        if not self._connection.execute(mine).rowcount:
            self._connection.execute(insert(table).values(name=name, **values))

    # --- alarms and incidents

    def standing(self) -> list[Recorded]:
        """Alarms on record that are not closed."""
        table = tables.alarms
        query = select(table).where(table.c.closed_at.is_(None)).order_by(table.c.opened_at)
        return [recorded_of(row) for row in self._connection.execute(query)]

    def open_alarm(self, recorded: Recorded) -> None:
        """It stands from now on."""
        alarm = recorded.alarm
        self._connection.execute(
            insert(tables.alarms).values(
                id=recorded.id,
                kind=alarm.kind,
                customer=alarm.customer,
                subject=storable(alarm.subject),
                words=storable(alarm.words),
                since=alarm.since,
                opened_at=recorded.opened_at,
                told_at=recorded.told_at,
            )
        )

    def tell_alarm(self, alarm_id: str, words: str, at: datetime) -> None:
        """It stands still, and became an event again."""
        table = tables.alarms
        values = {"words": storable(words), "told_at": at}
        self._connection.execute(update(table).where(table.c.id == alarm_id).values(**values))

    def close_alarm(self, alarm_id: str, at: datetime) -> None:
        """It stands no more; its incident, if it has one, ended."""
        alarms, incidents = tables.alarms, tables.incidents
        self._connection.execute(
            update(alarms).where(alarms.c.id == alarm_id).values(closed_at=at)
        )
        mine = (incidents.c.alarm == alarm_id) & incidents.c.ended_at.is_(None)
        self._connection.execute(update(incidents).where(mine).values(ended_at=at))

    def open_incident(self, incident: Incident) -> None:
        """The SLA's clock starts."""
        fields = {name: getattr(incident, name) for name in incident.__slots__}
        self._connection.execute(insert(tables.incidents).values(**fields))

    # --- the outbox

    def add_event(self, event: Event, endpoints: Iterable[str], at: datetime) -> None:
        """One delivery for each endpoint; an event is added once."""
        table = tables.events
        known = select(table.c.id).where(table.c.id == event.id)
        if self._connection.execute(known).scalar() is not None:
            return
        self._connection.execute(
            insert(table).values(
                id=event.id,
                type=event.type,
                customer=event.customer,
                subject=storable(event.subject),
                at=event.at,
                alarm=event.alarm,
                body=body(event),
            )
        )
        for endpoint in endpoints:
            self._connection.execute(
                insert(tables.deliveries).values(
                    event=event.id, endpoint=endpoint, state="pending", attempts=0,
                    since=at, due_at=at, words="",
                )
            )  # fmt: skip

    def abandon(self, declared: Collection[str], at: datetime) -> None:
        """What waits for an endpoint that is declared no more, or disabled, is dead."""
        table, endpoints = tables.deliveries, tables.endpoints
        off = select(endpoints.c.id).where(endpoints.c.disabled_at.is_not(None))
        unwanted = table.c.endpoint.not_in(declared) | table.c.endpoint.in_(off)
        self._connection.execute(
            update(table)
            .where(table.c.state == "pending", unwanted)
            .values(state="dead", last_at=at, words="the endpoint is off")
        )

    def forget(self, before: datetime) -> None:
        """Events of before that wait for nobody."""
        events, deliveries = tables.events, tables.deliveries
        waiting = exists().where(
            deliveries.c.event == events.c.id, deliveries.c.state == "pending"
        )
        old = select(events.c.id).where(events.c.at < before, ~waiting)
        self._connection.execute(delete(deliveries).where(deliveries.c.event.in_(old)))
        self._connection.execute(delete(events).where(events.c.at < before, ~waiting))

    def watch(
        self, kind: str, found: Mapping[tuple[str, str], datetime | None]
    ) -> dict[tuple[str, str], datetime | None]:
        """Since when each is watched; see the port."""
        table = tables.watched
        query = select(table).where(table.c.kind == kind)
        known = {
            (row.customer, row.subject): row.since for row in self._connection.execute(query)
        }
        kept = {
            name: known[name] if since is not None and known.get(name) is not None else since
            for name, since in found.items()
        }
        for name in known.keys() | kept.keys():
            if name in known and name in kept and known[name] == kept[name]:
                continue
            mine = (table.c.kind == kind) & (table.c.customer == name[0])
            self._connection.execute(delete(table).where(mine, table.c.subject == name[1]))
            if name in kept:
                self._connection.execute(
                    insert(table).values(
                        kind=kind, customer=name[0], subject=name[1], since=kept[name]
                    )
                )
        return kept


def moment(connection: Connection, name: str) -> datetime | None:
    """When something was last done that has that name."""
    table = tables.moments
    found: datetime | None = connection.execute(
        select(table.c.at).where(table.c.name == name)
    ).scalar()
    return found


def recorded_of(row: Row[Any]) -> Recorded:
    """A row of `alarms`."""
    return Recorded(
        id=row.id,
        alarm=Alarm(row.kind, row.customer, row.subject, row.words, row.since),
        opened_at=row.opened_at,
        told_at=row.told_at,
        closed_at=row.closed_at,
    )
