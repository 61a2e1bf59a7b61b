"""Looking for what is not as promised, and telling it. No identity is read here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from backups.declared import Standing
from backups.errors import BackupsError, ConfigError
from backups.notify.model import Answer, Delivery, Endpoint, Event
from backups.settings import load_settings
from backups.wiring.app import App

if TYPE_CHECKING:
    from datetime import datetime

    from backups.notify.metrics import Measured
    from backups.notify.watch import Expected, Looked, WatchPorts
    from providers.network import Network


def watch_ports(app: App) -> WatchPorts:
    """What a look needs: the settings say whom is told."""
    from backups.notify.senders import send
    from backups.notify.watch import WatchPorts

    network = _network(app)

    def one(endpoint: Endpoint, delivery: Delivery, now: datetime) -> Answer:
        return send(endpoint, delivery, now, network)

    return WatchPorts(
        notices=app.notices,
        proofs=app.proofs,
        diary=app.diary,
        clock=app.clock,
        entropy=app.entropy,
        endpoints=endpoints(app),
        send=one,
        place=_place,
    )


def watch(app: App) -> Looked:
    """Look once, tell, and call the dead-man's URL: a look that fails calls nobody, so that
    its silence is noticed. Raises CatalogError, Busy; BackupsError when that call failed."""
    from backups.notify.senders import ping
    from backups.notify.watch import watch

    done = watch(watch_ports(app), expected(app))
    reference = load_settings(app.home).notify.dead_man
    if reference is not None:
        answer = ping(reference, trouble=done.trouble)
        if not answer.delivered:
            raise BackupsError(
                f"the dead-man's URL did not take the call: {answer.words}",
                hint="Whoever watches it will believe that this program is dead.",
            )
    return done


def expected(app: App) -> Sequence[Expected]:
    """Every declared database, and whether its state and policy expect backups and tests."""
    from backups.fleet.states import state_of
    from backups.notify.watch import Expected
    from backups.wiring.working import fleet

    whose: dict[str, list[Standing]] = defaultdict(list)
    for standing in app.standings.standings():
        whose[standing.customer].append(standing)
    return [
        Expected(
            policy,
            backed_up=not policy.paused,
            tested=state_of(whose[policy.customer], policy.customer, policy.database).test,
        )
        for policy in fleet(app)
    ]


def endpoints(app: App) -> Sequence[Endpoint]:
    """Everybody who is told."""
    return load_settings(app.home).notify.endpoints()


def test_endpoint(app: App, name: str) -> Answer:
    """Send one event of type `notify.test`, now, whatever it subscribes to. Raises
    ConfigError when there is no such endpoint."""
    from backups.ids import uuid7
    from backups.notify.events import body
    from backups.notify.senders import send

    found = [endpoint for endpoint in endpoints(app) if endpoint.id == name]
    if not found:
        raise ConfigError(
            f"no endpoint is called {name[:80]!r}",
            hint="`notify:` in settings.yaml names them; `backups notify list` shows them.",
        )
    now = app.clock.now()
    event = Event(uuid7(now, app.entropy.bytes(10)), "notify.test", "", name, now, {})
    delivery = Delivery(
        event.id, name, event.type, name, "", body(event), "pending", 0, since=now, due_at=now
    )
    return send(found[0], delivery, now, _network(app))


def _place(url: str) -> Hashable:
    from providers.urls import parse_store_url

    parsed = parse_store_url(url)
    return parsed.root, parsed.folders


def _network(app: App) -> Network:
    from providers.network import Network

    settings = load_settings(app.home)
    return Network(settings.hosted, tuple(settings.hosted_allow))


def measured(app: App) -> Measured:
    """What Prometheus may know, in a handful of queries."""
    from datetime import timedelta

    from backups.notify.metrics import Database, Measured

    since = app.clock.now() - timedelta(days=40)
    recent, runs = app.notices.recent(since), app.notices.runs(since)
    newest = app.notices.newest()
    databases = []
    for each in expected(app):
        policy = each.policy
        shown = recent.get(policy.database)
        ended = runs.get(policy.database)
        databases.append(
            Database(
                customer=policy.customer,
                database=policy.database,
                expected=each.backed_up,
                newest=newest.get(policy.database),
                rpo_seconds=policy.plan.rpo_hours * 3600,
                bytes=shown[0][0].plain_bytes if shown else 0,
                stored_bytes=shown[0][0].stored_bytes if shown else 0,
                last_run=ended[0][0] if ended else "never",
            )
        )
    return Measured(
        databases=databases,
        alarms=app.notices.alarms(),
        incidents=app.notices.incidents(closed=False),
        outbox=app.notices.depth(),
        chores={
            name: (attempt.began_at, attempt.ended_at is not None and attempt.error is None)
            for name, attempt in app.diary.attempts().items()
        },
    )
