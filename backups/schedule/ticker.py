"""The tick, by the `schedule` package, which ticks and does nothing else here.

It keeps naive local times in memory and catches nothing up: an hour set back would leave it
asleep for that hour. So a wait that is longer than the period is taken for that, and ended.
"""

from __future__ import annotations

from collections.abc import Callable

import schedule

from backups.errors import BackupsError


class Ticker:
    """One job, called again and again."""

    def __init__(
        self, seconds: int, job: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        """What the job raises of our errors, or the system's, is said, and it goes on."""
        self._seconds = seconds
        self._job = job
        self._say = say
        self._scheduler = schedule.Scheduler()
        self._scheduler.every(seconds).seconds.do(self._call)
        self._started = False

    def run(self) -> float:
        """Call the job if it is time to; returns the seconds until it will be."""
        self._scheduler.run_pending()
        if not self._started or self._wait() > self._seconds:
            self._started = True
            self._scheduler.run_all()
        return max(0.0, self._wait())

    def _wait(self) -> float:
        return self._scheduler.idle_seconds or 0.0

    def _call(self) -> None:
        try:
            self._job()
        except (BackupsError, OSError) as error:
            self._say(f"warning: {error}")
