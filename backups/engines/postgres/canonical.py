"""One text for definitions that a restore is known to reword. Pure.

pg_dump prints expressions from the server's parse trees, with every parenthesis. Parsing
that text again does not always give the same tree, so a copy's definition may read
differently though it means the same (seen with PostgreSQL 15, 16 and 18):

- `status IN ('a', 'b')` on a varchar column is printed as
  `(ARRAY['a'::character varying, ...])::text[]`; parsing that casts each element, and a copy
  prints `ARRAY[('a'::character varying)::text, ...]` (parse_expr.c, transformTypeCast).
- `x BETWEEN 1 AND 2 AND y` is printed as `((a AND b) AND y)`; a parser that reads this
  flattens it to `(a AND b AND y)` (gram.y, makeAndExpr); the same for OR.

Both spellings become the second one. The result is for digests only: it is never run, and
where a text is not such an expression (a function's body) it merely has to be the same for
the source and for its copy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TYPE = r'(?:"(?:[^"]|"")*"|[\w. ])+(?:\([0-9, ]*\))?'
_TOKEN = re.compile(
    rf"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[)\]]::(?P<type>{_TYPE})\[\]"""
    r"""|[()\[\],]|\ AND\ |\ OR\ |[^'"()\[\],\ ]+|.""",
    re.DOTALL | re.VERBOSE,
)
_OPERATORS = (" AND ", " OR ")


@dataclass(slots=True)
class _Group:
    """What stands between a pair of brackets, its inner groups rendered already."""

    opening: str = ""
    parts: list[str] = field(default_factory=list)
    operators: set[str] = field(default_factory=set)
    inner: dict[int, _Group] = field(default_factory=dict)
    """Inner groups by their place in `parts`."""

    def text(self) -> str:
        """The inside, with the operands of an AND of ANDs (an OR of ORs) flattened."""
        if len(self.operators) == 1:
            for place, group in self.inner.items():
                if group.operators == self.operators and self._is_operand(place):
                    self.parts[place] = self.parts[place][1:-1]
        return "".join(self.parts)

    def _is_operand(self, place: int) -> bool:
        around = self.parts[max(place - 1, 0) : place] + self.parts[place + 1 : place + 2]
        return all(part in _OPERATORS for part in around)

    def array(self) -> _Group | None:
        """The brackets, when the inside is `ARRAY[...]` and nothing else."""
        alone = self.parts[:1] == ["ARRAY"] and len(self.parts) == 2
        return self.inner.get(1) if alone else None

    def elements(self) -> list[str]:
        """What stands between the commas."""
        cuts = [place for place, part in enumerate(self.parts) if part == ","]
        starts, ends = [0, *(cut + 1 for cut in cuts)], [*cuts, len(self.parts)]
        return ["".join(self.parts[s:e]).strip(" ") for s, e in zip(starts, ends, strict=True)]


def canonical(defn: str) -> str:
    """The definition in the words that a copy of a copy would use."""
    if "ARRAY[" not in defn and not any(operator in defn for operator in _OPERATORS):
        return defn
    stack = [_Group()]
    for found in _TOKEN.finditer(defn):
        word = found[0]
        if word in "([":
            stack.append(_Group(word))
        elif word[0] in ")]":
            group = stack.pop()
            if not stack or group.opening + word[0] not in ("()", "[]"):
                return defn  # not an expression of the server's making
            parent = stack[-1]
            cast = found["type"]
            if cast and word[0] == ")" and (array := group.array()):
                casts = ", ".join(f"({element})::{cast}" for element in array.elements())
                parent.parts.append(f"ARRAY[{casts}]")
            elif cast and word[0] == "]" and parent.parts[-1:] == ["ARRAY"]:
                # The same without parentheses, as CREATE STATISTICS is printed.
                casts = ", ".join(f"{element}::{cast}" for element in group.elements())
                parent.parts.append(f"[{casts}]")
            else:
                parent.inner[len(parent.parts)] = group
                parent.parts.append(group.opening + group.text() + word)
        else:
            if word in _OPERATORS:
                stack[-1].operators.add(word)
            stack[-1].parts.append(word)
    return stack[0].text() if len(stack) == 1 else defn
