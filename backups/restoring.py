"""How a restore treats its target, and what a copy lacks. Plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a restore treats its target."""

    jobs: int = 2
    """Parallel index builds and row streams."""
    create_roles: bool = True
    """Make roles that the target server lacks, without login."""
    only: tuple[str, ...] = ()
    """Schemas and tables, as the engine names them; none: all there is."""
    owner: str = ""
    """The role that is to own all that is restored; empty: the source's owners."""
    no_privileges: bool = False
    """Leave out who else may use what is restored."""


@dataclass(frozen=True, slots=True)
class Unrestored:
    """One thing that a copy lacks, or has in another form than its source."""

    subject: str
    """Kind and name, as `foreign key ord_cust_fkey of public.ord`."""
    reason: str
    """What the server said, and what was done instead."""
    at_source: bool
    """The source's own rows or definitions cause it: no restore could make it."""
