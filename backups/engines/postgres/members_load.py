"""The artifact `members` into a copy: what an archive leaves to extensions.

psql runs it as it does in a recovery by hand, from a pipe: no row of it lies on a disk.
"""

from __future__ import annotations

from backups.engines.postgres.pins import LOADING
from backups.engines.postgres.process import running
from backups.engines.postgres.record import BESIDE
from backups.engines.postgres.structure import Job
from backups.engines.postgres.tool_errors import failure
from backups.errors import EnvironmentLacks, RestoreFailed
from backups.model import Fingerprint, Unrestored
from backups.ports import Blocks

_PSQL = (
    "-X",
    "-q",
    "--set=ON_ERROR_STOP=1",
    "--single-transaction",
    "-o",
    "/dev/null",
    "-f",
    "-",
)


def carried(expected: Fingerprint) -> bool:
    """Whether the backup has that artifact."""
    return any(BESIDE in each for each in expected.not_compared)


def load(job: Job, blocks: Blocks) -> tuple[Unrestored, ...]:
    """Run it, all or nothing; gives what could not be made. Raises Unreachable, and what
    reading the blocks raises."""
    argv = [job.tools.path("psql"), *_PSQL]
    with running(argv, job.copy, pins=LOADING, takes=True) as child:
        taking = True
        for block in blocks:  # to the end, so that all of it is authenticated
            taking = taking and child.give(block)
        child.end_of_input()
        code = child.wait()
        if code == 0:
            return ()
        error = failure(child, code, job.copy)
    if not isinstance(error, RestoreFailed | EnvironmentLacks):
        raise error
    what = "what was added to extensions by hand (artifact `members`)"
    return (Unrestored(what, str(error), at_source=False),)
