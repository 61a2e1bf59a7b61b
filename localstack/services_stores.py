"""The object stores of the local cloud, and the IAM endpoint. Each lives in a folder of its
own, with its data and its log; started again, each keeps its address while it runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from install import AZURITE, CACHE, VENV
from processes import WAIT, await_ready, processes, spawn

S3_LAUNCHER = """
import runpy, sys
from localstack.services.s3 import provider
provider.DEFAULT_S3_TMP_DIR = sys.argv[1]
runpy.run_module('localstack.runtime.main', run_name='__main__')
"""
"""The endpoint would keep objects in one fixed folder of /tmp, for all users and servers."""

AZURE_ACCOUNT = "devstoreaccount1"
# Azurite's one account and key, the same everywhere: public, like the emulator's own name.
# Source: learn.microsoft.com/azure/storage/common/storage-use-azurite
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
IAM_FREE_CALLS = 1_000_000
"""IAM's first calls are free, so that a test can make its roles; it then says how many more
(POST /moto-api/reset-auth, the number as the body)."""


def start_s3(cloud: Path) -> dict[str, str]:
    folder = cloud / "s3"

    def start(port: int) -> str:
        address = f"127.0.0.1:{port}"
        environment = base_environment(folder) | {
            "FILESYSTEM_ROOT": str(folder),
            "GATEWAY_SERVER": "hypercorn",  # the default one listens on every interface
            "GATEWAY_LISTEN": address,
            "LOCALSTACK_HOST": address,
            "SERVICES": "s3,sts,kms,sns,iam,sqs",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            "EAGER_SERVICE_LOADING": "1",
        }
        python = set_up(CACHE / "s3" / "bin" / "python")
        spawn([python, "-P", "-c", S3_LAUNCHER, folder / "objects"], folder, environment)
        ready("the S3 endpoint", folder, f"http://{address}/_localstack/health")
        return f"http://{address}"

    return {
        "BACKUPS_TEST_S3_ENDPOINT": once(folder, start),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def start_gcs(cloud: Path) -> dict[str, str]:
    """Our own server; see gcs_server/__main__.py."""
    folder = cloud / "gcs"

    def start(port: int) -> str:
        server = Path(__file__).resolve().parent / "gcs_server"
        python = set_up(VENV / "bin" / "python")
        spawn([python, "-B", server, folder, str(port)], folder, base_environment(folder))
        ready(
            "the Google Cloud Storage endpoint",
            folder,
            f"http://127.0.0.1:{port}/_local/health",
        )
        return f"http://127.0.0.1:{port}"

    return {
        "BACKUPS_TEST_GCS_ENDPOINT": once(folder, start),
        "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json"),
    }


def start_azure(cloud: Path) -> dict[str, str]:
    """Two servers: the plain one for most, and one with TLS, without which the SDK sends no
    OAuth token; that one accepts any token that looks right."""
    secure = cloud / "azure-tls"
    return {
        "BACKUPS_TEST_AZURE_ENDPOINT": start_azurite(cloud / "azure", "http"),
        "AZURE_STORAGE_ACCOUNT": AZURE_ACCOUNT,
        "AZURE_STORAGE_KEY": AZURE_KEY,
        "BACKUPS_TEST_AZURE_TLS_ENDPOINT": start_azurite(secure, "https"),
        "BACKUPS_TEST_AZURE_CA": str(secure / "certificate.pem"),
    }


def start_azurite(folder: Path, scheme: str) -> str:
    def start(port: int) -> str:
        node = shutil.which("node")
        if node is None:
            sys.exit("localstack/up: run localstack/setup first")
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder,
                   "--silent", "--disableTelemetry", "--skipApiVersionCheck"]  # fmt: skip
        if scheme == "https":
            certificate, key = make_certificate(folder)
            options += ["--cert", certificate, "--key", key, "--oauth", "basic"]
        program = set_up(
            AZURITE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        )
        spawn([node, program, *options], folder, base_environment(folder))
        await_ready("the Azure endpoint", folder, WAIT, lambda: listens(port))
        return f"{scheme}://127.0.0.1:{port}"

    return once(folder, start)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1",
               "-keyout", key, "-out", certificate]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return certificate, key


def start_iam(cloud: Path) -> dict[str, str]:
    """S3 with IAM and signatures enforced, once a test has asked for it."""
    folder = cloud / "iam"

    def start(port: int) -> str:
        python = set_up(CACHE / "iam" / "bin" / "python")
        environment = base_environment(folder) | {
            "INITIAL_NO_AUTH_ACTION_COUNT": str(IAM_FREE_CALLS)
        }
        spawn([python, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder,
              environment)  # fmt: skip
        ready("the IAM endpoint", folder, f"http://127.0.0.1:{port}/moto-api/data.json")
        return f"http://127.0.0.1:{port}"

    return {"BACKUPS_TEST_IAM_ENDPOINT": once(folder, start)}


# --- what all have in common ----------------------------------------------------------


def once(folder: Path, start: Callable[[int], str]) -> str:
    """The endpoint of the folder's server, started on a free port unless it runs."""
    endpoint = folder / "endpoint"
    if not (endpoint.is_file() and processes(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        endpoint.write_text(start(free_port()))
    return endpoint.read_text()


def base_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }


def set_up(program: Path) -> Path:
    if not program.exists():
        sys.exit("localstack/up: run localstack/setup first")
    return program


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ready(what: str, folder: Path, url: str) -> None:
    await_ready(what, folder, WAIT, lambda: answers(url))


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
