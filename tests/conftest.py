"""Fixtures that lead to the local cloud, and the rule that nothing is skipped in silence."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import command_kit
import hypothesis
import pytest
from server_kit import POSTGRES, database_url, unique

if TYPE_CHECKING:
    from google.cloud.storage import Client as GoogleClient
    from mypy_boto3_s3 import S3Client

HERE = Path(__file__).parent

DECLARED_SKIPS = frozenset(
    {
        "the public sample databases are not at hand",  # they are not part of the project
        "MySQL's server is not at hand",  # nor in Debian; localstack/setup says why
        "PostgreSQL's regression scripts are not at hand",
        "databases of real products are not at hand",  # nor is their code
    }
)
"""The only reasons for which a test may be skipped; any other skip is a failure."""

MakeDatabase = Callable[..., str]
MakeBucket = Callable[[], str]
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


# On a busy machine the time of one example says nothing; the gate's own limit is enough.
hypothesis.settings.register_profile("gate", deadline=None)
hypothesis.settings.load_profile("gate")

# --- what runs ------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="run exhaustive tests and the benchmark too"
    )


def pytest_configure(config: pytest.Config) -> None:
    command_kit.forked = not config.getoption("--full")
    # The program looks for PostgreSQL's programs there, and takes the first of a version.
    servers = [os.environ.get(f"BACKUPS_TEST_PG_{major}_BIN") for major in POSTGRES]
    known = os.environ["PATH"].split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(
        [*known, *(s for s in servers if s and s not in known)]
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        left_out = [item for item in items if is_full(item)]
        items[:] = [item for item in items if not is_full(item)]
        config.hook.pytest_deselected(items=left_out)
    items[:] = long_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


LONG = 300
"""Seconds of a test's own limit, from which on it is begun early."""


