"""Content comes in: simple, multipart and resumable uploads.

Sources: cloud.google.com/storage/docs/uploading-objects, /performing-resumable-uploads,
/json_api/v1/how-tos/multipart-upload and /json_api/v1/objects/insert.
"""

from __future__ import annotations

# ruff: noqa: TID251  (a server of its own; MD5 is what Google's API speaks)
import base64
import hashlib
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import google_crc32c
from access import Accounts, Token
from objects import check_fields, check_new_retention, check_preconditions, resource
from partial import select
from refusals import Refusal, invalid
from related import DEFAULT_TYPE, read_related
from state import Bucket, Json, State, Version, now
from wire import Body, Call, Reply

QUANTUM = 256 * 1024
"""Every chunk of a resumable upload but the last is a multiple of this."""
LARGE = 8 * 1024 * 1024
"""Above it an object has no md5Hash unless its client gave one: so it is with Google's
composite objects (/storage/docs/composite-objects). MD5 costs more than all the rest."""


class Incoming:
    """Content on its way into a file, with its checksums."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._crc = google_crc32c.Checksum()
        self._md5: hashlib._Hash | None = hashlib.md5(usedforsecurity=False)
        path.touch()

    def take(self, pieces: Iterable[bytes]) -> None:
        with self.path.open("ab", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
                self.size += len(piece)
                self._crc.update(piece)
                if self.size > LARGE:
                    self._md5 = None
                if self._md5 is not None:
                    self._md5.update(piece)

    def checksums(self, *, md5: bool) -> dict[str, str]:
        """As base64; md5Hash only where the content is small or it is asked for."""
        digests = {"crc32c": self._crc.digest()}
        if self._md5 is not None:
            digests["md5Hash"] = self._md5.digest()
        elif md5:
            with self.path.open("rb") as file:
                digests["md5Hash"] = hashlib.file_digest(file, "md5").digest()
        return {name: base64.b64encode(value).decode() for name, value in digests.items()}

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass
class Session:
    """A resumable upload. Its URI is itself the right to go on with it."""

    call: Call
    """The one that began it: its preconditions hold for the end."""
    name: str
    document: Json
    caller: Token
    incoming: Incoming
    total: int | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: Json | None = None
    ended: bool = False


class Uploads:
    """The handlers of uploads."""

    def __init__(self, state: State, accounts: Accounts) -> None:
        self.state = state
        self.accounts = accounts
        self.sessions: dict[str, Session] = {}

    def insert(self, call: Call) -> Reply:
        """objects.insert, POST /upload/..."""
        if "upload_id" in call.query:  # Go's client library puts its chunks by POST
            return self.go_on(call)
        kind = call.one("uploadType")
        handler = {"media": self._simple, "multipart": self._multipart,
                   "resumable": self._begin}.get(kind or "")  # fmt: skip
        if handler is None:
            raise invalid(f"Invalid upload type: {kind}")
        return handler(call)

    def _simple(self, call: Call) -> Reply:
        name = call.one("name") or ""
        caller = self._may_create(call, name, {})
        document = {"contentType": call.headers.get("Content-Type") or DEFAULT_TYPE}
        if given := call.headers.get("Content-MD5"):
            document["md5Hash"] = given
        return self._receive(call, name, document, caller, call.body)

    def _multipart(self, call: Call) -> Reply:
        document, kind, pieces = read_related(call.headers, call.body)
        name = str(document.get("name") or call.one("name") or "")
        document.setdefault("contentType", kind)
        caller = self._may_create(call, name, document)
        return self._receive(call, name, document, caller, pieces)

    def _receive(
        self, call: Call, name: str, document: Json, caller: Token, pieces: Iterable[bytes]
    ) -> Reply:
        given = hashes(call.headers.get("X-Goog-Hash"))
        incoming = Incoming(self.state.new_body())
        try:
            incoming.take(pieces)
            made = self._finish(call, name, document | given, caller, incoming)
        except BaseException:
            incoming.drop()
            raise
        return Reply.of(select(call, made))

    # --- resumable --------------------------------------------------------------------

    def _begin(self, call: Call) -> Reply:
        document = call.body.json()
        name = str(document.get("name") or call.one("name") or "")
        kind = call.headers.get("X-Upload-Content-Type")
        document.setdefault("contentType", kind or DEFAULT_TYPE)
        total = call.headers.get("X-Upload-Content-Length")
        if total is not None and not re.fullmatch(r"\d{1,15}", total, re.A):
            raise invalid("Invalid X-Upload-Content-Length")
        caller = self._may_create(call, name, document)
        session = Session(
            call, name, document, caller, Incoming(self.state.new_body()),
            None if total is None else int(total),
        )  # fmt: skip
        key = secrets.token_urlsafe(48)
        self.sessions[key] = session
        query = {"uploadType": "resumable", "name": name, "upload_id": key}
        path = f"/upload/storage/v1/b/{call.names['bucket']}/o"
        location = f"{call.base}{path}?{urlencode(query)}"
        return Reply(200, {"Location": location, "X-GUploader-UploadID": key})

    def go_on(self, call: Call) -> Reply:
        """PUT to the session's URI: a chunk, the rest, or a question how far it came."""
        session = self._session(call)
        with session.lock:  # one request at a time
            if session.done is not None:
                return Reply.of(session.done)
            if session.ended:
                raise Refusal(410, "uploadGone", "The upload was cancelled or has failed.")
            start, end, total = content_range(call, session)
            if total is not None:
                if session.total not in {None, total}:
                    raise invalid(f"Invalid request. The upload was begun with {session.total} "
                                  f"bytes, not {total}.")  # fmt: skip
                session.total = total
            if start is not None:
                self._take_chunk(session, call.body, start, end)
            if session.total is None or session.incoming.size < session.total:
                return so_far(call, session)
            return self._complete(call, session)

    def _take_chunk(self, session: Session, body: Body, start: int, end: int | None) -> None:
        have = session.incoming.size
        if start > have:
            raise invalid(
                "Invalid request. According to the Content-Range header, the upload offset is "
                f"{start} byte(s), which exceeds already uploaded size of {have} byte(s)."
            )
        if end is not None and end != session.total and (end - start) % QUANTUM:
            raise invalid(f"Invalid request. A chunk that is not the last must be a multiple "
                          f"of {QUANTUM} bytes.")  # fmt: skip
        if end is not None and body.length not in {None, end - start}:
            raise invalid(f"Invalid request. There were {body.length} byte(s) in the request "
                          f"body. There should have been {end - start} byte(s).")  # fmt: skip
        skip = have - start  # bytes that are already here are ignored
        session.incoming.take(in_quanta(without_lead(body, skip)))
        if session.total is not None and session.incoming.size > session.total:
            self._end(session)
            raise invalid("Invalid request. More bytes than the upload was begun with.")

    def _complete(self, call: Call, session: Session) -> Reply:
        given = hashes(call.headers.get("X-Goog-Hash"))
        document = session.document | given
        try:
            made = self._finish(
                session.call, session.name, document, session.caller, session.incoming
            )
        except Refusal:
            self._end(session)
            raise
        session.done = select(session.call, made)
        return Reply.of(session.done)

    def cancel(self, call: Call) -> Reply:
        """DELETE of the session's URI, answered 499."""
        session = self._session(call)
        with session.lock:
            if session.done is None:
                self._end(session)
        return Reply(499)

    def _session(self, call: Call) -> Session:
        if "Authorization" in call.headers:  # the URI is enough, but a token must be valid
            self.accounts.caller(call.headers["Authorization"])
        session = self.sessions.get(call.one("upload_id") or "")
        if session is None or session.call.names["bucket"] != call.names["bucket"]:
            raise Refusal(404, "notFound", "No such upload.")
        return session

    def _end(self, session: Session) -> None:
        session.ended = True
        session.incoming.drop()

    # --- what all have in common --------------------------------------------------------

    def _may_create(self, call: Call, name: str, document: Json) -> Token:
        """Refuse early: before the content is taken."""
        caller = self.accounts.caller(call.headers.get("Authorization"))
        with self.state.lock:
            bucket = self.state.bucket(call.names["bucket"])
            self._check(call, bucket, name, document, caller)
        return caller

    def _check(
        self, call: Call, bucket: Bucket, name: str, document: Json, caller: Token
    ) -> Json:
        """What must hold when an upload begins, and again when its object appears."""
        if "name" in document and call.one("name") not in {None, document["name"]}:
            raise invalid("the name in the URL and that in the document differ")
        check_name(name)
        self.accounts.require(caller, bucket, "storage.objects.create", name)
        fields = check_fields(document, new=True)
        fields = {key: value for key, value in fields.items() if value is not None}
        if "retention" in fields:
            self.accounts.require(caller, bucket, "storage.objects.setRetention", name)
            check_new_retention(bucket, fields["retention"])
        live = bucket.live(name)
        check_preconditions(call, live)
        if live is not None:  # to replace is to delete: /access-control/iam-json
            self.accounts.require(caller, bucket, "storage.objects.delete", name)
            if not bucket.versioned:
                bucket.refuse_if_protected(live)
        if bucket.fields.get("defaultEventBasedHold"):
            fields.setdefault("eventBasedHold", True)
        return fields

    def _finish(
        self, call: Call, name: str, document: Json, caller: Token, incoming: Incoming
    ) -> Json:
        """The object appears, whole and checked, or not at all."""
        sums = incoming.checksums(md5="md5Hash" in document)
        for key in ("crc32c", "md5Hash"):
            given, value = document.get(key), sums.get(key)
            if given is not None and given != value:
                word = "CRC32C" if key == "crc32c" else "MD5 hash"
                raise invalid(
                    f'Provided {word} "{given}" doesn\'t match calculated {word} "{value}".'
                )
        with self.state.lock:
            bucket = self.state.bucket(call.names["bucket"])
            fields = self._check(call, bucket, name, document, caller)
            if live := bucket.live(name):
                bucket.drop_live(live)
            version = Version(
                name, self.state.next_generation(), incoming.size, sums["crc32c"],
                sums.get("md5Hash"), incoming.path, now(), fields,
            )  # fmt: skip
            bucket.versions.setdefault(name, []).append(version)
            return resource(call.base, bucket, version)


