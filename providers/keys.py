"""Which object keys exist, for every adapter alike: one rule, stricter than any store's."""

from __future__ import annotations

import re

from backups.errors import StoreError

# No empty part, no leading dot (so no `.`, `..` or hidden temporary file), no backslash,
# control character or anything that a file system, a URL or a shell could read otherwise.
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")
_LIST_PREFIX = re.compile(rf"(?:{_PART}/)*(?:{_PART})?")
LONGEST = 900
"""Characters; S3 allows 1,024 bytes and the store's own prefix comes on top."""


def check_key(key: str) -> str:
    """Return `key` if an adapter may touch it; raises StoreError."""
    if len(key) > LONGEST or not _KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not a key that this program writes or reads")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` if keys could start with it (it may be empty or end in `/`)."""
    if len(prefix) > LONGEST or not _LIST_PREFIX.fullmatch(prefix):
        raise StoreError(f"{prefix[:80]!r} is not a prefix of keys of this program")
    return prefix
