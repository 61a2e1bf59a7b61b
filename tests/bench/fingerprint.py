"""The fingerprint by itself: follows an archive on stdin, prints the CPU seconds it took."""

from __future__ import annotations

import os
import resource
import sys

from backups.engines.postgres.archive import ArchiveParser
from backups.engines.postgres.content import ContentHasher


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_whole(size: int = 1 << 20) -> bytes:
    pieces = []
    while size and (piece := os.read(sys.stdin.fileno(), size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def main() -> None:
    parser, hasher, cpu = ArchiveParser(), ContentHasher(), 0.0
    while block := read_whole():
        before = spent()
        hasher.add(parser.feed(block))
        cpu += spent() - before
    parser.finish()
    rows = sum(table.rows for table in hasher.result().tables)
    print(f'{{"fingerprint_cpu_seconds": {cpu:.2f}, "rows": {rows}}}')


if __name__ == "__main__":
    main()
