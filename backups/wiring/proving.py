"""Restore tests, put together: the restore role, the real keys, a scratch place, evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backups.declared import Policy
from backups.errors import BackupsError, Busy
from backups.ids import uuid7
from backups.model import Backup, Copy, Source
from backups.ports import Progress
from backups.proving import Begun, Drill, Pick, Place, SelfTest
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.giving import restore_identities
from backups.wiring.holding import leased
from backups.wiring.stores import place_of, places
from backups.wiring.taking import source_of

if TYPE_CHECKING:
    from verify.drill import DrillPorts, Subject
    from verify.due import Wanted
    from verify.ports import Scratch

MEMORY = timedelta(days=62)
"""How far back evidence is looked at to tell what is due: two months."""


@dataclass(frozen=True, slots=True)
class Due:
    """A restore test that is to be made."""

    customer: str
    database: str
    wanted: Wanted


def due_drills(app: App) -> list[Due]:
    """Of every database that is to be tested, by when they are due; those without a backup
    are not among them: the report names them. Where the plan's budget is spent, the newest
    backup alone is tested."""
    from backups.fleet.states import STATES, standing_of
    from verify.due import Done, wanted

    now = app.clock.now()
    evidence = app.archive.evidence(["begun", "drill"], since=now - MEMORY)
    ended = {each.id for each in evidence if isinstance(each, Drill)}
    done: dict[str, list[Done]] = {}
    spent: Counter[str] = Counter()
    for each in evidence:
        if isinstance(each, Drill):
            spent[each.customer] += each.read_bytes if each.began_at >= month_of(now) else 0
        if isinstance(each, Drill) and each.kind == "drill":
            found = Done(each.pick.rule, each.verdict, each.ended_at)
            done.setdefault(each.database, []).append(found)
        elif isinstance(each, Begun) and each.id not in ended:  # its process died
            found = Done(each.pick.rule, "INCONCLUSIVE", each.at)
            done.setdefault(each.database, []).append(found)
    standings = app.standings.standings()
    kept = Counter(backup.database for backup in app.catalog.backups())
    list_ = []
    for policy in app.catalog.policies():
        state = standing_of(standings, policy.customer, policy.database)
        if (state is not None and not STATES[state.state].test) or not kept[policy.database]:
            continue
        plan = policy.plan
        budget = plan.restore_test_gb
        left = budget is None or spent[policy.customer] < budget * 10**9
        every = plan.restore_test or "monthly"
        for one in wanted(policy.database, every, done.get(policy.database, ()), now):
            if one.rule == "newest" or (kept[policy.database] > 1 and left):
                list_.append(Due(policy.customer, policy.database, one))
    return sorted(list_, key=lambda due: (due.wanted.at, due.database, due.wanted.rule))


def drill_due(app: App, due: Due, progress: Progress) -> Drill:
    """Make one that is due. Raises as `drill_one` does."""
    from verify.sampling import pick

    listed = [backup.id for backup in app.catalog.backups(due.database)]
    choice, backup = pick(due.wanted.rule, due.database, app.clock.now().date(), listed)
    return drill_one(app, app.catalog.backup(backup), choice, progress)


def drill_one(
    app: App,
    entry: Backup,
    choice: Pick,
    progress: Progress,
    show: Callable[[str], None] = lambda _text: None,
) -> Drill:
    """Test one backup: what is found is evidence, whatever it is. `show` is given the texts of
    definitions that differ, for a person's eyes.

    Raises Busy while another test of its database is under way, ConfigError, CatalogError.
    """
    from verify.drill import drill

    policy = app.catalog.policy(entry.database)
    with (
        testing(app, entry.database),
        drill_ports(app, entry) as (ports, place),
    ):
        subject = subject_of(app, entry, policy, choice, place)
        app.archive.add(subject.begun(app.clock.now()))
        found = drill(ports, subject, progress, show=show)
        app.archive.add(found)
    return found


def testing(app: App, database: str) -> AbstractContextManager[int]:
    """One restore test of a database at a time. Raises Busy."""
    return leased(app, f"drill/{database}", f"{database}.drill", "a restore test")


@contextmanager
def drill_ports(app: App, entry: Backup) -> Iterator[tuple[DrillPorts, Copy]]:
    """What testing a backup needs; its nearest store is read, as the restorer."""
    from backups import keys
    from backups.engines.registry import open_engine
    from providers.observe import Observed
    from verify.drill import DrillPorts
    from verify.examine.registry import open_examiner
    from verify.meter import Meter

    place, meter = places(app, entry)[0], Meter()
    with place_of(app, entry, place) as store:
        ports = DrillPorts(
            clock=app.clock,
            engine=open_engine(entry.engine, app.clock, app.entropy),
            examiner=open_examiner(entry.engine, app.clock),
            scratch=scratch_of(app),
            store=Observed(store, app.clock, meter),
            meter=meter,
            identities=restore_identities(app, entry),
            verify_keys=keys.load_verify_keys(app.home),
        )
        yield ports, place


def subject_of(app: App, entry: Backup, policy: Policy, choice: Pick, place: Copy) -> Subject:
    """What the catalog knows of a backup that is to be tested."""
    from verify.drill import Subject
    from verify.ports import Questions

    settings = load_settings(app.home)
    listed = app.catalog.backups(entry.database)
    earlier = [each.created_at for each in listed if each.created_at < entry.created_at]
    return Subject(
        id=uuid7(app.clock.now(), app.entropy.bytes(10)),
        entry=entry,
        store_url=place.store_url,
        manifest_sha256=place.manifest_sha256,
        policy=policy,
        pick=choice,
        questions=Questions(policy.assertions, policy.application_role),
        before=max(earlier, default=None),
        newest=max((each.created_at for each in listed), default=entry.created_at),
        listed=frozenset(each.manifest_sha256 for each in listed),
        limit=timedelta(minutes=settings.scratch.ttl_minutes),
        region=settings.scratch.region,
        jobs=settings.restore_jobs,
        self_test=_this_month(app, "self-test"),
        cold_start=_this_month(app, "drill"),
    )


def _this_month(app: App, kind: str) -> bool | None:
    """How this month's self-test, or cold start, did; None: not tried yet."""
    found = None
    for each in app.archive.evidence([kind], since=month_of(app.clock.now())):
        if isinstance(each, SelfTest):
            found = not each.error and all(trial.caught for trial in each.trials)
        elif isinstance(each, Drill) and each.kind == "cold start":
            found = each.verdict == "PASSED"
    return found


