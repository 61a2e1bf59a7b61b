"""A light S3 endpoint over TLS for benchmarks: what `aws` and boto3 need, and nothing else.

    sink.py FOLDER      prints "URL CA-FILE" when it listens; stops when its stdin closes

It stores objects as files and checks neither signatures nor checksums, so that a benchmark
measures its clients. Path-style addresses only. Protocol: Amazon S3 API Reference.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BLOCK = 1 << 20
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass
class Stored:
    """One object, in one file or, after a multipart upload, in several."""

    files: list[Path]
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


class Sink(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.context = folder, context
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, dict[int, Path]] = {}
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def get_request(self) -> tuple[ssl.SSLSocket, object]:
        connection, address = self.socket.accept()
        # The handshake is left to the connection's own thread: it happens at the first read.
        return self.context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""

    def new_file(self) -> Path:
        return self.folder / str(next(self.numbers))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = BLOCK
    server: Sink

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def split(self) -> tuple[str, str, dict[str, str]]:
        """Bucket, key and query of the request."""
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        return bucket, key, query

    def do_PUT(self) -> None:
        bucket, key, query = self.split()
        body, checksums = self.read_body()
        if not key:
            return self.reply(200)
        path = self.server.new_file()
        path.write_bytes(body)
        etag = f'"{path.name:0>32}"'
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = path
            return self.reply(200, headers={"ETag": etag, **checksums})
        return self.store(f"{bucket}/{key}", Stored([path], etag, checksums))

    def store(self, name: str, stored: Stored, body: str = "") -> None:
        with self.server.lock:
            if self.headers.get("If-None-Match") == "*" and name in self.server.objects:
                return self.fail(412, "PreconditionFailed")
            self.server.objects[name] = stored
        return self.reply(200, body, {"ETag": stored.etag, **stored.checksums})

    def do_POST(self) -> None:
        bucket, key, query = self.split()
        self.read_body()
        if "uploads" in query:
            upload = f"upload-{next(self.server.numbers)}"
            self.server.uploads[upload] = {}
            return self.reply(200, xml("InitiateMultipartUploadResult", UploadId=upload))
        parts = self.server.uploads.pop(query["uploadId"])
        etag = f'"{next(self.server.numbers):032}-{len(parts)}"'
        done = xml("CompleteMultipartUploadResult", Bucket=bucket, Key=key, ETag=etag)
        return self.store(
            f"{bucket}/{key}", Stored([path for _, path in sorted(parts.items())], etag), done
        )

    def do_DELETE(self) -> None:
        bucket, key, query = self.split()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(f"{bucket}/{key}", None)
        self.reply(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        bucket, key, query = self.split()
        if not key:
            return self.reply(200, self.listing(bucket, query))
        stored = self.server.objects.get(f"{bucket}/{key}")
        if stored is None:
            return self.fail(404, "NoSuchKey")
        start, stop, status = 0, stored.size, 200
        headers = {"ETag": stored.etag, "Accept-Ranges": "bytes", "Last-Modified": DATE}
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start, status = int(first), 206
            if start >= stop:
                return self.fail(416, "InvalidRange")
            stop = min(stop, int(last) + 1) if last else stop
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        elif self.headers.get("x-amz-checksum-mode"):
            headers |= stored.checksums
        self.reply(status, length=stop - start, headers=headers)
        if self.command == "GET":
            send(stored.files, start, stop, self.wfile)
        return None

    def listing(self, bucket: str, query: dict[str, str]) -> str:
        if "list-type" not in query:  # versioning, location, object-lock ...: nothing is set
            return xml("Configuration")
        prefix = f"{bucket}/{query.get('prefix', '')}"
        clean = quote if query.get("encoding-type") == "url" else escape
        contents = "".join(
            f"<Contents><Key>{clean(name.partition('/')[2])}</Key><Size>{stored.size}</Size>"
            f"<LastModified>2024-01-01T00:00:00Z</LastModified></Contents>"
            for name, stored in sorted(self.server.objects.items())
            if name.startswith(prefix)
        )
        encoding = "<EncodingType>url</EncodingType>" if clean is quote else ""
        inner = f"<IsTruncated>false</IsTruncated>{encoding}{contents}"
        return f"<ListBucketResult>{inner}</ListBucketResult>"

    # --- the wire ---

    def read_body(self) -> tuple[bytes, dict[str, str]]:
        """The decoded body, and the checksum headers to give back."""
        checksums = {k: v for k, v in self.headers.items() if is_checksum(k)}
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body, _ = unchunk(self.rfile)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            body, trailers = unchunk(io.BytesIO(body))
            checksums |= {k: v for k, v in trailers.items() if is_checksum(k)}
        return body, checksums

    def reply(
        self,
        status: int,
        body: str = "",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if data and self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, status: int, code: str) -> None:
        self.reply(status, xml("Error", Code=code, Message=code))


def is_checksum(header: str) -> bool:
    name = header.lower()
    return name.startswith("x-amz-checksum-") and name not in {
        "x-amz-checksum-mode",
        "x-amz-checksum-algorithm",
    }


def unchunk(stream: BinaryIO) -> tuple[bytes, dict[str, str]]:
    """Undo HTTP chunking (RFC 9112 section 7.1), or S3's own, which looks the same."""
    pieces = []
    while size := int(stream.readline().split(b";")[0], 16):
        pieces.append(stream.read(size))
        stream.readline()
    trailers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        trailers[name] = value.strip()
    return b"".join(pieces), trailers


def send(files: list[Path], start: int, stop: int, out: BinaryIO) -> None:
    """Write bytes [start, stop) of the files, laid end to end."""
    offset = 0
    for path in files:
        size = path.stat().st_size
        first, last = max(start - offset, 0), min(stop - offset, size)
        if first < last:
            with path.open("rb") as source:
                source.seek(first)
                while first < last and (block := source.read(min(BLOCK, last - first))):
                    out.write(block)
                    first += len(block)
        offset += size


def xml(name: str, **fields: str) -> str:
    inner = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}>{inner}</{name}>'


def certificate(folder: Path) -> tuple[Path, Path]:
    """A fresh self-signed certificate for 127.0.0.1, and its key."""
    cert, key = folder / "ca.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def main(folder: Path) -> None:
    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    objects = folder / "objects"
    objects.mkdir()
    sink = Sink(objects, context)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    print(f"https://127.0.0.1:{sink.server_address[1]} {cert}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
