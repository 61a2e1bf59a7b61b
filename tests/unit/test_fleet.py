"""The fleet file: what it means, and every problem with its line."""

import copy
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from backups.declared import Assertion
from backups.entropy import SystemEntropy
from backups.errors import ConfigError
from backups.fleet import Fleet, fleet_schema, load_fleet, policies, resolve_password
from backups.fleet import document as documents
from backups.format.age import Identity
from backups.model import Destination, Plan, Policy

KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

EXAMPLE = f"""\
plans:
  pro: {{retention_days: 30, restore_test: monthly, rpo_hours: 26, rto_minutes: 240}}
  max: {{retention_days: 91, restore_test: monthly, rto_minutes: 60, second_approver: true}}
customers:
  - id: acme
    plan: max
    stores:
      - url: s3://acme-backups/bloomneo?region=eu-central-1
    recipients: [{KEY}]
    databases:
      - id: acme-main
        engine: postgresql
        url: postgresql://backup@db.acme.internal/main
        password: file:/run/secrets/acme-main
        window: 01:00-05:00 Europe/Berlin
        assertions:
          - {{name: fresh orders, sql: "select max(created_at) > now() from orders"}}
"""

CUSTOMER: dict[str, Any] = {
    "id": "acme",
    "plan": "pro",
    "stores": [{"url": "s3://acme-backups/bloomneo"}],
    "recipients": [KEY],
    "databases": [{"id": "acme-main", "engine": "postgresql", "url": "postgresql://db/main"}],
}