def long_ones_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker gets one piece of the list to begin with: the long tests are dealt out to the
    pieces' beginnings, so that no worker is left with one at the end."""
    long = [item for item in items if limit_of(item) >= LONG]
    rest = [item for item in items if limit_of(item) < LONG]
    ends = [len(rest) * n // workers for n in range(workers + 1)]
    return [
        item
        for n in range(workers)
        for item in [*long[n::workers], *rest[ends[n] : ends[n + 1]]]
    ]


def limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker and marker.args else 0.0


def is_full(item: pytest.Item) -> bool:
    return item.get_closest_marker("full") is not None or HERE / "bench" in item.path.parents


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return refuse_skip((yield))


def refuse_skip(report: Report) -> Report:
    """Turn a skip that nobody declared into a failure."""
    if report.skipped and not hasattr(report, "wasxfail"):
        longrepr: Any = report.longrepr
        reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        if reason.removeprefix("Skipped: ") not in DECLARED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"skipped for a reason that is not declared: {reason}"
    return report


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """A thread left running would eat the other tests' time and keep the process alive."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in left:
        thread.join(timeout=5)
    still = [thread.name for thread in left if thread.is_alive()]
    assert not still, f"threads still run after the test: {still}"


def pytest_unconfigure() -> None:
    """Python waits for threads without end; the gate does not."""
    left = [
        t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon
    ]
    if left:
        print(f"threads still run: {[thread.name for thread in left]}", file=sys.stderr)
        faulthandler.dump_traceback(file=sys.__stderr__)
        os._exit(1)


# --- the local cloud ------------------------------------------------------------------


def from_cloud(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        pytest.fail(
            f'{variable} is not set: run localstack/test, or eval "$(localstack/up)" first',
            pytrace=False,
        )
    return value


@pytest.fixture(scope="session")
def pg15_url() -> str:
    """Superuser's libpq URL of a PostgreSQL 15 server, the distribution's."""
    return from_cloud("BACKUPS_TEST_PG_15")


@pytest.fixture(scope="session")
def mariadb_url() -> str:
    """Root's URL of a MariaDB server, the distribution's."""
    return from_cloud("BACKUPS_TEST_MARIADB")


@pytest.fixture(scope="session")
def mysql_url() -> str:
    """Root's URL of a MySQL server, whose tools are found from now on."""
    if "BACKUPS_TEST_MYSQL" not in os.environ:
        pytest.skip("MySQL's server is not at hand")
    tools = from_cloud("BACKUPS_TEST_MYSQL_BIN")
    if tools not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += f":{tools}"
    return from_cloud("BACKUPS_TEST_MYSQL")


@pytest.fixture(scope="session")
def pg14_url() -> str:
    """As the next ones: of a server with contrib, from another suite of Debian's or npm."""
    return from_cloud("BACKUPS_TEST_PG_14")


@pytest.fixture(scope="session")
def pg16_url() -> str:
    return from_cloud("BACKUPS_TEST_PG_16")


@pytest.fixture(scope="session")
def pg17_url() -> str:
    return from_cloud("BACKUPS_TEST_PG_17")


@pytest.fixture(scope="session")
def pg18_url() -> str:
    return from_cloud("BACKUPS_TEST_PG_18")


@pytest.fixture(scope="session")
def pg19_url() -> str:
    return from_cloud("BACKUPS_TEST_PG_19")


@pytest.fixture(params=POSTGRES)
def every_pg(request: pytest.FixtureRequest) -> str:
    """Superuser's libpq URL of a server of each version in turn."""
    return from_cloud(f"BACKUPS_TEST_PG_{request.param}")


@pytest.fixture
def make_database() -> Iterator[MakeDatabase]:
    """`make_database(server_url, name=None, sql="")`: URL of a new database, dropped after."""
    import psycopg
    from psycopg import sql as quoted

    made: list[tuple[str, str]] = []

    def run(url: str, *statements: Any) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def make(server_url: str, name: str | None = None, sql: str = "") -> str:
        name = name or unique("test_")
        run(
            server_url,
            quoted.SQL("CREATE DATABASE {} TEMPLATE template0").format(quoted.Identifier(name)),
        )
        made.append((server_url, name))
        url = database_url(server_url, name)
        if sql:
            run(url, sql)
        return url

    yield make
    for server_url, name in reversed(made):
        drop = quoted.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        run(server_url, drop.format(quoted.Identifier(name)))


@pytest.fixture(scope="session")
def s3_endpoint() -> str:
    """URL of a real S3 protocol endpoint; credentials are in the environment, AWS_*."""
    return from_cloud("BACKUPS_TEST_S3_ENDPOINT")


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Iterator[S3Client]:
    """The SDK's own client, to look at what lies in a bucket or to spoil it."""
    import boto3
    from botocore.config import Config

    path_style = Config(s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=s3_endpoint, config=path_style)
    yield client
    client.close()


@pytest.fixture
def make_bucket(s3_client: S3Client) -> MakeBucket:
    """`make_bucket()`: the name of a new, empty bucket."""

    def make() -> str:
        name = unique("test-")
        s3_client.create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def bucket(make_bucket: MakeBucket) -> str:
    """The name of a new, empty bucket."""
    return make_bucket()


@pytest.fixture(scope="session")
def gcs_endpoint() -> str:
    """URL of our own Google Cloud Storage endpoint; GOOGLE_APPLICATION_CREDENTIALS names the
    key of its project's owner. What it knows: localstack/gcs_server/__main__.py."""
    from_cloud("GOOGLE_APPLICATION_CREDENTIALS")
    return from_cloud("BACKUPS_TEST_GCS_ENDPOINT")


@pytest.fixture(scope="session")
def gcs_client(gcs_endpoint: str) -> Iterator[GoogleClient]:
    """The SDK's own client as the project's owner, to look at a bucket or to spoil it."""
    from google.cloud import storage

    client = storage.Client(client_options={"api_endpoint": gcs_endpoint})
    yield client
    client.close()


@pytest.fixture
def gcs_bucket(gcs_client: GoogleClient) -> str:
    """The name of a new, empty bucket whose rights are its policy alone."""
    bucket = gcs_client.bucket(unique("test-"))
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    return str(gcs_client.create_bucket(bucket).name)


@pytest.fixture(scope="session")
def iam_endpoint() -> str:
    """URL of an S3 and STS endpoint that enforces IAM, after as many calls as a test asks
    for: POST /moto-api/reset-auth with the number as the body."""
    return from_cloud("BACKUPS_TEST_IAM_ENDPOINT")


@pytest.fixture(scope="session")
def azure_endpoint() -> str:
    """URL of an Azure Blob endpoint; AZURE_STORAGE_ACCOUNT and _KEY are in the environment."""
    return from_cloud("BACKUPS_TEST_AZURE_ENDPOINT")


# --- stores, by their URLs ------------------------------------------------------------

STORES = (
    "memory_store",
    "local_store",
    pytest.param("s3_store", marks=pytest.mark.s3),
    pytest.param("gcs_store", marks=pytest.mark.gcs),
    "azure_store",
)
"""A fixture each. A new kind of store that is named here meets every test of stores."""


@pytest.fixture(params=STORES)
def every_store(request: pytest.FixtureRequest) -> str:
    """URL of a fresh store of each kind in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def memory_store() -> str:
    return f"memory:{unique('test-')}"


@pytest.fixture
def local_store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    folder.mkdir()
    return f"file://{folder}"


@pytest.fixture
def s3_store(bucket: str, s3_endpoint: str) -> str:
    """URL of a fresh S3 store."""
    return f"s3://{bucket}/bloomneo?endpoint={quote(s3_endpoint, safe='')}"


@pytest.fixture
def gcs_store(gcs_bucket: str, gcs_endpoint: str) -> str:
    """URL of a fresh Google Cloud Storage store."""
    return f"gs://{gcs_bucket}/bloomneo?endpoint={quote(gcs_endpoint, safe='')}"


@pytest.fixture
def azure_store(azure_endpoint: str) -> str:
    """URL of a fresh Azure Blob store."""
    from azure.storage.blob import BlobServiceClient

    account, key = os.environ["AZURE_STORAGE_ACCOUNT"], os.environ["AZURE_STORAGE_KEY"]
    container = unique("test-")
    with BlobServiceClient(f"{azure_endpoint}/{account}", credential=key) as service:
        service.create_container(container)
    return f"az://{account}/{container}/bloomneo?endpoint={quote(azure_endpoint, safe='')}"


# --- data -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def age_vectors() -> Path:
    """The folder of the C2SP CCTV age vectors, one file each."""
    return Path(from_cloud("BACKUPS_TEST_CCTV_AGE"))


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of Sakila and Chinook as SQL."""
    folder = os.environ.get("BACKUPS_TEST_DATA")
    if not folder:
        pytest.skip("the public sample databases are not at hand")
    return Path(folder)
