"""The queue of many machines: adapter of `ports.Queue` on Procrastinate, in the catalog's own
PostgreSQL.

Procrastinate (procrastinate.readthedocs.io) keeps the jobs, their order and locks, and tells
waiting workers by NOTIFY; each job is done in a process of its own, so its task runner is not
used, only its job manager. That is asynchronous: a thread of ours runs its loop.

A job is given up by whom it was taken from as another one: the new one waits behind the old
one's lock until that is struck out, so that a kill between the two steps loses nothing, and a
worker that wakes up late can end no job but its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar, get_args

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector, exceptions
from procrastinate.jobs import Job as Entry
from procrastinate.jobs import Notification, Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager

from backups.errors import CatalogError
from backups.model import Secret
from backups.ports import Job, Lane, Told

logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # whoever asks is told by us
TASK = "backups"
PATIENCE = 10.0
"""Seconds for one call."""
_CREATING = 0x6261636B7571
"""Key of the advisory lock under which the tables are made."""
T = TypeVar("T")


class _NotRegistered(Exception):
    """Its worker was struck out."""


class SharedQueue:
    """Adapter of `ports.Queue`."""

    def __init__(self, conninfo: Secret, lost_after: float) -> None:
        """A worker that said nothing for `lost_after` seconds is lost.

        Raises CatalogError."""
        self._lost_after = lost_after
        self._conninfo = conninfo
        _create(conninfo.reveal())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="queue")
        self._thread.start()
        self._app = App(
            connector=PsycopgConnector(
                conninfo=conninfo.reveal(), min_size=1, max_size=2, timeout=PATIENCE / 2
            )
        )
        try:
            self.call(self._app.connector.open_async())
        except BaseException:
            self.close()
            raise

    @property
    def manager(self) -> JobManager:
        """Procrastinate's own."""
        return self._app.job_manager

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result, from the loop's thread. Raises CatalogError."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(PATIENCE)
        except TimeoutError:
            future.cancel()
            raise CatalogError("the queue gave no answer", hint=_HINT) from None
        except (exceptions.ProcrastinateException, psycopg.Error) as error:
            if isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation):
                raise _NotRegistered("we are no worker any more") from None
            raise CatalogError("the queue is out of reach", hint=_HINT) from None
        except psycopg_pool.PoolTimeout:
            raise CatalogError("the queue is out of reach", hint=_HINT) from None

    def put(self, jobs: Sequence[Job]) -> list[Job]:
        """See the port."""
        open_ = self.open() if jobs else {}
        new = [job for job in jobs if job.name not in open_]
        return [job for job in new if self.call(self._defer(_entry_of(job)))]

    def open(self) -> dict[str, Literal["waiting", "running"]]:
        """See the port."""

        async def both() -> dict[str, Literal["waiting", "running"]]:
            waiting = await self.manager.list_jobs_async(status=Status.TODO.value)
            running = await self.manager.list_jobs_async(status=Status.DOING.value)
            found: dict[str, Literal["waiting", "running"]] = {}
            found.update((entry.queueing_lock or "", "waiting") for entry in waiting)
            found.update((entry.queueing_lock or "", "running") for entry in running)
            return found

        return self.call(both())

    def cancel(self, name: str) -> bool:
        """See the port."""

        async def ask() -> bool:
            asked = False
            for entry in await self.manager.list_jobs_async(queueing_lock=name):
                if entry.id is not None and entry.status in _OPEN:
                    asked |= await self.manager.cancel_job_by_id_async(
                        entry.id, abort=True, delete_job=True
                    )
            return asked

        return self.call(ask())

    def reap(self) -> list[str]:
        """See the port."""

        async def reaped() -> list[str]:
            stalled = await self.manager.get_stalled_jobs(
                seconds_since_heartbeat=self._lost_after
            )
            # That list does not say whose end was asked for.
            whole = [
                entry
                for one in stalled
                for entry in await self.manager.list_jobs_async(id=one.id)
            ]
            back = [await self._put_back(entry) for entry in whole]
            await self.manager.prune_stalled_workers(self._lost_after)
            return back

        return self.call(reaped())

    @contextmanager
    def seat(self) -> Iterator[SharedSeat]:
        """See the port."""
        seat = SharedSeat(self, self.call(self.manager.register_worker()))
        try:
            yield seat
        finally:
            seat.leave()

    def close(self) -> None:
        """See the port."""
        if self._loop.is_closed():
            return
        with suppress(CatalogError):
            self.call(self._app.close_async())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self, told: Callable[[], None]) -> asyncio.Task[None]:
        """Call `told` whenever a job is put, until the task is cancelled."""

        async def heard(*, channel: str, notification: Notification) -> None:
            del channel, notification
            told()

        async def listening() -> None:
            while True:
                with suppress(exceptions.ProcrastinateException, psycopg.Error):
                    await self.manager.listen_for_jobs(
                        on_notification=heard, queues=get_args(Lane)
                    )
                await asyncio.sleep(1)  # its connection broke: anew, and till then the tick

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(listening())

        return self.call(begin())

    async def _defer(self, entry: Entry) -> bool:
        try:
            await self.manager.defer_job_async(entry)
        except exceptions.AlreadyEnqueued:
            return False
        return True

    async def _put_back(self, entry: Entry) -> str:
        """Another one in its stead; see above. One whose end was asked for has come to it."""
        if entry.id is None:
            raise ValueError("a stored job has a number")
        if not entry.abort_requested:
            fresh = entry.evolve(id=None, status=None, worker_id=None, attempts=0)
            await self._defer(fresh)
        with suppress(exceptions.ConnectorException):  # another one was quicker
            await self.manager.finish_job_by_id_async(entry.id, Status.FAILED, delete_job=True)
        return entry.queueing_lock or ""


