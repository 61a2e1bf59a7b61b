"""How a customer proves that a bucket is theirs: by putting an object that we name. Pure.

The commands are those of the clouds' own tools. They create only, as the bucket's policy may
demand of everybody (`backups store policy`).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from providers.policies import shell
from providers.urls import StoreUrl


def put_command(url: StoreUrl, key: str) -> str:
    """The command that puts an empty object under a key of the store."""
    full = f"{url.prefix}/{key}" if url.prefix else key
    if url.scheme == "s3":
        where = [
            word
            for option, name in (("region", "--region"), ("endpoint", "--endpoint-url"))
            if option in url.options
            for word in (name, url.options[option])
        ]
        put = ["aws", "s3api", "put-object", "--bucket", url.bucket, "--key", full]
        return _line(*put, "--if-none-match", "*", *where)
    if url.scheme == "gs":
        target = f"gs://{url.bucket}/{full}"
        return _line("gcloud", "storage", "cp", "--if-generation-match=0", "/dev/null", target)
    if url.scheme == "az":
        where = ["--account-name", url.account, "--container-name", url.bucket]
        put = ["az", "storage", "blob", "upload", *where, "--name", full, "--data", ""]
        return _line(*put, "--auth-mode", "login")
    path = PurePosixPath(url.prefix) / key
    return f"{_line('mkdir', '-p', str(path.parent))} && {_line('touch', str(path))}"


def _line(*words: str) -> str:
    """One command on one line: it is copied from a table's cell."""
    return shell.command(*words).replace("\\\n  ", "")
