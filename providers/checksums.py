"""The checksums that stores verify, written `algorithm:hex` as receipts have them."""

from __future__ import annotations

import hashlib

from backups.errors import CapabilityMissing


def checksum_of(algorithm: str, data: bytes) -> str:
    """`algorithm` is sha256, md5 or crc32c (RFC 3720, appendix B.4, big-endian).

    Raises CapabilityMissing for another one."""
    if algorithm == "crc32c":
        import google_crc32c  # noqa: PLC0415  part of the gcs extra

        return f"crc32c:{google_crc32c.value(data):08x}"
    if algorithm == "md5":  # against accidents; the manifest's SHA-256 is against people
        return f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
    if algorithm == "sha256":
        return f"sha256:{hashlib.sha256(data).hexdigest()}"
    raise CapabilityMissing(f"a store answered with a checksum of kind {algorithm!r}")