def check_name(name: str) -> None:
    """Source: cloud.google.com/storage/docs/objects#naming"""
    size = len(name.encode("utf-8", "surrogatepass"))
    reserved = name.startswith(".well-known/acme-challenge/") or name in {".", ".."}
    if not 1 <= size <= 1024 or reserved or "\r" in name or "\n" in name:
        raise Refusal(400, "required" if not name else "invalid", "Invalid object name.")


def hashes(header: str | None) -> dict[str, str]:
    """X-Goog-Hash: crc32c=...,md5=...; .../xml-api/reference-headers#xgooghash"""
    known = {"crc32c": "crc32c", "md5": "md5Hash"}
    given = {}
    for item in (header or "").replace(" ", "").split(","):
        name, _, value = item.partition("=")
        if name in known:
            given[known[name]] = value
        elif item:
            raise invalid(f"Invalid X-Goog-Hash: {name}")
    return given


def so_far(call: Call, session: Session) -> Reply:
    """308: what is here; no Range when nothing is. A client that asks so gets 200 and the
    status in a header, as some HTTP libraries redirect at 308: not documented, but what
    Google's library for Go relies on (google-api-go-client, gensupport/resumable.go)."""
    have = session.incoming.size
    headers = {"Range": f"bytes=0-{have - 1}"} if have else {}
    if call.headers.get("X-GUploader-No-308") == "yes":
        return Reply(200, headers | {"X-Http-Status-Code-Override": "308"})
    return Reply(308, headers)


