"""What was noticed and told: adapter of `notify.ports.Notices`, beside the catalog."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from backups.catalog import tables
from backups.catalog.desk import SqlDesk, moment, recorded_of
from backups.catalog.sql import read, storable, write
from backups.catalog.store import SqlCatalog
from backups.errors import NotFound, UsageError
from backups.lacking import not_carried
from backups.notify.alarms import Seen
from backups.notify.model import Answer, Delivery, Health, Incident, Recorded

Runs = dict[str, list[tuple[str, datetime]]]


class SqlNotices:
    """Adapter of `notify.ports.Notices`."""

    def __init__(self, catalog: SqlCatalog) -> None:
        """Uses the catalog's connections; closing that one closes this one."""
        self._engine = catalog._engine

    @contextmanager
    def changing(self) -> Iterator[SqlDesk]:
        """One transaction."""
        with write(self._engine) as connection:
            yield SqlDesk(connection)

    # --- facts

    def newest(self) -> dict[str, datetime]:
        """The snapshot of every database's newest listed backup."""
        table = tables.backups
        query = select(table.c.database, func.max(table.c.created_at).label("newest"))
        query = query.where(tables.is_listed).group_by(table.c.database)
        with read(self._engine) as connection:
            return {row.database: row.newest for row in connection.execute(query)}

    def recent(self, since: datetime) -> dict[str, list[tuple[Seen, tuple[str, ...]]]]:
        """Listed backups from then on, newest first, with the stores that hold each."""
        table, copies = tables.backups, tables.copies
        young = (table.c.created_at >= since) & tables.is_listed
        query = select(table).where(young).order_by(table.c.created_at.desc(), table.c.id)
        beside = select(copies).join(table, table.c.id == copies.c.backup).where(young)
        found: dict[str, list[tuple[Seen, tuple[str, ...]]]] = defaultdict(list)
        with read(self._engine) as connection:
            urls: dict[str, list[str]] = defaultdict(list)
            for row in connection.execute(beside):
                urls[row.backup].append(row.store_url)
            for row in connection.execute(query):
                seen = Seen(
                    row.id, row.created_at, row.plain_bytes, row.stored_bytes,
                    not_backed_up=not_carried(row.warnings or ()),
                )  # fmt: skip
                found[row.database].append((seen, (row.store_url, *urls[row.id])))
        return found

    def runs(self, since: datetime) -> Runs:
        """State and start of runs from then on that are over, newest first."""
        table = tables.runs
        query = select(table.c.database, table.c.state, table.c.started_at).where(
            table.c.started_at >= since, table.c.ended_at.is_not(None)
        )
        found: Runs = defaultdict(list)
        with read(self._engine) as connection:
            for row in connection.execute(query.order_by(table.c.started_at.desc())):
                found[row.database].append((row.state, row.started_at))
        return found

    def scrubs(self) -> list[tuple[str, str, datetime, Mapping[str, int]]]:
        """The last scrub of each store: customer, URL, when it ended, findings by kind."""
        table = tables.scrubs
        last = (
            select(table.c.customer, table.c.store_url, func.max(table.c.ended_at).label("at"))
            .group_by(table.c.customer, table.c.store_url)
            .subquery()
        )
        mine = (table.c.customer == last.c.customer) & (table.c.store_url == last.c.store_url)
        query = select(table).join(last, mine & (table.c.ended_at == last.c.at))
        with read(self._engine) as connection:
            return [
                (
                    row.customer,
                    row.store_url,
                    row.ended_at,
                    Counter(finding["kind"] for finding in row.findings),
                )
                for row in connection.execute(query)
            ]

    def proven(self) -> dict[str, set[str]]:
        """Recipients whose holders answered a canary, by customer."""
        table = tables.recipients
        found: dict[str, set[str]] = defaultdict(set)
        with read(self._engine) as connection:
            for row in connection.execute(select(table.c.customer, table.c.recipient)):
                found[row.customer].add(row.recipient)
        return found

    def declared_at(self, databases: Collection[str]) -> dict[str, datetime]:
        """When the first policy of each was saved."""
        table = tables.audit
        query = select(table.c.subject, func.min(table.c.at).label("at"))
        query = query.where(table.c.action == "policy.saved").group_by(table.c.subject)
        with read(self._engine) as connection:
            rows = connection.execute(query)
            return {row.subject: row.at for row in rows if row.subject in databases}

    def moment(self, name: str) -> datetime | None:
        """When something was last done that has that name."""
        with read(self._engine) as connection:
            return moment(connection, name)

    # --- what was noticed

    def alarms(self, *, closed: bool = False, limit: int | None = None) -> list[Recorded]:
        """Those that stand, or those that are closed; newest first."""
        table = tables.alarms
        over = table.c.closed_at.is_not(None) if closed else table.c.closed_at.is_(None)
        query = select(table).where(over).order_by(table.c.opened_at.desc(), table.c.id.desc())
        with read(self._engine) as connection:
            return [recorded_of(row) for row in connection.execute(query.limit(limit))]

    def incidents(self, *, closed: bool = True) -> list[Incident]:
        """Newest first."""
        table = tables.incidents
        query = select(table).order_by(table.c.started_at.desc(), table.c.id.desc())
        if not closed:
            query = query.where(table.c.closed_at.is_(None))
        with read(self._engine) as connection:
            return [Incident(**row._mapping) for row in connection.execute(query)]

    def close_incident(
        self, incident_id: str, cause: str, post_mortem: str, at: datetime
    ) -> Incident:
        """Raises NotFound; UsageError while it goes on, or when it is closed already."""
        table = tables.incidents
        mine = table.c.id == incident_id
        with write(self._engine) as connection:
            row = connection.execute(select(table).where(mine)).one_or_none()
            if row is None:
                raise NotFound(f"there is no incident {incident_id!r}")
            if row.closed_at is not None or row.ended_at is None:
                state = "closed already" if row.closed_at is not None else "not over yet"
                raise UsageError(f"the incident {incident_id} is {state}")
            values = {
                "cause": storable(cause), "post_mortem": storable(post_mortem), "closed_at": at,
            }  # fmt: skip
            connection.execute(update(table).where(mine).values(**values))
            row = connection.execute(select(table).where(mine)).one()
            return Incident(**row._mapping)

    # --- what is told

    def health(self) -> dict[str, Health]:
        """Of the endpoints that were ever tried."""
        with read(self._engine) as connection:
            rows = connection.execute(select(tables.endpoints)).all()
        return {row.id: _health(row) for row in rows}

    def take(self, endpoints: Sequence[str], now: datetime, until: datetime) -> list[Delivery]:
        """The delivery that has waited longest for each; nobody else takes it until then."""
        table, events = tables.deliveries, tables.events
        found = []
        with write(self._engine) as connection:
            for endpoint in endpoints:
                waiting = (table.c.endpoint == endpoint) & (table.c.state == "pending")
                query = (
                    select(
                        table, events.c.type, events.c.subject, events.c.customer, events.c.body
                    )
                    .join(events, events.c.id == table.c.event)
                    .where(waiting, table.c.due_at <= now)
                    .order_by(table.c.due_at, table.c.event)
                    .limit(1)
                )
                row = connection.execute(query).one_or_none()
                if row is None:
                    continue
                mine = (table.c.event == row.event) & (table.c.endpoint == endpoint)
                connection.execute(update(table).where(mine).values(due_at=until))
                found.append(Delivery(**row._mapping))
        return found

    def answered(
        self,
        delivery: Delivery,
        answer: Answer,
        at: datetime,
        again: datetime | None,
        after: Callable[[Health], Health],
    ) -> None:
        """What became of an attempt; see the port."""
        table, endpoints = tables.deliveries, tables.endpoints
        state = "delivered" if answer.delivered else "dead" if again is None else "pending"
        mine = (table.c.event == delivery.event) & (table.c.endpoint == delivery.endpoint)
        values = {
            "state": state,
            "attempts": delivery.attempts + 1,
            "last_at": at,
            "due_at": again or at,
            "words": storable(answer.words),
        }
        with write(self._engine) as connection:
            connection.execute(update(table).where(mine).values(**values))
            row = connection.execute(
                select(endpoints).where(endpoints.c.id == delivery.endpoint)
            ).one_or_none()
            _keep(connection, delivery.endpoint, after(_health(row) if row else Health()))

    def replay(
        self, endpoint: str, now: datetime, *, event: str | None, since: datetime | None
    ) -> int:
        """Deliver again; enables the endpoint. Raises NotFound when there is nothing."""
        table, events = tables.deliveries, tables.events
        mine = table.c.endpoint == endpoint
        if event is not None:
            mine &= table.c.event == event
        else:
            mine &= table.c.state == "dead"
            if since is not None:
                young = select(events.c.id).where(events.c.at >= since)
                mine &= table.c.event.in_(young)
        values = {"state": "pending", "attempts": 0, "since": now, "due_at": now}
        with write(self._engine) as connection:
            count = connection.execute(update(table).where(mine).values(**values)).rowcount
            if not count:
                raise NotFound(f"nothing is there to be delivered again to {endpoint!r}")
            _keep(connection, endpoint, Health())
        return count

    def deliveries(self, *, endpoint: str | None = None, limit: int = 50) -> list[Delivery]:
        """Newest first."""
        table, events = tables.deliveries, tables.events
        query = (
            select(table, events.c.type, events.c.subject, events.c.customer, events.c.body)
            .join(events, events.c.id == table.c.event)
            .order_by(events.c.at.desc(), table.c.event.desc(), table.c.endpoint)
            .limit(limit)
        )
        if endpoint is not None:
            query = query.where(table.c.endpoint == endpoint)
        with read(self._engine) as connection:
            return [Delivery(**row._mapping) for row in connection.execute(query)]

    def depth(self) -> dict[tuple[str, str], int]:
        """How many deliveries there are, by endpoint and state."""
        table = tables.deliveries
        query = select(table.c.endpoint, table.c.state, func.count().label("many"))
        query = query.group_by(table.c.endpoint, table.c.state)
        with read(self._engine) as connection:
            return {(row.endpoint, row.state): row.many for row in connection.execute(query)}


def _health(row: Row[Any]) -> Health:
    return Health(**{field.name: getattr(row, field.name) for field in fields(Health)})


def _keep(connection: Connection, endpoint: str, health: Health) -> None:
    table = tables.endpoints
    values = {field.name: getattr(health, field.name) for field in fields(Health)}
    mine = update(table).where(table.c.id == endpoint).values(**values)
    if not connection.execute(mine).rowcount:
        connection.execute(insert(table).values(id=endpoint, **values))
