"""Asking another worker for what this one has not the role for."""

from __future__ import annotations

from contextlib import closing

from backups.errors import BackupsError
from backups.model import Backup, Policy
from backups.ports import Progress
from backups.schedule.jobs import NOW, job_of
from backups.wiring.app import App
from backups.wiring.serving import queue_of

LOOK = 0.5
"""Seconds between two looks."""


def backup_by_another(app: App, policy: Policy, progress: Progress) -> Backup:
    """A backup taken from now on by a worker that may, put before all scheduled ones.

    Raises BackupsError when its run failed; waits for as long as nobody takes it up.
    """
    name = NOW + policy.database
    began = app.clock.now()
    with closing(queue_of(app)) as queue:
        queue.put([job_of(name)])
        while True:
            # In this order: what is over before the look at the queue is seen after it.
            open_ = name in queue.open()
            runs = [
                run for run in app.catalog.runs(policy.database, 5) if run.started_at >= began
            ]
            for run in runs:
                if run.state == "committed":
                    return app.catalog.backup(run.id)
            if not open_:
                words = next((run.error for run in runs if run.error), "nobody took it")
                raise BackupsError(f"the safety backup failed: {words}")
            progress("waiting for the safety backup", 0, None)
            app.clock.sleep(LOOK)
