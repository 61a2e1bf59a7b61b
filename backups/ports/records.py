"""What is on record: the catalog and all that is kept beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from backups.declared import Standing
from backups.keeping import Attempt, Chronicle, Deletion, Hold, Record, Release
from backups.model import (
    Backup,
    Copy,
    History,
    Operation,
    Plan,
    Policy,
    Run,
    Scrub,
)
from backups.proving import Evidence


class Leases(Protocol):
    """Who does what, for a while: each taking of a name has a higher epoch than any before.

    Raises CatalogError, and Busy also when the catalog itself is."""

    def acquire(
        self, name: str, holder: str, now: datetime, length: timedelta, *, dead: str = ""
    ) -> int:
        """The new epoch. Raises Busy while another's lease runs, unless that holder's text
        begins with `dead`: the caller knows that whoever is called so does not live."""

    def renew(self, name: str, epoch: int, now: datetime, length: timedelta) -> None:
        """Raises Busy when it was released or taken over meanwhile."""

    def release(self, name: str, epoch: int) -> None:
        """Let go of it, if it is still held."""


class Diary(Protocol):
    """When each chore was last done. Raises CatalogError."""

    def attempts(self) -> dict[str, Attempt]:
        """The last one of every chore that was ever begun."""

    def begin(self, chore: str, at: datetime) -> None:
        """It is under way."""

    def end(self, chore: str, at: datetime, error: str | None) -> None:
        """It is over, well or with what went wrong."""


class Agenda(Protocol):
    """What the schedule reads of the catalog. Raises CatalogError."""

    def revision(self) -> str:
        """Another text whenever policies or standings are others than before."""

    def histories(self, since: datetime, database: str | None = None) -> dict[str, History]:
        """What was taken and what failed from `since` on, of every database that has any."""


class Catalog(Protocol):
    """Queryable index. Never the authority on whether a backup exists.

    Raises CatalogError; NotFound where one thing is asked for and is not there."""

    def save_policies(
        self, policies: Iterable[Policy], standings: Iterable[Standing] = ()
    ) -> list[Policy]:
        """All or nothing: make each its database's newest version if it differs, and record
        how things stand; returns what is in force, in that order."""

    def same_rule(self, known: Policy | None, policy: Policy) -> bool:
        """Whether saving `policy` over `known` would change nothing."""

    def policy(self, database: str, version: int | None = None) -> Policy:
        """The newest version, or a given one."""

    def policies(self) -> list[Policy]:
        """The newest of every database, by customer and database."""

    def start_run(self, run: Run) -> None:
        """Raises Busy when its database's lease was taken anew since the run's epoch."""

    def prepare_run(self, run_id: str, envelope: bytes) -> None:
        """All segments are stored; the manifest is about to be put."""

    def commit_run(self, backup: Backup, ended_at: datetime) -> None:
        """In one transaction: the run is committed and the backup is listed."""

    def end_run(self, run_id: str, state: str, ended_at: datetime, error: str) -> None:
        """The run is over without a backup: failed or interrupted."""

    def unfinished_runs(self, database: str) -> list[Run]:
        """Those in state running or prepared, oldest first."""

    def runs(self, database: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""

    def add_backup(self, backup: Backup) -> bool:
        """List a backup found in a store, as a copy when it is listed from another one;
        False when that was known already."""

    def add_copy(self, copy: Copy) -> bool:
        """List a copy of a listed backup, or what it was healed to; False when that is what
        was listed already."""

    def copies(self, backup_id: str) -> list[Copy]:
        """Those beside the first one, in the order of their stores' URLs."""

    def backup(self, backup_id: str) -> Backup: ...

    def backups(self, database: str | None = None) -> list[Backup]:
        """Newest first."""

    def add_scrub(self, scrub: Scrub) -> None: ...

    def scrubs(self, customer: str | None = None, limit: int = 50) -> list[Scrub]:
        """Newest first."""

    def prove_recipient(self, customer: str, recipient: str, at: datetime) -> None:
        """Its holder has decrypted a canary; the newest proof counts."""

    def proven_recipients(self, customer: str) -> dict[str, datetime]:
        """Recipient to when its holder last proved to hold its identity."""

    def start_operation(
        self, operation: Operation, asked: Mapping[str, str] | None = None
    ) -> None: ...

    def end_operation(
        self, operation_id: str, state: str, ended_at: datetime, error: str | None
    ) -> None: ...

    def operations(self, database: str | None = None, limit: int = 50) -> list[Operation]:
        """Newest first."""

    def close(self) -> None: ...


class Standings(Protocol):
    """How things stand with customers and databases. Raises CatalogError."""

    def standings(self, customer: str | None = None) -> list[Standing]:
        """Of those that ever had one, by customer and database."""


class Reconciliation(Protocol):
    """Whether the catalog knows what lies in the stores: after it was made anew or brought
    back, nothing may be deleted from a store that was not read since. Raises CatalogError."""

    def doubt(self, at: datetime, why: str) -> None:
        """From now on nothing is known of any store, until it was read."""

    def saw_whole(self, store_url: str, at: datetime) -> None:
        """All that lies in a store was listed, and all of it was believed."""

    def unread(self, store_urls: Iterable[str]) -> list[str]:
        """Those not seen whole since the catalog was last doubted; none: reconciled."""


class Audit(Protocol):
    """The chain of records; changes of the catalog add theirs by themselves."""

    def note(
        self,
        action: str,
        customer: str | None,
        subject: str,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Record what changes nothing in the catalog, such as the use of a key."""

    def records(self, after: int = 0) -> Iterator[Record]:
        """Those with a later sequence, in order, as they are stored: not checked."""


class Ledger(Protocol):
    """What is held and what was deleted, and what retention asks of the past.

    Raises CatalogError; NotFound where one thing is asked for and is not there."""

    def add_hold(self, hold: Hold) -> bool:
        """Record a hold of a listed backup; False when it was known. NotFound when the backup
        is not listed."""

    def release_hold(self, release: Release) -> bool:
        """Record that a hold is over; False when it was known."""

    def holds(self, database: str | None = None) -> list[tuple[Hold, Release | None]]:
        """Newest first, those that are over too."""

    def delete_backup(self, deletion: Deletion) -> bool:
        """List the backup no more; False, and nothing is done, when a hold is in force."""

    def finish_deletion(self, backup_id: str, at: datetime) -> None:
        """The last of its objects is gone. May be repeated."""

    def deletions(self, database: str) -> list[Deletion]:
        """Newest first."""

    def stores(self, database: str) -> list[str]:
        """URLs of the stores in which its backups are listed, or being deleted."""

    def plans(self, database: str) -> list[tuple[Plan, datetime | None]]:
        """The plan of every version of its policy, oldest first, with the start of the first
        run under that version."""

    def chronicle(self, since: datetime) -> Chronicle:
        """What all records say of time, around `since`."""


class Archive(Protocol):
    """Evidence of restore tests: added to, never changed. Raises CatalogError; NotFound where
    one thing is asked for and is not there."""

    def add(self, evidence: Evidence) -> None:
        """Keep it, and its digest in the audit chain, in one transaction."""

    def evidence(
        self,
        kinds: Collection[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        customer: str | None = None,
        database: str | None = None,
    ) -> list[Evidence]:
        """Oldest first; of the kinds named (`begun`, `drill`, `self-test`, `examination`,
        `publication`, `opinion`), all when none is; recorded in `[since, until)`."""

    def one(self, evidence_id: str, kind: str) -> Evidence:
        """Raises NotFound."""

    def verified(self, database: str) -> dict[str, datetime]:
        """Backups that passed a restore test and failed none since, with when it ended."""