def load(tmp_path: Path, text: str) -> Fleet:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return load_fleet(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    """Each problem, less the path of its file."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "hunter2" not in str(caught.value)
    _, *lines = str(caught.value).splitlines()
    return [line.replace(f"  {tmp_path}/", "") for line in lines]


def customer(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(CUSTOMER) | changes


def database(**changes: Any) -> dict[str, Any]:
    changed = CUSTOMER["databases"][0] | changes
    return customer(databases=[{k: v for k, v in changed.items() if v is not None}])


def dumped(*customers: dict[str, Any], **more: Any) -> str:
    return yaml.safe_dump({"customers": list(customers), **more})


def test_the_example_becomes_policies(tmp_path: Path) -> None:
    assert policies(load(tmp_path, EXAMPLE)) == [
        Policy(
            customer="acme",
            database="acme-main",
            version=0,
            plan=Plan("max", 91, restore_test="monthly", rto_minutes=60, second_approver=True),
            engine="postgresql",
            source_url="postgresql://backup@db.acme.internal/main",
            password_ref="file:/run/secrets/acme-main",
            stores=(Destination("s3://acme-backups/bloomneo?region=eu-central-1"),),
            recipients=(KEY,),
            window="01:00-05:00 Europe/Berlin",
            assertions=(
                Assertion("fresh orders", "select max(created_at) > now() from orders"),
            ),
        )
    ]


def test_plans_have_assumed_defaults(tmp_path: Path) -> None:
    for name, days in (("pro", 30), ("max", 90)):
        (policy,) = policies(load(tmp_path, dumped(customer(plan=name))))
        assert policy.plan == Plan(name, days)
    own = dumped(customer(plan="own"), plans={"own": {"retention_days": 7}})
    assert policies(load(tmp_path, own))[0].plan == Plan("own", 7)


ROLE = "arn:aws:iam::123456789012:role/backups"
ACCOUNT = "writer@acme.iam.gserviceaccount.com"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ({"url": "s3://acme"}, Destination("s3://acme")),
        ({"url": "s3://acme", "role_arn": ROLE}, Destination("s3://acme", ROLE, ROLE, ROLE)),
        (
            {
                "url": "gs://acme",
                "principals": {"writer": ACCOUNT, "restorer": ACCOUNT, "pruner": ACCOUNT},
                "key": "file:/run/secrets/acme.json",
            },
            Destination("gs://acme", ACCOUNT, ACCOUNT, ACCOUNT, "file:/run/secrets/acme.json"),
        ),
        (
            {
                "url": "az://acme/backups",
                "principals": {"writer": CLIENT, "restorer": CLIENT, "pruner": CLIENT},
            },
            Destination("az://acme/backups", CLIENT, CLIENT, CLIENT),
        ),
    ],
)
def test_a_store_says_whom_each_role_becomes(
    store: dict[str, Any], expected: Destination, tmp_path: Path
) -> None:
    (policy,) = policies(load(tmp_path, dumped(customer(stores=[store]))))
    assert policy.stores == (expected,)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"url": "s3://acme", "role_arn": ACCOUNT}, "a role's ARN"),
        ({"url": "gs://acme", "role_arn": ROLE}, "role_arn is for S3"),
        (
            {
                "url": "gs://acme",
                "principals": {"writer": ROLE, "restorer": ACCOUNT, "pruner": ACCOUNT},
            },
            "a service account",
        ),
        (
            {
                "url": "file:///srv",
                "principals": {"writer": ROLE, "restorer": ROLE, "pruner": ROLE},
            },
            "knows no principals",
        ),
        ({"url": "s3://acme", "key": "env:KEY"}, "profile=NAME"),
        ({"url": "az://acme/backups", "key": "hunter2"}, "must be a reference"),
    ],
)
def test_a_principal_must_fit_its_store(
    store: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, dumped(customer(stores=[store])))
    assert words in problem
    assert "hunter2" not in problem


def test_copies_have_places_of_their_own(tmp_path: Path) -> None:
    two = [{"url": "s3://acme/a"}, {"url": "gs://acme/a"}]
    (policy,) = policies(load(tmp_path, dumped(customer(stores=two))))
    assert [store.url for store in policy.stores] == ["s3://acme/a", "gs://acme/a"]
    (problem,) = problems(
        tmp_path, dumped(customer(stores=[two[0], {"url": "s3://acme/a/?region=x"}]))
    )
    assert "listed twice" in problem


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    text = f"""\
plans:
  own: {{retension_days: 3}}
  basic: {{retention_days: 1}}
customers:
  - id: 5
    plan: mx
    stores:
      - url: s3://shared/a/b
      - url: s3://shared/c
    recipients: [AGE-SECRET-KEY-1HUNTER2, {KEY}x]
    databases:
      - id: main
        engine: oracle
        url: postgresql://u:hunter2@h/db
        password: hunter2
        windw: x
        window: 2-3
  - id: no
    plan: basic
    plan: pro
    stores: [{{url: s3://shared/a}}]
  - 5
"""
    assert problems(tmp_path, text) == [
        "fleet.yaml:2: plans.own.retension_days: there is no such key; "
        "did you mean 'retention_days'?",
        "fleet.yaml:2: plans.own.retention_days: this key is missing",
        "fleet.yaml:3: plans.basic: the plan 'basic' has no backups",
        "fleet.yaml:5: customers[0].id: must be text; put it in quotes",
        "fleet.yaml:6: customers[0].plan: there is no such plan; did you mean 'max'?",
        "fleet.yaml:8: customers[0].stores[0].url: this place is inside another customer's, "
        f"at {tmp_path}/fleet.yaml:21",
        "fleet.yaml:10: customers[0].recipients[0]: this is a secret identity: its public key, "
        "age1..., belongs here",
        "fleet.yaml:10: customers[0].recipients[1]: this is not an age public key: age1...",
        "fleet.yaml:13: customers[0].databases[0].engine: must be 'postgresql', 'mariadb', "
        "'mysql' or 'sqlite'",
        "fleet.yaml:14: customers[0].databases[0].url: a password must not stand in the URL: "
        "give `password: file:PATH`",
        "fleet.yaml:15: customers[0].databases[0].password: must be a reference, env:NAME, "
        "file:/PATH or aws-sm:SECRET-ID[#JSON-KEY], never the password",
        "fleet.yaml:16: customers[0].databases[0].windw: there is no such key; "
        "did you mean 'window'?",
        "fleet.yaml:17: customers[0].databases[0].window: must be like "
        "'01:00-05:00 Europe/Berlin'",
        "fleet.yaml:18: customers[1].id: must be text; put it in quotes",
        "fleet.yaml:18: customers[1].recipients: this key is missing",
        "fleet.yaml:19: customers[1].plan: the plan 'basic' has no backups: choose another, "
        "or leave them out",
        "fleet.yaml:20: customers[1].plan: this key stands on line 19 already",
        "fleet.yaml:22: customers[2]: must have keys",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/db",
        "postgresql://u:@h/db",
        "postgresql://u@h/db?password=hunter2",
        "postgresql://u@h/db?sslpassword=hunter2",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u@h/db#hunter2",
        "postgresql://u@h/d\nb",
        "postgresql://u@h/d b",
        "postgresql://u@h/",
        "postgresql://u@[h/db",
        "oracle://u@h/db",
        "host=h dbname=db password=hunter2",
        "dbname=x host=evil",
        "",
    ],
)
def test_source_urls_that_are_refused(tmp_path: Path, url: str) -> None:
    (problem,) = problems(tmp_path, dumped(database(url=url)))
    assert "databases[0].url: " in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db?host=/run/postgresql&port=5433",
        "postgres://u@a:5432,b:5432/db?target_session_attrs=any",
        "postgresql://back%20up@h/d%40b%27%22",
    ],
)
def test_source_urls_that_are_taken(tmp_path: Path, url: str) -> None:
    assert policies(load(tmp_path, dumped(database(url=url))))[0].source_url == url


@pytest.mark.parametrize("id_", ["", "Acme", "a/b", "..", "a\n", "a" * 65, "ä", "a'b", "a b"])
def test_ids_that_are_refused(tmp_path: Path, id_: str) -> None:
    (problem,) = problems(tmp_path, dumped(customer(id=id_)))
    assert "customers[0].id: " in problem
    (problem,) = problems(tmp_path, dumped(database(id=id_)))
    assert "databases[0].id: " in problem


def test_ids_are_unique_over_the_fleet(tmp_path: Path) -> None:
    other = customer(id="other", stores=[{"url": "s3://other"}])
    assert [p.partition(": ")[2] for p in problems(tmp_path, dumped(customer(), other))] == [
        f"customers[1].databases[0].id: this id is used at {tmp_path}/fleet.yaml:4 too"
    ]
    twice = customer(databases=[], stores=[{"url": "s3://other"}])
    (problem,) = problems(tmp_path, dumped(customer(), twice))
    assert "customers[1].id: this id is used at" in problem


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("s3://shared/a", "s3://shared/b", True),
        ("s3://shared/a", "s3://shared/ab", True),
        ("s3://shared/a", "s3://shared-too/a", True),
        (
            "s3://shared/a?endpoint=http://one:9000",
            "s3://shared/a?endpoint=http://two:9000",
            True,
        ),
        ("file:///srv/a", "file:///srv/ab", True),
        ("s3://shared/a", "s3://shared/a", False),
        ("s3://shared/a", "s3://shared/a/?region=eu-west-1", False),
        ("s3://shared", "s3://shared/a", False),
        ("s3://shared/a", "s3://shared/a/b/c", False),
        (
            "s3://shared/a",
            "s3://shared/a?endpoint=https://s3.eu-west-1.amazonaws.com",
            False,
        ),
        ("file:///srv/a", "file:///srv/a/b", False),
    ],
)
def test_two_customers_never_share_a_place(
    tmp_path: Path, one: str, other: str, apart: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        text = dumped(
            customer(stores=[{"url": first}]),
            customer(id="other", databases=[], stores=[{"url": second}]),
        )
        if apart:
            assert len(load(tmp_path, text).customers) == 2
        else:
            (problem,) = problems(tmp_path, text)
            assert "inside another customer's" in problem


def test_recipients_are_real_and_different(tmp_path: Path) -> None:
    another = str(Identity.generate(SystemEntropy()).recipient)
    text = dumped(customer(recipients=[KEY, another]))
    assert policies(load(tmp_path, text))[0].recipients == (KEY, another)
    for wrong in ([], [KEY, KEY], [KEY[:-1] + "q"], [KEY, "ssh-ed25519 AAAA"]):
        assert len(problems(tmp_path, dumped(customer(recipients=wrong)))) == 1


def test_a_directory_is_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "plans.yml").write_text("plans: {own: {retention_days: 7}}")
    (folder / "b.yaml").write_text(dumped(customer(plan="own")))
    other = customer(id="other", databases=[], stores=[{"url": "s3://other"}])
    (folder / "a.yaml").write_text(dumped(other))
    (folder / "notes.txt").write_text("[")
    fleet = load_fleet(folder)
    assert [c.id for c in fleet.customers] == ["other", "acme"]
    assert policies(fleet)[0].plan == Plan("own", 7)

    (folder / "c.yaml").write_text(dumped(customer(plan="own"), plans={"own": {}}))
    with pytest.raises(ConfigError) as caught:
        load_fleet(folder)
    text = str(caught.value)
    assert (
        f"{folder}/c.yaml:6: customers[0].id: this id is used at {folder}/b.yaml:6 too" in text
    )
    assert f"{folder}/c.yaml:13: plans.own.retention_days: this key is missing" in text
    assert (
        f"{folder}/plans.yml:1: plans.own: this plan is defined at {folder}/c.yaml:13 too"
        in text
    )

    empty = tmp_path / "empty"
    empty.mkdir()
    for nothing in (empty, tmp_path / "missing"):
        with pytest.raises(ConfigError):
            load_fleet(nothing)


@pytest.mark.parametrize(
    "text",
    [
        "customers: [",
        "a: b: c",
        "customers:\n\t- id: x",
        "--- 1\n--- 2",
        "- a list",
        "just text",
        "customers: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ncustomers: *c",
        "[" * 5000,
        "customers: " + "[" * 30 + "]" * 30,
        "customers: !!python/object/apply:os.system ['true']",
        "customers: !!binary aHVudGVyMg==",
        "customers: 2026-99-99",
        "customers: {<<: {a: b}}",
        "? [a]\n: b",
        "customers: 0x",
        "customers: !!int x",
        "\x00",
        "customers: \ud800",
    ],
)
def test_what_is_no_fleet_is_refused_with_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert re.search(r"fleet\.yaml:\d+: ", str(caught.value))


def test_a_file_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than"):
        load(tmp_path, "#" * (documents.LIMIT + 1))


def test_an_empty_fleet_is_one(tmp_path: Path) -> None:
    assert policies(load(tmp_path, "# nobody yet\n")) == []


def test_the_schema_knows_the_keys() -> None:
    schema = fleet_schema()
    assert set(schema["properties"]) == {"plans", "customers"}
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["PlanRule"]["required"] == ["retention_days"]


def test_a_state_has_a_day_and_a_reason(tmp_path: Path) -> None:
    text = dumped(customer(state="paused", until="2026-12-31", reason="invoice 4711"))
    (found,) = load(tmp_path, text).customers
    assert (found.state, found.until_date) == ("paused", date(2026, 12, 31))
    for wrong, words in (
        ({"state": "payed"}, "must be 'active'"),
        ({"state": "paused", "until": "31.12.2026"}, "a day in quotes"),
        ({"until": "2026-12-31"}, "belong to a state"),
        ({"state": "left"}, "must be 'active'"),
    ):
        (problem,) = problems(tmp_path, dumped(customer(**wrong)))
        assert words in problem


# --- passwords


def test_a_password_by_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_PASSWORD", "hunter2")
    secret = resolve_password("env:ACME_PASSWORD")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in repr(secret)

    path = tmp_path / "password"
    path.touch(0o600)
    for content, value in (("a b ", "a b "), ("x\n", "x"), ("x\r\n", "x"), ("ü:@/", "ü:@/")):
        path.write_bytes(content.encode())
        assert resolve_password(f"file:{path}").reveal() == value


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hunter2\nmore", b"hunter2\0", b"hunter2\xff"]
)
def test_a_password_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        resolve_password(f"file:{path}")
    assert "hunter2" not in str(caught.value)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(0o644)
    path.write_text("hunter2")
    with pytest.raises(ConfigError) as caught:
        resolve_password(f"file:{path}")
    assert caught.value.hint == f"chmod 0600 {path}"


@pytest.mark.parametrize(
    "reference", ["hunter2", "env:", "file:", "vault:hunter2", "", "aws-sm:", ":hunter2"]
)
def test_a_reference_that_is_none_is_not_repeated(reference: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_password(reference)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("reference", "taken"),
    [
        ("env:ACME_PASSWORD", True),
        ("env:1A", False),
        ("file:/run/secrets/acme", True),
        ("file:secrets/acme", False),
        ("aws-sm:acme/main", True),
        ("aws-sm:acme/main#password", True),
        ("aws-sm:arn:aws:secretsmanager:eu-west-1:123456789012:secret:acme/main-AbC123", True),
        ("aws-sm:acme main", False),
        ("aws-sm:#password", False),
        ("hunter2", False),
    ],
)
def test_references_of_a_fleet_file(tmp_path: Path, reference: str, taken: bool) -> None:
    text = dumped(database(password=reference))
    if taken:
        assert policies(load(tmp_path, text))[0].password_ref == reference
    else:
        (problem,) = problems(tmp_path, text)
        assert "must be a reference" in problem


def test_a_reference_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="ACME_PASSWORD"):
        resolve_password("env:ACME_PASSWORD")
    with pytest.raises(ConfigError, match="No such file"):
        resolve_password(f"file:{tmp_path}/missing")


def test_what_a_plan_keeps_beyond_its_window(tmp_path: Path) -> None:
    text = EXAMPLE.replace(
        "{retention_days: 91,", "{retention_days: 91, keep_weekly: 5, keep_yearly: 7,"
    )
    (policy,) = policies(load(tmp_path, text))
    plan = policy.plan
    assert (plan.keep_weekly, plan.keep_monthly, plan.keep_yearly) == (5, 0, 7)
    assert (
        "keep_weekly"
        in problems(tmp_path, text.replace("keep_weekly: 5", "keep_weekly: -1"))[0]
    )
