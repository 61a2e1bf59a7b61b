"""Commands for a person's shell, written from words: each is quoted. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from backups.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Var:
    """A shell variable that the person sets."""

    name: str


Word: TypeAlias = "str | Var | tuple[str | Var, ...]"


def command(*words: Word) -> str:
    """One command; its options stand on lines of their own when it is long.

    Raises ConfigError for a word that cannot be quoted."""
    texts = [_word(word) for word in words]
    line = " ".join(texts)
    if len(line) <= 90:
        return line
    return " ".join(f"\\\n  {text}" if text.startswith("--") else text for text in texts)


def script(comment: str, variables: Sequence[tuple[str, str]], commands: Sequence[str]) -> str:
    """A script that stops at the first failure; `variables` are names and what they mean."""
    lines = ["#!/bin/sh", *(f"# {line}".rstrip() for line in comment.splitlines()), "set -eu"]
    lines += [f": ${{{name}:?{meaning}}}" for name, meaning in variables]
    return "\n".join([*lines, "", *commands]) + "\n"


def _word(word: Word) -> str:
    parts = word if isinstance(word, tuple) else (word,)
    return "".join(
        f'"${{{part.name}}}"' if isinstance(part, Var) else _quoted(part) for part in parts
    )


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise ConfigError("a value for a command has characters that do not belong")
    return shlex.quote(text)
