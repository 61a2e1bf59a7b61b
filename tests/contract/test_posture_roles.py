"""What is found at enrolment where rights are enforced: with the printed policies each role
does its own work and the pruner sees how the bucket is set up; with others' it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from urllib.parse import quote

import pytest
from test_s3_roles import EXTERNAL, PREFIX, ROLES, Account, account  # noqa: F401 - a fixture

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.model import Outcome
from backups.ports import ObjectStore
from backups.run import enrol
from providers.access import Access, Role
from providers.contract import CHECKS, Trial
from providers.posture import View, looking, unfinished_uploads
from providers.registry import ADAPTERS, open_store
from providers.urls import parse_store_url

pytestmark = pytest.mark.s3
CLOCK = SystemClock()
ENTROPY = SystemEntropy()


@pytest.fixture(scope="module")
def view(account: Account) -> View:  # noqa: F811
    endpoint = quote(account.endpoint, safe="")
    where = f"region=us-east-1&profile=operator&lock=governance&endpoint={endpoint}"
    access = {role: Access(role, "acme", account.roles[role], EXTERNAL) for role in ROLES}
    url = parse_store_url(f"s3://{account.bucket}/{PREFIX}?{where}")
    return View(url, access, CLOCK, timedelta(days=30))


@pytest.fixture(scope="module")
def bare(view: View) -> Iterator[dict[str, ObjectStore]]:
    """Each role's own credentials, with no rule of ours before the endpoint's."""
    with ExitStack() as stack:
        stores: dict[str, ObjectStore] = {}
        for role, access in view.access.items():
            store = ADAPTERS["s3"](view.url, access, CLOCK)
            stores[role] = stack.enter_context(closing(store))
        yield stores


@pytest.fixture(scope="module")
def together(view: View) -> Iterator[enrol.ByRole]:
    writer, restorer, pruner = (
        open_store(view.url, clock=CLOCK, entropy=ENTROPY, access=view.access[role])
        for role in ROLES
    )
    with closing(enrol.ByRole(writer, restorer, pruner)) as store:
        yield store


def test_three_roles_are_one_store_together(together: enrol.ByRole) -> None:
    """All but the last, after which the store is closed, and what moto does not enforce."""
    root = enrol.scratch(ENTROPY)
    for check in CHECKS[:-1]:
        # moto takes bytes that differ from their digest, and refuses what is locked without
        # saying why.
        if check.name in ("digest_enforced", "retention"):
            continue
        check.run(Trial(together, CLOCK, root, many=3, sizes=(0, 70_000)))
    assert enrol.tidy(together, CLOCK, root)[0] == "passed"
    assert list(together.list(root)) == []


def test_the_printed_rights_are_no_more_than_each_role_needs(
    bare: dict[str, ObjectStore], together: enrol.ByRole
) -> None:
    root = enrol.scratch(ENTROPY)
    for rights in (enrol.writer_rights, enrol.restorer_rights):
        assert rights(bare, together, root, shared=False)[0] == "passed"
    assert list(together.list(root)) == []


def test_a_writer_and_a_restorer_with_the_pruners_rights_are_found_out(
    bare: dict[str, ObjectStore], together: enrol.ByRole, view: View
) -> None:
    root = enrol.scratch(ENTROPY)
    # The pruner of this account, which is let through to all three kinds of work on marks.
    stores = dict.fromkeys(ROLES, bare["pruner"])
    outcome, words = enrol.restorer_rights(stores, together, root, shared=False)
    assert (outcome, "lets the restorer delete" in words) == ("failed", True)
    outcome, words = enrol.restorer_rights(stores, together, root, shared=True)
    assert (outcome, "one credential" in words) == ("warning", True)
    assert list(together.list(root)) == []


def outcomes(view: View, as_role: Role) -> dict[str, tuple[Outcome, str]]:
    access = {**view.access, "pruner": view.access[as_role]}
    with looking(View(view.url, access, CLOCK, view.keep)) as looks:
        names = [name for name in looks if name not in ("external_id", "credentials")]
        return {name: looks[name]() for name in names}


def test_the_printed_rights_suffice_to_look(view: View) -> None:
    found = outcomes(view, "pruner")
    assert {name for name, (outcome, _) in found.items() if outcome == "unproven"} == set()
    assert found["lock"][0] == found["versioning"][0] == found["uploads"][0] == "passed"
    assert unfinished_uploads(view.url, view.access["pruner"], CLOCK) == []


def test_another_role_may_not_look_and_says_so(view: View) -> None:
    found = outcomes(view, "writer")
    refused = {name for name, (outcome, _) in found.items() if outcome == "unproven"}
    assert refused == found.keys() - {"clock", "owner"}
    assert all("grant s3:" in found[name][1] for name in refused)


def test_a_wrong_external_id_is_refused_and_a_missing_one_is_this_endpoints_gap(
    view: View,
) -> None:
    with looking(view) as looks:
        outcome, words = looks["external_id"]()
    # moto weighs no condition on what is not there; Amazon does.
    assert outcome == "failed"
    assert words.count("shows none") == 3
    assert "a wrong external id" not in words
