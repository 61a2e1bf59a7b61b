"""Partial responses: the `fields` parameter, a,b/c,d(e,f),*.

Source: cloud.google.com/storage/docs/json_api#partial-response
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from refusals import invalid
from state import Json
from wire import Call


def select(call: Call, document: Json) -> Json:
    """What the call asks for of a document."""
    text = call.one("fields")
    if not text:
        return document
    tokens = re.findall(r"[A-Za-z0-9_*-]+|[(),/]", text)
    if "".join(tokens) != text.replace(" ", ""):
        raise invalid(f"Invalid field selection {text}")
    tree = _tree(tokens, text)
    if tokens:
        raise invalid(f"Invalid field selection {text}")
    return _only(document, tree)


def _tree(tokens: list[str], text: str) -> Json:
    tree: Json = {}
    while tokens and tokens[0] != ")":
        node = tree
        while True:
            name = tokens.pop(0)
            if name in "(),/":
                raise invalid(f"Invalid field selection {text}")
            node = node.setdefault(name, {})
            if tokens[:1] != ["/"]:
                break
            tokens.pop(0)
        if tokens[:1] == ["("]:
            tokens.pop(0)
            node |= _tree(tokens, text)
            if tokens[:1] != [")"]:
                raise invalid(f"Invalid field selection {text}")
            tokens.pop(0)
        if tokens[:1] == [","]:
            tokens.pop(0)
    return tree


def _only(value: Any, tree: Json) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_only(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    picks = chain(((k, tree[k]) for k in value if k in tree),
                  ((k, tree["*"]) for k in value if "*" in tree and k not in tree))  # fmt: skip
    return {key: _only(value[key], below) for key, below in picks}
