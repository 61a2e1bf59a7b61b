"""A Google Cloud Storage endpoint for tests, by Google's documentation of its JSON API.

    python gcs_server FOLDER PORT

Writes FOLDER/key.json, the project owner's key, and serves on 127.0.0.1. It wants
google_crc32c, PyJWT and cryptography; the rest is the standard library.

    refusals.py   every answer that is not a success       state.py    buckets and versions
    wire.py       HTTP: streams in, replies out            access.py   accounts, tokens, rights
    buckets.py    objects.py    uploads.py                 related.py  multipart bodies
    partial.py    the `fields` parameter                   local.py    tokens, test controls

What it doesn't do is answered 501; a parameter or field that it doesn't know, 400.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from access import Accounts
from buckets import Buckets
from local import Local
from objects import PRECONDITIONS, Objects
from state import State
from uploads import Uploads
from wire import Handler, Route, make_server


def main(folder: Path, port: int) -> None:
    bodies = folder / "bodies"
    bodies.mkdir(parents=True, exist_ok=True)
    for left in bodies.iterdir():  # of an earlier process
        left.unlink()
    accounts = Accounts()
    server = make_server(("127.0.0.1", port), routes(State(bodies), accounts))
    place = f"http://127.0.0.1:{server.server_address[1]}"
    key = folder / "key.json"
    if key.exists():
        accounts.owner = accounts.add_from(json.loads(key.read_text())).email
    else:
        owner = accounts.add("project-owner")
        accounts.owner = owner.email
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(owner.document(f"{place}/token"), file)
    (folder / "address").write_text(place)
    server.serve_forever()


def routes(state: State, accounts: Accounts) -> list[Route]:
    buckets, objects = Buckets(state, accounts), Objects(state, accounts)
    uploads, local = Uploads(state, accounts), Local(accounts)
    found: list[Route] = []

    def add(methods: str, path: str, handler: Handler, *parameters: str) -> None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
        for method in methods.split():
            found.append(Route(method, re.compile(pattern), handler, frozenset(parameters)))

    metageneration = ("ifMetagenerationMatch", "ifMetagenerationNotMatch")
    page = ("prefix", "maxResults", "pageToken", "projection")
    one = ("generation", "projection", *PRECONDITIONS)
    bucket, every = "/storage/v1/b/{bucket}", "/storage/v1/b"
    thing = f"{bucket}/o/{{object}}"
    add("POST", every, buckets.insert, "project", "projection", "enableObjectRetention")
    add("GET", every, buckets.list, "project", *page)
    add("GET", bucket, buckets.get, "projection", *metageneration)
    add("PATCH", bucket, buckets.patch, "projection", *metageneration)
    add("DELETE", bucket, buckets.delete, *metageneration)
    add("POST", f"{bucket}/lockRetentionPolicy", buckets.lock_retention, *metageneration)
    add("GET", f"{bucket}/iam", buckets.get_policy, "optionsRequestedPolicyVersion")
    add("PUT", f"{bucket}/iam", buckets.set_policy)
    add("GET", f"{bucket}/iam/testPermissions", buckets.test_permissions, "permissions")
    add("GET", f"{bucket}/o", objects.list, "delimiter", "startOffset", "endOffset", "versions",
        *page)  # fmt: skip
    add("GET", thing, objects.get, *one)
    add("GET", f"/download{thing}", objects.get, *one)
    add("PATCH", thing, objects.patch, *one, "overrideUnlockedRetention")
    add("PUT", thing, objects.update, *one, "overrideUnlockedRetention")
    add("DELETE", thing, objects.delete, *one)
    begin = ("uploadType", "name", "projection", *PRECONDITIONS)
    add("POST", f"/upload{bucket}/o", uploads.insert, *begin, "upload_id")
    add("PUT", f"/upload{bucket}/o", uploads.go_on, *begin, "upload_id")
    add("DELETE", f"/upload{bucket}/o", uploads.cancel, *begin, "upload_id")
    add("POST", "/token", local.token)
    add("POST", "/v1/projects/-/serviceAccounts/{email}:generateAccessToken", local.impersonate)
    add("GET", "/_local/health", local.health)
    add("POST", "/_local/accounts", local.make_account)
    add("POST", "/_local/roles", local.make_role)
    add("POST", "/_local/revoke", local.revoke)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
