"""When a delivery is tried again, and when it is given up. Pure.

Like the schedule that the Standard Webhooks specification gives as an example
("Deliverability and reliability"): exponential, with jitter, over three days.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.notify.model import Answer, Health

FIRST = timedelta(seconds=10)
FACTOR = 4
LONGEST = timedelta(hours=12)
JITTER = 0.25
"""Of the delay, either way."""
GIVE_UP = timedelta(days=3)
ENDPOINT_LONGEST = timedelta(minutes=15)
"""A receiver that fails is spared for so long; then the next delivery tries it."""
DISABLE = timedelta(days=5)
"""Of nothing but failure. ASSUMED."""


def delay(attempts: int, chance: float) -> timedelta:
    """After that many failed attempts; `chance` is in [0, 1)."""
    power = min(attempts - 1, 16)  # far beyond LONGEST; more would overflow
    plain = min(FIRST * int(FACTOR**power), LONGEST)
    return plain * (1 + JITTER * (2 * chance - 1))


def next_attempt(
    since: datetime, attempts: int, now: datetime, chance: float, wait: timedelta | None = None
) -> datetime | None:
    """When to try again; None: never. The last attempt is at the very end of the time."""
    end = since + GIVE_UP
    if now >= end:
        return None
    pause = max(delay(attempts, chance), min(wait or timedelta(), LONGEST))
    return min(now + pause, end)


def after(health: Health, answer: Answer, now: datetime, chance: float) -> Health:
    """How an endpoint is after an attempt."""
    if answer.delivered:
        return Health()
    failures = health.failures + 1
    since = health.failing_since or now
    disabled = health.disabled_at
    if disabled is None and (answer.gone or now - since >= DISABLE):
        disabled = now
    pause = min(delay(failures, chance), ENDPOINT_LONGEST)
    return Health(failures, since, now + pause, disabled, answer.words)
