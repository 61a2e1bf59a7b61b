"""The whole fleet's plan in memory: what waits to start, and when each is asked again. Pure.

`due` is asked about a database when its time has come or something was learnt of it, never
about the whole fleet at every tick.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from sys import intern
from urllib.parse import parse_qsl, urlsplit

from backups.errors import ConfigError
from backups.model import History, Policy
from backups.schedule.choose import Item, Limits, choose
from backups.schedule.due import LONGEST_RETRY, due
from backups.schedule.window import ONE_DAY

SOON = timedelta(minutes=1)
"""After which a database that somebody else holds is asked about again."""
_NOTHING = History()


@dataclass(frozen=True, slots=True)
class Declared:
    """What the plan keeps of a policy: hundreds of bytes, and a fleet may have a hundred
    thousand."""

    database: str
    customer: str
    window: str | None
    maintenance: tuple[str, ...]
    paused: bool
    source: str
    bucket: str


def declared(policy: Policy) -> Declared:
    """Who it is, when, and which server and bucket it burdens."""
    source, store = urlsplit(policy.source_url), urlsplit(policy.stores[0].url)
    server = source.netloc.rpartition("@")[2] or dict(parse_qsl(source.query)).get("host", "")
    return Declared(
        database=policy.database,
        customer=intern(policy.customer),
        window=intern(policy.window) if policy.window else None,
        maintenance=tuple(map(intern, policy.maintenance)),
        paused=policy.paused,
        source=intern(server),
        bucket=intern(f"{store.scheme}://{store.netloc or store.path}"),
    )


class Plan:
    """What one scheduler knows. It is told everything, the time included."""

    def __init__(self) -> None:
        self._rules: dict[str, Declared] = {}
        self._histories: dict[str, History] = {}
        self._waiting: dict[str, Item] = {}
        self._running: dict[str, Item] = {}
        self._asked: list[tuple[datetime, str]] = []
        """A heap of when to ask about which; `_next` says which of its entries still count."""
        self._next: dict[str, datetime] = {}
        self._served: dict[str, datetime] = {}

    def declare(self, policies: Iterable[Policy], now: datetime) -> None:
        """The fleet as it is from now on."""
        before = self._rules
        self._rules = {rule.database: rule for rule in map(declared, policies)}
        for database in before.keys() - self._rules.keys():
            self._waiting.pop(database, None)
            self._next.pop(database, None)
        for database, rule in self._rules.items():
            if before.get(database) != rule:
                self._ask(database, now)

    def learn(self, histories: Mapping[str, History], now: datetime) -> None:
        """All that the catalog knows of the last two days, whoever did it."""
        before, self._histories = self._histories, dict(histories)
        for database in before.keys() | histories.keys():
            if before.get(database) != histories.get(database):
                self._ask(database, now)

    def start(self, limits: Limits, now: datetime) -> list[Item]:
        """What starts now; it counts as running until `ended`."""
        while self._asked and self._asked[0][0] <= now:
            at, database = heapq.heappop(self._asked)
            if self._next.get(database) == at:
                self._ask(database, now)
        if not self._waiting:
            return []
        chosen = choose(
            self._waiting.values(), self._running.values(), limits, self._served, now
        )
        for item in chosen:
            del self._waiting[item.database]
            self._running[item.database] = item
            self._served[item.customer] = now
        return chosen

    def ended(
        self,
        database: str,
        now: datetime,
        *,
        taken: datetime | None = None,
        failed: datetime | None = None,
        again: datetime | None = None,
    ) -> None:
        """An attempt is over: with a backup, as a failure, or neither, since somebody else
        holds it or was quicker: then it is asked about `again`, or soon."""
        self._running.pop(database, None)
        history = self._histories.get(database, _NOTHING)
        if taken:
            history = replace(history, taken=(*history.taken, taken))
        if failed:
            history = replace(history, failed=(*history.failed, failed))
        self._histories[database] = history
        if taken or failed:
            self._ask(database, now)
        elif database in self._rules:
            self._ask_at(database, max(again or now, now + SOON))

    def ask_all(self, now: datetime) -> None:
        """Forget what was planned, and plan anew."""
        self._next.clear()
        self._asked.clear()
        for database in self._rules:
            self._ask(database, now)

    def next(self) -> datetime | None:
        """When something may become due; None when nothing is planned."""
        while self._asked and self._next.get(self._asked[0][1]) != self._asked[0][0]:
            heapq.heappop(self._asked)
        return self._asked[0][0] if self._asked else None

    @property
    def running(self) -> list[str]:
        """Those that were started and have not ended."""
        return list(self._running)

    def ended_elsewhere(self, database: str, now: datetime, history: History) -> None:
        """An attempt is over that another process made: this is what the catalog knows."""
        changed = self._histories.get(database, _NOTHING) != history
        self._histories[database] = history
        self._running.pop(database, None)
        if changed:
            self._ask(database, now)
        elif database in self._rules:
            self._ask_at(database, now + SOON)

    @property
    def waiting(self) -> int:
        """How many are due and have not started."""
        return len(self._waiting)

    def _ask(self, database: str, now: datetime) -> None:
        rule = self._rules.get(database)
        if rule is None or database in self._running:
            return
        history = self._histories.get(database, _NOTHING)
        try:
            answer = due(rule, history, now)
            start, slot, ends, again = answer.start, answer.slot, answer.ends, answer.next
        except ConfigError:
            # Such as a zone that this machine doesn't know. Its attempt fails, on record; the
            # rest of the fleet doesn't wait for it to be mended.
            tried = max((at for at in history.failed if at <= now), default=None)
            start = tried is None or now - tried >= LONGEST_RETRY
            slot, ends, again = now, now + ONE_DAY, now + LONGEST_RETRY
        if start:
            self._waiting[database] = Item(
                database, rule.customer, rule.source, rule.bucket, slot, ends
            )
        else:
            self._waiting.pop(database, None)
        if again is not None:
            self._ask_at(database, again)
        else:
            self._next.pop(database, None)

    def _ask_at(self, database: str, at: datetime) -> None:
        if self._next.get(database) != at:
            self._next[database] = at
            heapq.heappush(self._asked, (at, database))
