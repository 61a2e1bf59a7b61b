"""What a customer is asked for before backups count: a store that is theirs and set up well,
rights for our roles, and a key that really opens what is encrypted to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from backups.errors import ConfigError, NotFound, WrongKey
from backups.ids import uuid7
from backups.model import Backup, Destination, Look, Policy
from backups.ports import ObjectStore, Progress
from backups.proving import Examination
from backups.wiring.app import App
from backups.wiring.stores import access_of, declared_stores, store_of

if TYPE_CHECKING:
    from backups.run.enrol import Judge, Judged
    from providers.access import Access, Role
    from providers.contract import Check, Trial
    from providers.policies import Document
    from providers.urls import StoreUrl


def stores_of(app: App, customer: str, url: str | None = None) -> list[Destination]:
    """A customer's declared stores, or the one at `url`. Raises NotFound."""
    from providers.urls import parse_store_url

    found = [store for _, store in declared_stores(app, customer)]
    if not found:
        raise NotFound(f"there is no customer {customer!r} with a database")
    if url is None:
        return found
    place = parse_store_url(url).place
    named = [one for one in found if url == one.url or place == parse_store_url(one.url).place]
    if not named:
        raise NotFound(f"{place} is not declared as a store of {customer}")
    return named


def refuse_trespass(app: App, declared: Iterable[Policy]) -> None:
    """Raises ConfigError when a declared store is another customer's: named by a policy that
    stays in force, or holding a backup of theirs."""
    from backups.fleet import places
    from providers.urls import parse_store_url

    declared = list(declared)
    databases = {policy.database for policy in declared}
    staying = [one for one in app.catalog.policies() if one.database not in databases]
    listed = {
        (backup.customer, url)
        for backup in app.catalog.backups()
        for url in (
            backup.store_url,
            *(copy.store_url for copy in app.catalog.copies(backup.id)),
        )
    }
    listed |= {(one.customer, store.url) for one in staying for store in one.stores}
    places.refuse_trespass(
        [
            (one.customer, parse_store_url(store.url))
            for one in declared
            for store in one.stores
        ],
        [(customer, parse_store_url(url)) for customer, url in sorted(listed)],
    )


# --- the store ------------------------------------------------------------------------


def examination(
    app: App, customer: str, destination: Destination, progress: Progress
) -> list[Look]:
    """Everything that can be tried on, or seen of, a customer's store; kept as evidence.

    Raises ConfigError."""
    from backups.run import enrol
    from providers.contract import CHECKS, Trial
    from providers.posture import View, looking
    from providers.registry import ADAPTERS
    from providers.retry import Retrying
    from providers.urls import parse_store_url

    url = parse_store_url(destination.url)
    access = _accesses(app, customer, destination)
    root = enrol.scratch(app.entropy)
    shared = not any(one.principal for one in access.values())
    with ExitStack() as stack:
        writer, restorer, pruner = (
            stack.enter_context(store_of(app, customer, destination, role)) for role in access
        )
        store = enrol.ByRole(writer, restorer, pruner)
        bare: dict[str, ObjectStore] = {}
        for role, one in access.items():
            adapter = ADAPTERS[url.scheme](url, one, app.clock)
            stack.enter_context(closing(adapter))
            bare[role] = Retrying(adapter, app.clock, app.entropy)
        view = View(url, access, app.clock, _longest(app, customer, destination))
        posture = stack.enter_context(looking(view))
        checks = {check.name: check for check in CHECKS}
        last = {"closed_twice": checks.pop("closed_twice")}
        judges: dict[str, Judge] = {
            "ownership": _ownership(app, customer, destination, store),
            **posture,
            "writer_rights": partial(
                enrol.writer_rights, bare, store, f"{root}writer/", shared=shared
            ),
            "restorer_rights": partial(
                enrol.restorer_rights, bare, store, f"{root}restorer/", shared=shared
            ),
            "latency": partial(enrol.latency, store, app.clock, root),
            "throughput": partial(enrol.throughput, store, app.clock, root),
            **_conformance(checks, Trial(store, app.clock, f"{root}contract/")),
            "tidy": partial(enrol.tidy, store, app.clock, root),
            **_conformance(last, Trial(store, app.clock, root)),
        }
        looks = list(enrol.examine(partial(enrol.reachable, store), judges, progress))
    now = app.clock.now()
    app.archive.add(
        Examination(
            id=uuid7(now, app.entropy.bytes(10)),
            customer=customer,
            store_url=destination.url,
            at=now,
            looks=tuple(looks),
        )
    )
    return looks


def _accesses(app: App, customer: str, destination: Destination) -> dict[Role, Access]:
    roles: tuple[Role, ...] = ("writer", "restorer", "pruner")
    return {role: access_of(app, customer, destination, role) for role in roles}


def _longest(app: App, customer: str, destination: Destination) -> timedelta:
    policies = (policy for policy in app.catalog.policies() if policy.customer == customer)
    return timedelta(
        days=max(
            policy.plan.retention_days
            for policy in policies
            if destination.url in {store.url for store in policy.stores}
        )
    )