def month_of(now: datetime) -> datetime:
    """The first instant of its month."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def verdicts(app: App, listed: Iterable[Backup]) -> dict[str, str]:
    """The verdict of the last restore test of each that had one."""
    wanted = {entry.id for entry in listed}
    return {
        each.backup: each.verdict
        for each in app.archive.evidence(["drill"])
        if isinstance(each, Drill) and each.backup in wanted
    }


def tested_this_month(app: App) -> set[str]:
    """Databases of which a backup passed a restore test in this calendar month, in UTC."""
    return {
        each.database
        for each in app.archive.evidence(["drill"], since=month_of(app.clock.now()))
        if isinstance(each, Drill) and each.verdict == "PASSED"
    }


# --- scratch --------------------------------------------------------------------------


def scratch_of(app: App) -> Scratch:
    """The scratch places that the settings ask for. Raises ConfigError, ToolError."""
    from backups.fleet import resolve_password
    from verify.scratch.registry import open_scratch

    def sources() -> Sequence[Source]:
        found = []
        for policy in app.catalog.policies():
            if policy.engine != "postgresql":  # no other server is ever configured as scratch
                continue
            try:
                found.append(source_of(policy))
            except BackupsError:  # its password can't be had: its address still counts
                found.append(Source(policy.source_url))
        return found

    settings = load_settings(app.home)
    return open_scratch(settings.scratch, app.clock, sources, resolve_password)


def sweep(app: App) -> list[Place]:
    """Destroy what restore tests left behind that died; on record."""
    found = scratch_of(app).sweep(app.clock.now())
    for place in found:
        gone = place.destroyed_at is not None
        app.audit.note("scratch.swept", None, place.id, {"gone": gone, "kind": place.kind})
    return found


def drill_all_due(app: App, until: datetime, progress: Progress) -> str:
    """One after the other until that instant; in words, how many came to each verdict.

    Raises BackupsError when one could not be begun, after all the others."""
    did: Counter[str] = Counter()
    failed: list[str] = []
    listed_at = app.clock.now()
    for due in due_drills(app):
        now = app.clock.now()
        if due.wanted.at > now or now >= until:
            break
        if app.archive.evidence(["begun"], since=listed_at, database=due.database):
            continue  # another worker was quicker
        progress(f"restore test of {due.database}", 0, None)
        try:
            did[drill_due(app, due, progress).verdict] += 1
        except Busy:
            did["left alone, busy"] += 1
        except BackupsError as error:  # one that can't be begun keeps no other from its test
            failed.append(f"{due.database}: {error}")
    told = ", ".join(f"{count} {what}" for what, count in sorted(did.items())) or "none is due"
    if failed:
        raise BackupsError(f"not begun: {'; '.join(failed)}; {told}")
    return told