class SharedSeat:
    """Adapter of `ports.Seat`."""

    def __init__(self, queue: SharedQueue, worker: int) -> None:
        self._queue = queue
        self._worker = worker
        self._taken: dict[str, int] = {}
        self.wakes, self._write = os.pipe()
        os.set_blocking(self.wakes, False)
        os.set_blocking(self._write, False)
        self._listening = queue.listen(self._wake)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it will be heard
            os.write(self._write, b".")

    def heard(self) -> bool:
        """See the port."""
        try:
            return bool(os.read(self.wakes, 4096))
        except BlockingIOError:
            return False

    def take(self, lanes: Collection[Lane]) -> Job | None:
        """See the port."""
        manager = self._queue.manager
        try:
            entry = self._queue.call(manager.fetch_job(list(lanes), self._worker))
        except _NotRegistered:  # given up while it slept
            self._worker = self._queue.call(manager.register_worker())
            entry = self._queue.call(manager.fetch_job(list(lanes), self._worker))
        if entry is None or entry.id is None:
            return None
        job = _job_of(entry)
        self._taken[job.name] = entry.id
        return job

    def beat(self) -> Told:
        """See the port."""
        manager = self._queue.manager

        async def told() -> list[Entry]:
            await manager.update_heartbeat(self._worker)
            return await self._running()

        mine = {entry.id: entry for entry in self._queue.call(told())}
        lost = {name for name, number in self._taken.items() if number not in mine}
        if lost:  # we were given up: what we take from now on is to be ours again
            self._worker = self._queue.call(manager.register_worker())
        for name in lost:
            del self._taken[name]
        asked = {entry.queueing_lock or "" for entry in mine.values() if entry.abort_requested}
        return Told(frozenset(lost), frozenset(asked & self._taken.keys()))

    def done(self, name: str) -> bool:
        """See the port."""
        number = self._taken.get(name)
        if number is None:
            return False
        manager = self._queue.manager

        async def over() -> bool:
            held = await manager.list_jobs_async(id=number, worker_id=self._worker)
            if not held:
                return False
            await manager.finish_job_by_id_async(number, Status.SUCCEEDED, delete_job=True)
            return True

        ours = self._queue.call(over())
        del self._taken[name]
        return ours

    def leave(self) -> None:
        """What we have still is for others to do."""
        queue, manager = self._queue, self._queue.manager

        async def left() -> None:
            self._listening.cancel()
            for entry in await self._running():
                await queue._put_back(entry)
            await manager.unregister_worker(self._worker)

        try:
            with suppress(CatalogError):  # out of reach: they are reaped
                queue.call(left())
        finally:
            os.close(self.wakes)
            os.close(self._write)

    async def _running(self) -> list[Entry]:
        """What the queue knows as ours."""
        manager = self._queue.manager
        return list(
            await manager.list_jobs_async(worker_id=self._worker, status=Status.DOING.value)
        )


_HINT = "It is in the catalog's PostgreSQL: see that this runs. Nothing is lost."
_OPEN = (Status.TODO.value, Status.DOING.value)


def _entry_of(job: Job) -> Entry:
    return Entry(
        queue=job.lane,
        priority=job.priority,
        lock=job.lock or job.name,
        queueing_lock=job.name,
        task_name=TASK,
        task_kwargs={"name": job.name},
    )


def _job_of(entry: Entry) -> Job:
    lanes: dict[str, Lane] = {lane: lane for lane in get_args(Lane)}
    name, lock = entry.queueing_lock or "", entry.lock or ""
    return Job(name, lanes[entry.queue], entry.priority, "" if lock == name else lock)


def _create(conninfo: str) -> None:
    """Make Procrastinate's tables where they are not. Raises CatalogError."""
    try:
        with psycopg.connect(conninfo, connect_timeout=int(PATIENCE)) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATING])
            made = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
            if made == (None,):
                connection.execute(SchemaManager.get_schema())
    except psycopg.Error:
        raise CatalogError("the queue can't be opened", hint=_HINT) from None
