"""What a database holds, read from its catalogs, apart from the dump of it.

Each object of a user's making is decided by one pure rule, `missing`: it stands in the
archive's table of contents (by its oids in the source), another object brings it along (array
types, indexes of constraints, a partition's clones of triggers), its extension's script makes
it, or it is **not carried**. pg_dump leaves out, without a word, what belongs to an extension,
what hangs on an extension's table, what lies in the system's schemas, and what a role may not
see.

Which member of an extension its script makes is told by transactions: objects that were there
before their membership were added by hand (`ALTER EXTENSION ... ADD`); what hangs on a member
table, and was made in no transaction of the extension, was made by hand. pg_upgrade makes each
object in a transaction of its own, which leaves that question open: see `Missing.open_`.
Sources: PostgreSQL, src/bin/pg_dump/pg_dump.c (selectDumpable...), "System Catalogs".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass

from backups.engines.postgres.holdings import Address, Held, Inventory, Member, is_earlier
from backups.engines.postgres.toc import Toc

_REASON = "pg_dump does not carry it"
_REASONS = {"subscription": "only a superuser may read what it is to receive, and from where"}
_SHARED = 3
"""As many functions of an extension written in one transaction were written by its script."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An object that the archive does not carry."""

    address: Address
    kind: str
    reason: str
    added: bool = False
    """It was added to its extension by hand."""
    open_: bool = False
    """Whether its extension's script makes it can't be told."""


def missing(found: Inventory, toc: Toc) -> list[Missing]:
    """What the archive does not carry. Pure."""
    carried = {(entry.catalog_oid, entry.oid) for entry in toc.entries if entry.oid}
    by_hand = _ByHand(found)
    tables = {held.address: held for held in found.held}
    result = []
    for held in found.held:
        member = found.members.get(held.address)
        table = (found.relations, held.on)
        if member:
            one = by_hand.member(held, member, held.address in carried)
        elif held.address in carried or (held.kind == "constraint" and table in carried):
            one = None
            if held.on and (owner := found.members.get(table)):
                # An extension's table whose rows are dumped: what hangs on it is not.
                one = (
                    None
                    if held.address in carried
                    else by_hand.part(held, tables.get(table), owner)
                )
        elif held.on and (owner := found.members.get(table)):
            one = by_hand.part(held, tables.get(table), owner)
        else:
            one = Missing(held.address, held.kind, _REASONS.get(held.kind, _REASON))
        if one:
            result.append(one)
    return [*result, *_about(found, toc, carried)]


def _about(found: Inventory, toc: Toc, carried: Set[Address]) -> Iterator[Missing]:
    """Comments and security labels, of objects that have an entry of their own."""
    of = {entry.dump_id: (entry.catalog_oid, entry.oid) for entry in toc.entries}
    seen = {
        (of[each], entry.desc.lower())
        for entry in toc.entries
        if entry.desc in ("COMMENT", "SECURITY LABEL")
        for each in entry.dependencies
        if each in of
    }
    for catalog, oid, kind in found.about:
        address = (catalog, oid)
        if address in carried and address not in found.members and (address, kind) not in seen:
            yield Missing(address, kind, f"pg_dump does not carry its {kind}")


def in_words(found: Inventory, toc: Toc) -> list[tuple[str, str]]:
    """(kind, sentence) of what is missing and no object by itself. Pure."""
    result = []
    tags = {entry.tag for entry in toc.entries if entry.desc == "USER MAPPING"}
    for user, server, seen in found.mappings:
        whose = f"user mapping for {user} on server {server}"
        if f"USER MAPPING {user} SERVER {server}" not in tags:
            result.append(("user mapping", f"{whose}: {_REASON}"))
        elif not seen:
            words = "the backup's user may not read them, a superuser may"
            result.append(
                ("set of options of a user mapping", f"options of the {whose}: {words}")
            )
    result += _ByHand(found).changes()
    if found.database_labels:
        words = "pg_dump does not carry them"
        result.append(("security label", f"security labels of the database itself: {words}"))
    return result


class _ByHand:
    """What was done to extensions by hand."""

    def __init__(self, found: Inventory) -> None:
        self._found = found
        self._of: dict[str, Set[int]] = {}
        """Transactions in which an extension's script may have run."""
        self._moved: set[str] = set()
        """Extensions whose members pg_upgrade made, each by itself."""
        self._only: dict[str, int] = {}
        """The one transaction of an extension that was never updated."""
        members: dict[str, list[Member]] = {}
        shared: dict[str, Counter[int]] = {}
        for member in found.members.values():
            members.setdefault(member.extension, []).append(member)
        for held in found.held:
            owner = found.members.get(held.address)
            if owner and held.kind == "function":
                shared.setdefault(owner.extension, Counter())[held.made] += 1
        for name, those in members.items():
            added = Counter(member.added for member in those)
            made = those[0].extension_made
            written = shared.get(name, Counter[int]())
            self._of[name] = {made, *added} | {w for w, n in written.items() if n >= _SHARED}
            many = len(added) > 2 and 3 * len(added) >= len(those)
            if many or 2 * sum(member.earlier for member in those) > len(those) > 2:
                self._moved.add(name)
            elif not any(is_earlier(each, made) for each in added):
                self._only[name] = made

    def added(self, held: Held, member: Member) -> bool:
        """Whether a person made it a member."""
        if member.extension in self._moved:
            return False
        only = self._only.get(member.extension, member.added)
        made = member.made or held.made
        return member.earlier or is_earlier(made, member.added) or member.added != only

    def member(self, held: Held, member: Member, carried: bool) -> Missing | None:
        """Whether the script makes it, or, of a table, whether its rows are carried."""
        if self.added(held, member):
            return Missing(
                held.address,
                held.kind,
                f"it was added to the extension {member.extension} by hand, whose script "
                "does not make it",
                added=True,
            )
        if held.address[1] in self._found.altered and held.kind == "function":
            if held.made in self._of[member.extension] or member.extension in self._moved:
                return None
            return Missing(
                held.address,
                "change of a function",
                f"it was altered after the extension {member.extension} had made it",
            )
        if held.kind == "table" and not carried and not member.marked:
            return Missing(
                held.address,
                "rows of a table",
                f"it belongs to the extension {member.extension}, which does not have its "
                "rows dumped",
            )
        if held.kind == "sequence" and not carried and not member.marked:
            return Missing(
                held.address,
                "position of a sequence",
                f"it belongs to the extension {member.extension}, which does not dump it",
            )
        return None

    def changes(self) -> list[tuple[str, str]]:
        """(kind, sentence) of columns and comments that no script of an extension made."""
        return [
            (kind, f"{name}: it is not as the extension {member.extension} makes it")
            for address, made, kind, name in self._found.changed
            if (member := self._found.members[address])
            and member.extension not in self._moved
            and made not in self._of[member.extension]
            and not member.earlier
        ]

    def part(self, held: Held, table: Held | None, owner: Member) -> Missing | None:
        """What hangs on a member table."""
        if table and self.added(table, owner):
            return None  # it comes with it
        if held.made in self._of[owner.extension]:
            return None
        return Missing(
            held.address,
            held.kind,
            f"it hangs on a table of the extension {owner.extension}, whose script does not "
            "make it",
            open_=owner.extension in self._moved,
        )
