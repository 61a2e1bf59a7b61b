"""Segments into each cloud and back, by our adapters and by the vendor's own calls.

    eval "$(localstack/up s3 gcs azure)"; python tests/bench/stores.py --rounds 3 [--json]

Each measurement is a process of its own, in turn. The endpoint runs on the same cores, so
trust the ratios rather than the seconds, and only those of one run.
"""

from __future__ import annotations

# ruff: noqa: TID251  (a benchmark reads the time)
import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from measure import MIB

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.model import Artifact, Segment
from backups.ports import ObjectStore
from backups.run.reader import AHEAD, fetched
from backups.run.writer import PUTTERS
from providers.access import Access, Role
from providers.registry import open_store
from providers.urls import parse_store_url

OURS = "ours"
CALLS = {
    "s3": {"upload": ("put_object", "upload_fileobj"), "download": ("get_object",)},
    "gs": {"upload": ("upload_from_string",), "download": ("download_as_bytes",)},
    "az": {"upload": ("upload_blob", "upload_blob_md5"), "download": ("download_blob",)},
}
"""The vendor's own calls, each with its defaults; Azure's checks nothing unless asked to."""
ENDPOINTS = {
    "s3": "BACKUPS_TEST_S3_ENDPOINT",
    "gs": "BACKUPS_TEST_GCS_ENDPOINT",
    "az": "BACKUPS_TEST_AZURE_ENDPOINT",
}
PEAK = 250.0
"""Most MiB of the client, however much is sent."""
RATIO = 1.0
"""Our throughput as a share of the vendor's own, at least."""


@dataclass(frozen=True)
class Load:
    """`count` segments, under keys that start with `name`; they take turns to hold what lies
    in `files`."""

    url: str
    name: str
    count: int
    files: tuple[str, ...]

    @property
    def keys(self) -> list[str]:
        return [f"{self.name}/{number:05}.age" for number in range(self.count)]

    def read(self) -> list[bytes]:
        return [Path(file).read_bytes() for file in self.files]


@dataclass(frozen=True)
class Row:
    cloud: str
    job: str
    what: str
    mib_per_second: float
    cpu_per_gb: float
    """CPU seconds of the client for 10^9 bytes, its start left out."""
    peak_mib: float
    """The most memory that the client ever had: VmHWM of proc(5)."""


# --- the ways -------------------------------------------------------------------------


@contextmanager
def our_store(load: Load, role: Role) -> Iterator[ObjectStore]:
    clock, entropy = SystemClock(), SystemEntropy()
    store = open_store(load.url, clock=clock, entropy=entropy, access=Access(role))
    with closing(store):
        yield store


def our_upload(load: Load, pieces: Sequence[bytes]) -> Measured:
    """As `run.writer` does: the digest comes with the segment."""
    digests = [sha256(piece).digest() for piece in pieces]

    def put(store: ObjectStore, number: int) -> None:
        nth = number % len(pieces)
        store.put(load.keys[number], pieces[nth], sha256=digests[nth])

    with our_store(load, "writer") as store, ThreadPoolExecutor(PUTTERS) as pool:
        return measured(lambda: list(pool.map(put, [store] * load.count, range(load.count))))


def our_download(load: Load, pieces: Sequence[bytes]) -> Measured:
    """As a restore does: each segment is compared with its digest."""
    size = len(pieces[0])
    digests = [sha256(piece).hexdigest() for piece in pieces]
    segments = tuple(
        Segment(key, size, size, digests[number % len(pieces)], None)
        for number, key in enumerate(load.keys)
    )
    with our_store(load, "restorer") as store:
        return measured(lambda: [None for _ in fetched(store, Artifact("bench", segments))])


def their_upload(
    load: Load, pieces: Sequence[bytes], call: Callable[[str, bytes], object]
) -> Measured:
    def put(number: int) -> None:
        call(load.keys[number], pieces[number % len(pieces)])

    with ThreadPoolExecutor(PUTTERS) as pool:
        return measured(lambda: list(pool.map(put, range(load.count))))


def their_download(load: Load, call: Callable[[str], bytes]) -> Measured:
    with ThreadPoolExecutor(AHEAD) as pool:
        return measured(lambda: list(pool.map(lambda key: len(call(key)), load.keys)))


# --- the vendors' clients -------------------------------------------------------------


@contextmanager
def amazon(container: str = "") -> Iterator[Mapping[str, Any]]:
    import boto3

    with closing(boto3.client("s3", endpoint_url=os.environ[ENDPOINTS["s3"]])) as client:
        yield {
            "make": lambda name: client.create_bucket(Bucket=name),
            "put_object": lambda k, data: client.put_object(Bucket=container, Key=k, Body=data),
            "upload_fileobj": lambda k, data: client.upload_fileobj(
                io.BytesIO(data), container, k
            ),
            "get_object": lambda k: client.get_object(Bucket=container, Key=k)["Body"].read(),
        }


@contextmanager
def google(container: str = "bucket") -> Iterator[Mapping[str, Any]]:
    from google.cloud import storage

    options = {"api_endpoint": os.environ[ENDPOINTS["gs"]]}
    with closing(storage.Client(client_options=options)) as client:
        bucket = client.bucket(container)
        yield {
            "make": client.create_bucket,
            "upload_from_string": lambda k, data: bucket.blob(k).upload_from_string(data),
            "download_as_bytes": lambda k: bucket.blob(k).download_as_bytes(),
        }


