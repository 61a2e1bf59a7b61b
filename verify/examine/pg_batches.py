"""Many small relations asked at once, each by itself where that tells of any trouble.

A savepoint, its settings and a question each cost a round trip: with a thousand tables they
cost more than the work. One statement over many small ones is only believed where it ends
well; whatever it finds, it finds again for each relation alone, with that one's own limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")

AT_ONCE = 100
"""Relations in one statement: each holds a lock, of which servers keep few."""
SMALL = 16 << 20
"""Bytes of relations in one statement; a larger one goes alone."""


def batches(relations: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """All of them in their order, in groups; `size` is in bytes."""
    some: list[T] = []
    held = 0
    for each in relations:
        if some and (held + size(each) > SMALL or len(some) >= AT_ONCE):
            yield some
            some, held = [], 0
        some.append(each)
        held += size(each)
    if some:
        yield some


def together(some: Sequence[Any], ask: Callable[[], T | None]) -> T | None:
    """What one statement over all of `some` says; None where each is to be asked alone."""
    if len(some) < 2:
        return None
    try:
        return ask()
    except psycopg.Error:
        return None  # the same trouble is met again, and told of its relation
