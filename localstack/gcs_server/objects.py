"""Objects: what is said about them, listed, changed and read.

Source of each name and field: cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from access import Accounts
from partial import select
from refusals import Refusal, invalid, not_implemented, not_modified, unmet
from state import Bucket, Json, State, Version, etag, now, parse_time, rfc3339
from wire import Call, Part, Reply

TEXTS = frozenset({"contentType", "cacheControl", "contentDisposition", "contentLanguage",
                   "contentEncoding", "customTime", "storageClass"})  # fmt: skip
FLAGS = frozenset({"temporaryHold", "eventBasedHold"})
WRITABLE = TEXTS | FLAGS | {"metadata", "retention"}
# Sent back by clients that read a resource, change it and write it; ignored, as Google does.
OUTPUT_ONLY = frozenset({"kind", "id", "selfLink", "mediaLink", "bucket", "name", "generation",
                         "metageneration", "size", "etag", "timeCreated", "updated",
                         "timeStorageClassUpdated", "retentionExpirationTime", "timeDeleted",
                         "timeFinalized", "md5Hash", "crc32c"})  # fmt: skip
PRECONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch",
                 "ifMetagenerationNotMatch")  # fmt: skip


class Objects:
    """The handlers of objects."""

    def __init__(self, state: State, accounts: Accounts) -> None:
        self.state = state
        self.accounts = accounts

    def allowed(self, call: Call, permission: str, name: str = "", prefix: str = "") -> Bucket:
        caller = self.accounts.caller(call.headers.get("Authorization"))
        bucket = self.state.bucket(call.names["bucket"])
        self.accounts.require(caller, bucket, permission, name, prefix)
        return bucket

    # --- reading ----------------------------------------------------------------------

    def get(self, call: Call) -> Reply:
        """objects.get, of the resource or with alt=media of the content."""
        if call.one("alt") == "media":
            return self.media(call)
        with self.state.lock:
            bucket, version = self._found(call)
            return Reply.of(select(call, resource(call.base, bucket, version)))

    def _found(self, call: Call) -> tuple[Bucket, Version]:
        name = call.names["object"]
        bucket = self.allowed(call, "storage.objects.get", name)
        version = bucket.find(name, call.number("generation"))
        check_preconditions(call, version, reading=True)
        return bucket, version

    def media(self, call: Call) -> Reply:
        """Source: cloud.google.com/storage/docs/json_api/v1/objects/get and
        /storage/docs/xml-api/reference-headers for what the headers mean."""
        with self.state.lock:
            _, version = self._found(call)
        headers = {
            "Content-Type": version.fields.get("contentType", "application/octet-stream"),
            "ETag": etag(version.generation, version.metageneration),
            "Accept-Ranges": "bytes",
            "X-Goog-Generation": str(version.generation),
            "X-Goog-Metageneration": str(version.metageneration),
            "X-Goog-Hash": f"crc32c={version.crc32c}"
            + (f",md5={version.md5}" if version.md5 else ""),
            "X-Goog-Stored-Content-Length": str(version.size),
            "X-Goog-Stored-Content-Encoding": "identity",
            "X-Goog-Storage-Class": version.fields.get("storageClass", "STANDARD"),
        }
        wanted = byte_range(call.headers.get("Range"), version.size)
        if wanted is None:
            return Reply(200, headers, Part(version.body, 0, version.size))
        start, end = wanted
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{version.size}"
        return Reply(206, headers, Part(version.body, start, end - start))

    def list(self, call: Call) -> Reply:
        """objects.list. Source: .../json_api/v1/objects/list; at most 1,000 of items and
        prefixes together per page, in order of name (UTF-8) and generation."""
        prefix, delimiter = call.one("prefix", "") or "", call.one("delimiter", "") or ""
        first, last = call.one("startOffset", "") or "", call.one("endOffset", "") or ""
        size = min(call.number("maxResults") or 1000, 1000)
        after = read_token(call.one("pageToken"))
        items: list[Json] = []
        prefixes: list[str] = []
        token, place = None, ["", 0]
        with self.state.lock:
            bucket = self.allowed(call, "storage.objects.list", prefix=prefix)
            for name in sorted(bucket.versions, key=str.encode):
                if not name.startswith(prefix) or name < first or (last and name >= last):
                    continue
                cut = name.find(delimiter, len(prefix)) if delimiter else -1
                group = name[: cut + len(delimiter)] if cut >= 0 else ""
                live = bucket.live(name)
                shown = bucket.versions[name] if call.flag("versions") else [live]
                for version in filter(None, shown):
                    here: list[Any] = [group, 0] if group else [name, version.generation]
                    if after and (here[0].encode(), here[1]) <= (after[0].encode(), after[1]):
                        continue
                    if group and prefixes[-1:] == [group]:
                        continue
                    if len(items) + len(prefixes) == size:
                        token = make_token(place)
                        break
                    place = here
                    if group:
                        prefixes.append(group)
                    else:
                        items.append(resource(call.base, bucket, version))
                if token:
                    break
        page: Json = {"kind": "storage#objects"}
        page |= {"nextPageToken": token} if token else {}
        page |= {"prefixes": prefixes} if prefixes else {}
        page |= {"items": items} if items else {}
        return Reply.of(select(call, page))

    # --- changing ---------------------------------------------------------------------

    def patch(self, call: Call) -> Reply:
        return self._change(call, call.body.json())

    def update(self, call: Call) -> Reply:
        """objects.update: fields that the body does not name are cleared."""
        return self._change(call, dict.fromkeys(WRITABLE) | call.body.json())

    def _change(self, call: Call, changes: Json) -> Reply:
        name = call.names["object"]
        with self.state.lock:
            bucket = self.allowed(call, "storage.objects.update", name)
            version = bucket.find(name, call.number("generation"))
            check_preconditions(call, version)
            fields = check_fields(changes)
            if fields.get("retention", {}) != version.fields.get("retention", {}):
                self._check_retention(call, bucket, version, fields)
            if version.fields.get("eventBasedHold") and fields.get("eventBasedHold") is False:
                version.released = now()
            merge(version.fields, fields)
            version.metageneration += 1
            version.updated = now()
            return Reply.of(select(call, resource(call.base, bucket, version)))

    def _check_retention(
        self, call: Call, bucket: Bucket, version: Version, fields: Json
    ) -> None:
        """Source: cloud.google.com/storage/docs/object-lock and objects/patch: a locked
        configuration is only ever extended; an unlocked one is shortened, removed or locked
        with overrideUnlockedRetention=true and the permission of that name."""
        if "retention" not in fields:
            return
        new, old = fields["retention"], version.fields.get("retention")
        if new is None and old is None:
            return
        caller = self.accounts.caller(call.headers.get("Authorization"))
        self.accounts.require(caller, bucket, "storage.objects.setRetention", version.name)
        if new is not None:
            check_new_retention(bucket, new)
        if old is None:
            return
        extends = (
            new is not None
            and new["mode"] == old["mode"]
            and parse_time(new["retainUntilTime"]) >= parse_time(old["retainUntilTime"])
        )
        if extends:
            return
        what = f"the retention of object '{bucket.name}/{version.name}'"
        if old["mode"] == "Locked":
            raise Refusal(403, "forbidden", f"{what} is Locked: it can only be extended")
        if not call.flag("overrideUnlockedRetention"):
            raise Refusal(
                403, "forbidden", f"to reduce {what}, overrideUnlockedRetention must be true"
            )
        override = "storage.objects.overrideUnlockedRetention"
        self.accounts.require(caller, bucket, override, version.name)

    def delete(self, call: Call) -> Reply:
        """objects.delete: by name alone, a version is kept where the bucket keeps versions;
        with a generation it is gone for good. .../json_api/v1/objects/delete"""
        name, generation = call.names["object"], call.number("generation")
        with self.state.lock:
            bucket = self.allowed(call, "storage.objects.delete", name)
            version = bucket.find(name, generation)
            check_preconditions(call, version)
            if generation is None:
                bucket.drop_live(version)
            else:
                bucket.erase(version)
        return Reply(204)


# --- what is said about an object -----------------------------------------------------


def resource(base: str, bucket: Bucket, version: Version) -> Json:
    """Source: cloud.google.com/storage/docs/json_api/v1/objects#resource-representations"""
    path = f"b/{bucket.name}/o/{quote(version.name, safe='')}"
    numbers = (version.generation, version.metageneration)
    document: Json = {
        "kind": "storage#object",
        "id": f"{bucket.name}/{version.name}/{version.generation}",
        "selfLink": f"{base}/storage/v1/{path}",
        "mediaLink": f"{base}/download/storage/v1/{path}"
        f"?generation={version.generation}&alt=media",
        "name": version.name,
        "bucket": bucket.name,
        "generation": str(version.generation),
        "metageneration": str(version.metageneration),
        "storageClass": "STANDARD",
        "size": str(version.size),
        "crc32c": version.crc32c,
        "etag": etag(*numbers),
        "timeCreated": rfc3339(version.created),
        "updated": rfc3339(version.updated),
        "timeStorageClassUpdated": rfc3339(version.created),
        "timeFinalized": rfc3339(version.created),
        **version.fields,
    }
    if version.md5:
        document["md5Hash"] = version.md5
    if version.noncurrent:
        document["timeDeleted"] = rfc3339(version.noncurrent)
    if until := bucket.retained_until(version):
        document["retentionExpirationTime"] = rfc3339(until)
    return document


