"""What a backup does not carry, as its manifest says it in clear: counts, never names. Pure.

The names stand in the encrypted fingerprint (`model.Fingerprint.not_backed_up`). A manifest's
warnings hold both this and what else is worth a warning; the prefix tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

PREFIX = "not backed up: "
"""Of a warning that says that the source held something that the backup does not carry."""


def not_carried(warnings: Sequence[str]) -> tuple[str, ...]:
    """Those of a manifest's warnings that say so, without the prefix."""
    return tuple(each.removeprefix(PREFIX) for each in warnings if each.startswith(PREFIX))


def counted(warnings: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The warnings of a manifest whose fingerprint names these: where an engine gave names and
    no count, one is added, so that nothing is known to the fingerprint alone."""
    if not names or not_carried(warnings):
        return tuple(warnings)
    things = "1 thing" if len(names) == 1 else f"{len(names)} things"
    return (*warnings, f"{PREFIX}{things}, named in the fingerprint")
