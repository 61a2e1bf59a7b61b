"""YAML as people write it, read so that every problem has a file, a line and a path.

A small YAML: text, numbers, booleans, lists and mappings. Aliases (which can make a short
file enormous), types that are not in JSON and keys given twice are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import ConstructorError, SafeConstructor

from backups.errors import ConfigError

LIMIT = 1 << 20
"""Bytes of one file."""
DEPTH = 20
"""Levels of nesting; composing and building recurse."""

Place = tuple[str | int, ...]
"""Keys and positions that lead to a value."""
EACH = "*"
"""In a place that is searched for: every item of a list."""

_YAML = "tag:yaml.org,2002:"
_SCALARS = {_YAML + name for name in ("str", "int", "float", "bool", "null")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it was built in

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, where it stands, in words without the value."""

    file: Path
    line: int
    place: str
    words: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: "
        return where + (f"{self.place}: " if self.place else "") + self.words


@dataclass(frozen=True, slots=True)
class Document:
    """One file as plain values; `problems` grows as it is read and checked."""

    file: Path
    data: Any
    lines: Mapping[Place, int]
    problems: list[Problem] = field(default_factory=list)

    def complain(self, place: Place, words: str) -> None:
        """Note a problem at `place`, or at the nearest thing around it that is there."""
        found = place
        while found and found not in self.lines:
            found = found[:-1]
        self.problems.append(
            Problem(self.file, self.lines.get(found, 1), in_words(place), words)
        )

    def find(self, *pattern: str) -> Iterator[tuple[Place, str]]:
        """Every text at `pattern`; what has another shape is passed over."""
        yield from ((at, v) for at, v in _find(self.data, pattern, ()) if isinstance(v, str))


def read(file: Path) -> Document:
    """The file's plain values, and whatever is wrong with them as YAML.

    Raises ConfigError when it can't be read at all.
    """
    try:
        with file.open("rb") as handle:
            data = handle.read(LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}", hint="") from error
    if len(data) > LIMIT:
        raise ConfigError(
            f"{file} is longer than {LIMIT} bytes", hint="Split it: a directory is read whole."
        )
    try:
        for problem in _unsafe(file, data):
            return Document(file, {}, {}, [problem])
        root = yaml.compose(data, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        # Not the error's own text: it quotes the file, where a secret may stand.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = Problem(file, line, "", f"this is not YAML: {error.problem}")
        return Document(file, {}, {}, [problem])
    except (yaml.YAMLError, UnicodeDecodeError):
        problem = Problem(file, 1, "", "this is not YAML: it has characters that are not text")
        return Document(file, {}, {}, [problem])
    lines: dict[Place, int] = {}
    problems: list[Problem] = []
    data = _build(root, (), file, lines, problems) if root is not None else {}
    return Document(file, data, lines, problems)


def validate(document: Document, model: type[M]) -> M | None:
    """The document as a `model`; None when it isn't one, and each reason is a problem."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            place = tuple(part for part in one["loc"] if part != "[key]")
            words = _WORDS.get(one["type"]) or one["msg"].removeprefix("Value error, ")
            if one["type"] == "extra_forbidden":
                words += near(str(place[-1]), _keys(model, place[:-1]))
            if one["type"] == "string_type" and isinstance(one["input"], (int, float)):
                words += "; put it in quotes"
            document.complain(place, words.replace("Input should be", "must be"))
        return None


def refuse(what: str, problems: list[Problem]) -> None:
    """Raise ConfigError with every problem, if there are any."""
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise ConfigError(
            f"{what} has {count}:{lines}",
            hint="Correct them and try again; nothing was changed.",
        )


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def in_words(place: Place) -> str:
    """`customers[0].databases[1].url`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in place)
    return text.removeprefix(".")


_WORDS = {
    "extra_forbidden": "there is no such key",
    "missing": "this key is missing",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must have keys",
    "model_type": "must have keys",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_pattern_mismatch": "is not of the form that is wanted here",
}


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that may stand at `place` in a document of `model`."""
    for part in place:
        if part in model.model_fields:
            model = _inside(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_inside, get_args(annotation))), None)


def _find(data: Any, pattern: tuple[str, ...], place: Place) -> Iterator[tuple[Place, Any]]:
    if not pattern:
        yield place, data
    elif pattern[0] == EACH and isinstance(data, list):
        for position, item in enumerate(data):
            yield from _find(item, pattern[1:], (*place, position))
    elif isinstance(data, dict) and pattern[0] in data:
        yield from _find(data[pattern[0]], pattern[1:], (*place, pattern[0]))


def _unsafe(file: Path, data: bytes) -> Iterator[Problem]:
    depth = 0
    for event in yaml.parse(data, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            yield Problem(file, line, "", "aliases (*name) are not taken: write it out")
        if depth > DEPTH:
            yield Problem(file, line, "", f"this is nested deeper than {DEPTH} levels")


def _build(
    node: yaml.Node, place: Place, file: Path, lines: dict[Place, int], problems: list[Problem]
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)

    def complain(line: int, place: Place, words: str) -> None:
        problems.append(Problem(file, line, in_words(place), words))

    if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
        return [
            _build(item, (*place, position), file, lines, problems)
            for position, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != _YAML + "str":
                complain(at, place, "a key here is not text; put it in quotes")
                continue
            inner = (*place, key.value)
            if key.value in mapping:
                complain(at, inner, f"this key stands on line {lines[inner]} already")
                continue
            lines[inner] = at
            mapping[key.value] = _build(value, inner, file, lines, problems)
        return mapping
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return SafeConstructor().construct_object(node)
        except (ConstructorError, ValueError, KeyError, IndexError):
            complain(line, place, "this value can't be understood; put it in quotes")
            return None
    complain(line, place, "this kind of value is not taken; put text in quotes")
    return None