@contextmanager
def azure(container: str = "container") -> Iterator[Mapping[str, Any]]:
    from azure.storage.blob import BlobServiceClient

    account = os.environ["AZURE_STORAGE_ACCOUNT"]
    url, key = f"{os.environ[ENDPOINTS['az']]}/{account}", os.environ["AZURE_STORAGE_KEY"]
    with BlobServiceClient(url, credential=key) as service:
        client = service.get_container_client(container)
        yield {
            "make": service.create_container,
            "upload_blob": client.upload_blob,
            "upload_blob_md5": lambda k, data: client.upload_blob(
                k, data, validate_content=True
            ),
            "download_blob": lambda k: client.download_blob(k).readall(),
        }


VENDORS = {"s3": amazon, "gs": google, "az": azure}


def new_store(cloud: str) -> str:
    """URL of a new, empty store."""
    name = f"bench-{SystemEntropy().bytes(6).hex()}"
    with VENDORS[cloud]() as calls:
        calls["make"](name)
    account = f"{os.environ['AZURE_STORAGE_ACCOUNT']}/" if cloud == "az" else ""
    endpoint = quote(os.environ[ENDPOINTS[cloud]], safe="")
    return f"{cloud}://{account}{name}?endpoint={endpoint}"


# --- one measurement, in a process of its own -----------------------------------------

Measured = tuple[float, float]
"""Seconds and CPU seconds."""


def measured(run: Callable[[], object]) -> Measured:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    run()
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def child(load: Load, job: str, what: str) -> Row:
    """The job once; imports and the making of a client are not measured."""
    pieces = load.read()
    url = parse_store_url(load.url)
    if what == OURS:
        wall, cpu = (our_upload if job == "upload" else our_download)(load, pieces)
    else:
        with VENDORS[url.scheme](url.bucket) as calls:
            if job == "upload":
                wall, cpu = their_upload(load, pieces, calls[what])
            else:
                wall, cpu = their_download(load, calls[what])
    size = load.count * len(pieces[0])
    return Row(url.scheme, job, what, size / MIB / wall, cpu * 1e9 / size, peak_mib())


def peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("proc(5) has no VmHWM")


def in_a_child(load: Load, job: str, what: str) -> Row:
    argv = [sys.executable, __file__, "--child", json.dumps([asdict(load), job, what])]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return Row(**json.loads(done.stdout))


# --- all of them ----------------------------------------------------------------------


def run_all(clouds: Sequence[str], mib: int, segment_mib: int, rounds: int) -> Iterator[Row]:
    """Up and down again by every way in turn, and so for each round."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        files = tuple(f"{folder}/{number}" for number in range(PUTTERS))
        for file in files:
            Path(file).write_bytes(SystemEntropy().bytes(segment_mib * MIB))
        for cloud in clouds:
            url = new_store(cloud)
            for nth in range(rounds):
                for what in (OURS, *CALLS[cloud]["upload"])[:: -1 if nth % 2 else 1]:
                    load = Load(
                        url, f"{nth}-{what.replace('_', '-')}", mib // segment_mib, files
                    )
                    yield in_a_child(load, "upload", what)
                    if what == OURS:  # both read what we wrote
                        for reader in (OURS, *CALLS[cloud]["download"]):
                            yield in_a_child(load, "download", reader)
                    with our_store(load, "pruner") as store:
                        for key in load.keys:
                            store.delete(key)


def median(rows: Sequence[Row], cloud: str, job: str, what: str, figure: str) -> float:
    return statistics.median(
        getattr(row, figure)
        for row in rows
        if (row.cloud, row.job, row.what) == (cloud, job, what)
    )


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Medians of each way, and our throughput as a share of its."""
    found = []
    for cloud, job, what in dict.fromkeys((row.cloud, row.job, row.what) for row in rows):
        figures = {
            figure: median(rows, cloud, job, what, figure)
            for figure in ("mib_per_second", "cpu_per_gb", "peak_mib")
        }
        ours = median(rows, cloud, job, OURS, "mib_per_second")
        ratio = ours / figures["mib_per_second"]
        found.append({"cloud": cloud, "job": job, "what": what, **figures, "ratio": ratio})
    return found


def table(rows: Sequence[Row]) -> str:
    head = ["", "MiB/s", "ours to it", "CPU s per GB", "peak MiB"]
    lines = [
        [
            f"{line['cloud']} {line['job']}: {line['what']}",
            f"{line['mib_per_second']:.0f}",
            "" if line["what"] == OURS else f"{line['ratio']:.2f}",
            f"{line['cpu_per_gb']:.2f}",
            f"{line['peak_mib']:.0f}",
        ]
        for line in summary(rows)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * 5, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cloud", action="append", choices=CALLS, help="default: each in turn")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--segment-mib", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        load, job, what = json.loads(args.child)
        row = child(Load(**{**load, "files": tuple(load["files"])}), job, what)
        print(json.dumps(asdict(row)))
        return 0
    clouds = args.cloud or list(CALLS)
    if missing := [ENDPOINTS[cloud] for cloud in clouds if ENDPOINTS[cloud] not in os.environ]:
        parser.error(
            f'{", ".join(missing)} not set: eval "$(localstack/up s3 gcs azure)" first'
        )
    rows = []
    for row in run_all(clouds, args.mib, args.segment_mib, args.rounds):
        rows.append(row)
        told = f"{row.cloud} {row.job}: {row.what}: {row.mib_per_second:.0f} MiB/s"
        print(told, file=sys.stderr, flush=True)
    print(json.dumps(summary(rows), indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
