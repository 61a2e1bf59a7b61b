"""Canonical JSON: one value has one text, so digests and signatures are of the value. Pure.

RFC 8785 (JCS) for null, booleans, strings, arrays, objects and integers. One deviation: an
integer is written in plain decimal whatever its size (sequences need 64 bits, and a double
has 53). There are no floating-point numbers.

There is no parser here: a reader parses as it likes, writes what it understood, and
compares. Duplicate names, white space, another order or an unknown field then differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def dumps(value: object) -> bytes:
    """The canonical text of `value`, UTF-8.

    Raises ValueError for what has none: floats, other types, lone surrogates.
    """
    text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _ordered(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))  # RFC 8785, 3.2.3
        return {name: _ordered(value[name]) for name in names}
    raise ValueError(f"canonical JSON has no {type(value).__name__}")