def _ownership(app: App, customer: str, destination: Destination, store: ObjectStore) -> Judge:
    from backups import keys
    from backups.enrolment import ownership_key
    from backups.run.enrol import owned
    from providers.posture.proof import put_command
    from providers.urls import parse_store_url

    url = parse_store_url(destination.url)
    key = ownership_key(keys.load_enrolment_key(app.home, app.entropy), customer, url.place)
    return partial(owned, store, key, put_command(url, key))


def _conformance(checks: Mapping[str, Check], trial: Trial) -> dict[str, Judge]:
    def judge(check: Check) -> Judged:
        check.run(trial)
        return "passed", " ".join((check.run.__doc__ or "").split())

    return {name: partial(judge, check) for name, check in checks.items()}


# --- rights ---------------------------------------------------------------------------


def documents_for(
    app: App, customer: str, operator: str, url: str | None = None
) -> list[tuple[StoreUrl, tuple[Document, ...]]]:
    """What the customer's administrator applies, for each store in the operator's cloud.

    Raises NotFound, and ConfigError when there is none."""
    from providers.policies import policy_documents
    from providers.urls import parse_store_url

    found = []
    for destination in stores_of(app, customer, url):
        place = parse_store_url(destination.url)
        if place.scheme != _cloud_of(operator):
            continue
        access = _accesses(app, customer, destination)
        documents = policy_documents(
            place,
            customer=customer,
            external_id=access["writer"].external_id or "",
            operator_principal=operator,
            principals={role: one.principal for role, one in access.items()},
        )
        found.append((place, documents))
    if not found:
        raise ConfigError(
            f"{customer} has no store in the cloud of {operator[:80]!r}",
            hint="AWS: an account or ARN; Google: serviceAccount:ADDRESS; Azure: "
            "ISSUER#SUBJECT. A folder's rights are those of its file system.",
        )
    return found


def _cloud_of(operator: str) -> str:
    """By what a principal looks like there (`providers.policies`)."""
    if "#" in operator:
        return "az"
    return "s3" if operator.isdecimal() or operator.startswith("arn:") else "gs"


# --- the customer's key ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """Which of a customer's recipients have answered a canary."""

    proven: tuple[str, ...]
    unproven: tuple[str, ...]


def recipients_of(app: App, customer: str) -> list[str]:
    """The customer's own in force, in the order of their policies. Raises NotFound."""
    policies = [policy for policy in app.catalog.policies() if policy.customer == customer]
    if not policies:
        raise NotFound(f"there is no customer {customer!r} with a database")
    return list(dict.fromkeys(one for policy in policies for one in policy.recipients))


def canaries(app: App, customer: str) -> list[tuple[str, bytes]]:
    """For each recipient an age file that it alone opens; each holds another text."""
    from backups import keys
    from backups.enrolment import canary
    from backups.format.age import Recipient
    from backups.format.payload import encrypt

    key = keys.load_enrolment_key(app.home, app.entropy)
    found = []
    for recipient in recipients_of(app, customer):
        text = canary(key, app.entropy.bytes(8).hex(), customer, recipient)
        sealed = encrypt(f"{text}\n".encode(), [Recipient.parse(recipient)], app.entropy)
        found.append((recipient, sealed))
    return found


def answered(app: App, customer: str, answer: str) -> Proof:
    """Record what the text of a canary proves. Raises WrongKey when it is none of ours."""
    from backups import keys
    from backups.enrolment import proves

    key = keys.load_enrolment_key(app.home, app.entropy)
    recipients = recipients_of(app, customer)
    matching = [one for one in recipients if proves(key, answer, customer, one)]
    if not matching:
        raise WrongKey(
            f"this is not the text of a canary for any recipient of {customer}",
            hint="Decrypt with the identity of the recipient that the file was made for, and "
            "give its whole text.",
        )
    for recipient in matching:
        app.catalog.prove_recipient(customer, recipient, app.clock.now())
    known = app.catalog.proven_recipients(customer)
    return Proof(
        tuple(one for one in recipients if one in known),
        tuple(one for one in recipients if one not in known),
    )


def recoverable(app: App, policy: Policy) -> bool:
    """Whether a holder of one of the policy's recipients has proven to decrypt: until then
    nobody knows that the customer can open what we store for them."""
    return (
        not app.catalog.proven_recipients(policy.customer).keys().isdisjoint(policy.recipients)
    )


def recoverable_backups(app: App, backups: Iterable[Backup]) -> dict[str, bool]:
    """The same of each backup, by the recipients that it was really encrypted to."""
    backups = list(backups)
    # A backup has its run's id; one found by a rebuild has no run, and is judged as the
    # policy in force.
    versions = {run.id: run.policy_version for run in app.catalog.runs(limit=1_000_000)}
    judged: dict[tuple[str, int | None], bool] = {}
    found = {}
    for backup in backups:
        rule = (backup.database, versions.get(backup.id))
        if rule not in judged:
            try:
                judged[rule] = recoverable(app, app.catalog.policy(*rule))
            except NotFound:
                judged[rule] = False
        found[backup.id] = judged[rule]
    return found