_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15}|\*)", re.A)


def content_range(call: Call, session: Session) -> tuple[int | None, int | None, int | None]:
    """Start, end (not included) and total of a PUT; no start asks how far the upload came."""
    header = call.headers.get("Content-Range")
    if header is None:  # everything in one request
        total = call.body.length if call.body.length is not None else session.total
        return 0, total, total
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        raise invalid(f"Failed to parse Content-Range header: {header}")
    total = None if found[3] == "*" else int(found[3])
    if found[1] is None:
        if call.body.length:
            raise invalid("Invalid request. A status query has no body.")
        return None, None, total
    start, end = int(found[1]), int(found[2]) + 1
    if end <= start or (total is not None and end > total):
        raise invalid(f"Failed to parse Content-Range header: {header}")
    return start, end, total


def without_lead(pieces: Iterable[bytes], skip: int) -> Iterator[bytes]:
    for piece in pieces:
        if skip >= len(piece):
            skip -= len(piece)
        else:
            yield piece[skip:]
            skip = 0


def in_quanta(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, but of a request cut short only whole multiples of 256 KiB: what is
    kept may be less than what was sent."""
    held = b""
    for piece in pieces:
        held += piece
        keep = len(held) - len(held) % QUANTUM
        yield held[:keep]
        held = held[keep:]
    yield held
