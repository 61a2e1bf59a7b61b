"""Copies beside a database: where they lie, and that nothing stays of one without a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote, urlsplit

from backups.errors import BackupsError, UsageError
from backups.model import RestoreOptions, Source


def on_the_same_server(source: Source, name: str) -> Source:
    """A database of that name, where the URL's path names the database."""
    url = urlsplit(source.url)._replace(path="/" + quote(name, safe=""))
    return replace(source, url=url.geturl())


def refuse_owners(options: RestoreOptions, what: str) -> None:
    """Raises UsageError where a restore asks for other owners or rights than the source's, and
    `what` can't have them."""
    if options.owner or options.no_privileges:
        raise UsageError(
            f"{what} can't be given an owner, or be left without rights",
            hint="Leave out --owner and --no-privileges: they are for PostgreSQL databases.",
        )


@contextmanager
def removed_at_the_end(remove: Callable[[], None], name: str) -> Iterator[None]:
    """`remove` drops what was not published; an error that it meets is added to the first."""
    try:
        yield
    except BaseException as error:
        try:
            remove()
        except BackupsError as also:
            error.add_note(f"the database {name!r} could not be removed: {also}")
        raise
    remove()