def check_fields(document: Json, *, new: bool = False) -> Json:
    """The writable part of a resource that a client sent, of the right types."""
    unknown = set(document) - WRITABLE - OUTPUT_ONLY
    if unknown:
        raise invalid(f"this local server does not know: {', '.join(sorted(unknown))}")
    fields = {key: value for key, value in document.items() if key in WRITABLE}
    for key, value in fields.items():
        kind: type = str if key in TEXTS else bool if key in FLAGS else dict
        if not isinstance(value, kind) and (new or value is not None):
            raise invalid(f"Invalid value for {key}: {value!r}")
    if fields.get("contentEncoding") not in {None, "", "identity"}:
        raise not_implemented("content encodings")
    if any(
        not isinstance(value, str) and (new or value is not None)
        for value in (fields.get("metadata") or {}).values()
    ):
        raise invalid("Invalid value for metadata: only texts")
    if "retention" in fields:  # with nothing in it, it is to be removed
        given = fields["retention"] or {}
        kept = {key: value for key, value in given.items() if value is not None}
        kept.pop("retentionExpirationTime", None)  # the library writes what it once read
        fields["retention"] = kept or None
    if fields.get("customTime"):
        parse_time(fields["customTime"])
    return fields


def check_new_retention(bucket: Bucket, retention: Json) -> None:
    """Source: cloud.google.com/storage/docs/object-lock"""
    if not bucket.fields.get("objectRetention"):
        raise invalid("Object retention is not enabled on this bucket.")
    if set(retention) != {"mode", "retainUntilTime"}:
        raise invalid("retention has a mode and a retainUntilTime")
    if retention["mode"] not in {"Unlocked", "Locked"}:
        raise invalid(f"Invalid value for retention.mode: {retention['mode']!r}")
    until = parse_time(retention["retainUntilTime"])
    if not now() < until <= now() + timedelta(days=36525):
        raise invalid("retainUntilTime must be in the future, at most 100 years away")


