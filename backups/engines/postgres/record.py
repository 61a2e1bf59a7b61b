"""What a backup does not carry, in the words that people read. Pure.

Sentences with names go into the fingerprint, which is encrypted; the manifest, which is not,
gets kinds and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backups.engines.postgres import inventory
from backups.engines.postgres.complaints import Remarks
from backups.engines.postgres.holdings import Address, Inventory
from backups.engines.postgres.inventory import Missing
from backups.engines.postgres.members import Members
from backups.engines.postgres.row_counts import Counted
from backups.engines.postgres.toc import Toc
from backups.errors import DumpFailed
from backups.model import TableContent

PREFIX = "not backed up: "
"""How a warning begins that an alarm is raised for."""
BESIDE = "it is in the artifact `members`"
"""Of what the archive lacks and that artifact carries."""
_PLURALS = {"y": "ies", "s": "ses", "x": "xes"}


@dataclass(frozen=True, slots=True)
class Record:
    """Of one dump."""

    members: Members = field(default_factory=Members)
    not_backed_up: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def record(
    names: Mapping[Address, str],
    found: Inventory,
    toc: Toc,
    missing: Sequence[Missing],
    members: Members,
) -> Record:
    """Of what is missing: named, unless the artifact `members` carries it."""
    carried = set(members.carried)
    lost: list[tuple[str, str]] = []
    not_compared: list[str] = []
    for each in missing:
        name = names.get(each.address, each.kind)
        of_rows = each.kind == "rows of a table"
        of_position = each.kind == "position of a sequence"
        what = f"rows of {name}" if of_rows else f"position of {name}" if of_position else name
        if each.address in carried:
            not_compared.append(f"{what}: {each.reason}; {BESIDE}, and not compared")
        elif each.open_:
            not_compared.append(
                f"{what}: it hangs on an extension's table; whether the extension's script "
                "makes it can't be told after pg_upgrade"
            )
        else:
            lost.append((each.kind, f"{what}: {each.reason}"))
    lost += inventory.in_words(found, toc)
    return Record(
        members,
        tuple(sentence for _, sentence in lost),
        tuple(not_compared),
        counted(kind for kind, _ in lost),
    )


def counted(kinds: Iterable[str]) -> tuple[str, ...]:
    """One warning of kinds and counts, without names; none where there is nothing."""
    found = Counter(kinds)
    if not found:
        return ()
    parts = ", ".join(_plural(kind, count) for kind, count in sorted(found.items()))
    return (f"{PREFIX}{parts} (names are in `backups show --contents`)",)


def with_properties(before: Record, stays: tuple[str, ...]) -> Record:
    """With those of the database itself that a copy does not get."""
    return replace(
        before,
        not_backed_up=(*before.not_backed_up, *stays),
        warnings=(*before.warnings, *counted("property of the database" for _ in stays)),
    )


def with_remarks(before: Record, remarks: Remarks) -> Record:
    """With what pg_dump said."""
    return Record(
        before.members,
        (*before.not_backed_up, *remarks.not_backed_up),
        (*before.not_compared, *remarks.others),
        (*before.warnings, *remarks.warnings),
    )


def uncounted(toc: Toc, seen: Mapping[int, int], witness: Counted) -> tuple[str, ...]:
    """Tables that were not counted a second time, with the reason.

    Raises DumpFailed where the server's count is not the archive's.
    """
    result = []
    for entry in toc.entries:
        if entry.desc != "TABLE DATA":
            continue
        name = f"{entry.namespace}.{entry.tag}"
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        reason = witness.not_counted.get(entry.oid)
        rows = witness.rows.get(entry.oid)
        if reason:
            result.append(f"rows of table {name}: not counted a second time, {reason}")
        elif rows != seen.get(entry.oid, 0):
            raise DumpFailed(
                f"the archive holds {seen.get(entry.oid, 0):,} rows of table {name}, and the "
                f"server counts {rows} in the same snapshot",
                hint="Take the backup again. If it fails so again, an index of the table or "
                "the table itself may be damaged: see amcheck.",
            )
    return tuple(result)


def require_large_objects(found: Inventory, archive: TableContent | None) -> None:
    """Raises DumpFailed where the archive has not as many large objects as the server."""
    rows = archive.rows if archive else 0
    if rows != found.large_objects:
        raise DumpFailed(
            f"the archive holds {rows:,} large objects, and the server counts "
            f"{found.large_objects:,} in the same snapshot",
            hint="Take the backup again.",
        )


def _plural(kind: str, count: int) -> str:
    if count == 1 or kind.endswith("rows of a table"):
        return f"{count} {kind}" if kind != "rows of a table" else f"rows of {count} tables"
    head, of, rest = kind.partition(" of ")
    end = _PLURALS.get(head[-1], "")
    plural = head[:-1] + end if end == "ies" else head + (end or "s")
    return f"{count} {plural}{of}{rest}"
