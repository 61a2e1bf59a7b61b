"""How a difference between two fingerprints is told to people. Pure.

A digest says nothing to anybody: two definitions are shown as texts. Texts of definitions are
the customer's, and may hold secrets (the password of a user mapping, a key in a function's
body). So they are shown to the person at the terminal alone. What goes into the catalog, the
audit chain, evidence, reports and answers of the API names the object and its lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import unified_diff
from itertools import islice

from backups.errors import EngineError
from backups.format.fingerprint import MISSING, Difference

Definitions = Callable[[str, str, str], tuple[str, str] | None]
"""`ports.Restoration.definitions`: kind, schema and name to both texts, or None."""

LINES = 20
"""Of the difference between two texts that are shown."""
NUMBERS = 5
"""Numbers of lines that are named; the rest is counted."""


def is_definition(found: Difference) -> bool:
    """Whether both sides have the object, under definitions that are not the same."""
    return found.item is not None and MISSING not in (found.expected, found.actual)


def told(found: Difference, texts: tuple[str, str] | None) -> tuple[str, str]:
    """What was expected and what is there, for the record: no text of a definition, and no
    digest either. `texts`: both definitions where the engine keeps them."""
    if not is_definition(found):
        return _plain(found.expected), _plain(found.actual)
    if texts is None:
        return "the source's definition", "another definition"
    source, copy = (text.splitlines() for text in texts)
    if source == copy:
        return "the source's definition", "the same text, with another owner, rights or comment"
    return f"the source's definition, {_count(source)}", (
        f"another definition, {_count(copy)}; {_where(source, copy)}"
    )


def shown(subject: str, texts: tuple[str, str] | None) -> str:
    """Both texts, as a unified difference that is cut after 20 lines; empty without texts."""
    if texts is None or texts[0] == texts[1]:
        return ""
    lines = unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), "in the source", "in the copy",
        lineterm="", n=2,
    )  # fmt: skip
    listed = list(islice(lines, LINES + 1))
    cut = ["..."] if len(listed) > LINES else []
    return "\n".join([f"{subject}:", *(f"    {each}" for each in listed[:LINES] + cut)])


def texts_of(found: Difference, definitions: Definitions) -> tuple[str, str] | None:
    """Both definitions of what differs; None where there are none, or they can't be read: that
    they differ is told all the same."""
    try:
        return definitions(*found.item) if found.item is not None else None
    except EngineError:
        return None


def _plain(side: str) -> str:
    """A definition that only one side has is there: its digest says nothing."""
    return "a definition" if side.startswith("definition ") else side


def _count(lines: Iterable[str]) -> str:
    count = len(list(lines))
    return "1 line" if count == 1 else f"{count} lines"


def _where(source: list[str], copy: list[str]) -> str:
    longest = max(len(source), len(copy))
    padded = [each + [""] * (longest - len(each)) for each in (source, copy)]
    differ = [
        number for number, (ours, theirs) in enumerate(zip(*padded, strict=True), 1)
        if ours != theirs
    ]  # fmt: skip
    named = ", ".join(map(str, differ[:NUMBERS])) or str(longest)
    more = f" and {len(differ) - NUMBERS} more" if len(differ) > NUMBERS else ""
    return f"it differs in line{'s' if len(differ) > 1 else ''} {named}{more}"