def merge(fields: Json, changes: Json) -> None:
    """Source: cloud.google.com/storage/docs/json_api#patch: null deletes."""
    for key, value in changes.items():
        if value is None:
            fields.pop(key, None)
        elif key == "metadata":
            kept = fields.get(key, {}) | value
            fields[key] = {name: text for name, text in kept.items() if text is not None}
        else:
            fields[key] = value


def check_preconditions(call: Call, version: Version | None, *, reading: bool = False) -> None:
    """Source: cloud.google.com/storage/docs/request-preconditions. Generation 0 means that
    there is no live version. A read whose Not condition fails is answered 304, else 412."""
    generation = version.generation if version else 0
    metageneration = version.metageneration if version else 0
    for name, value in zip(
        PRECONDITIONS, (generation,) * 2 + (metageneration,) * 2, strict=True
    ):
        wanted = call.number(name)
        if wanted is None:
            continue
        if name.endswith("NotMatch"):
            if wanted == value:
                raise not_modified() if reading else unmet()
        elif wanted != value:
            raise unmet()


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """RFC 9110 section 14: start and end of one range; None where the header is absent, has
    several ranges or is malformed: then everything is answered."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip(), re.A) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise Refusal(
            416, "requestedRangeNotSatisfiable", "Request range not satisfiable",
            location="Range", headers={"Content-Range": f"bytes */{size}"},
        )  # fmt: skip
    return start, end


def make_token(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read_token(token: str | None) -> tuple[str, int] | None:
    if not token:
        return None
    try:
        name, generation = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise invalid("Invalid argument: pageToken") from error
    return str(name), int(generation)
