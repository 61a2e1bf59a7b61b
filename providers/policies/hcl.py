"""Terraform's language, written from values: nothing is pasted into it, all is quoted. Pure.

Source: HashiCorp, "HCL Native Syntax Specification", templates and string literals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from backups.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ref:
    """An expression of our own writing, such as `aws_iam_role.writer.name`."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """`kind "label" { arguments and further blocks }`."""

    kind: str
    labels: tuple[str, ...] = ()
    body: Mapping[str, Value] = field(default_factory=dict)
    blocks: Sequence[Block] = ()


Value: TypeAlias = "str | int | bool | Ref | Sequence[Value] | Mapping[str, Value]"


def render(blocks: Sequence[Block], comment: str = "") -> str:
    """The text of a file. Raises ConfigError for text that cannot be quoted."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return "\n".join([*([head] if head else []), *(_block(block, "") for block in blocks)])


def quoted(text: str) -> str:
    """A string literal that means exactly this text: no template in it is expanded."""
    if not text.isprintable():
        raise ConfigError("a value for a policy document has characters that do not belong")
    escaped = json.dumps(text, ensure_ascii=False)
    return escaped.replace("${", "$${").replace("%{", "%%{")


def json_of(value: Value) -> Ref:
    """The JSON text of a value, made when Terraform runs, so that a plan shows it well."""
    return Ref(f"jsonencode({_value(value, '  ')})")


def _block(block: Block, indent: str) -> str:
    inner = indent + "  "
    head = " ".join([block.kind, *(quoted(label) for label in block.labels)])
    parts = _aligned(block.body, inner)
    for nested in block.blocks:
        parts += ([""] if parts else []) + [_block(nested, inner).rstrip("\n")]
    return "\n".join([f"{indent}{head} {{", *parts, f"{indent}}}"]) + "\n"


def _aligned(body: Mapping[str, Value], indent: str) -> list[str]:
    """`terraform fmt` lines up the equals signs of neighbours that take one line each."""
    lines: list[str] = []
    group: list[tuple[str, str]] = []

    def flush() -> None:
        width = max((len(name) for name, _ in group), default=0)
        lines.extend(f"{indent}{name:<{width}} = {text}" for name, text in group)
        group.clear()

    for name, value in body.items():
        text = _value(value, indent)
        if "\n" in text:
            flush()
            lines.append(f"{indent}{name} = {text}")
        else:
            group.append((name, text))
    flush()
    return lines


def _value(value: Value, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, Ref):
        return value.text
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Mapping):
        lines = _aligned({quoted(key): item for key, item in value.items()}, inner)
        return "\n".join(["{", *lines, f"{indent}}}"])
    items = [_value(item, inner) for item in value]
    if len(items) < 2 and "\n" not in "".join(items):
        return f"[{''.join(items)}]"
    return "\n".join(["[", *(f"{inner}{item}," for item in items), f"{indent}]"])
