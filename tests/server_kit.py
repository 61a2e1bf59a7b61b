"""Names that nobody else has, and addresses of databases on a server."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from backups.entropy import SystemEntropy

POSTGRES = (14, 15, 16, 17, 18, 19)
"""Major versions of PostgreSQL that the README says were tested: the cloud has each."""


def unique(prefix: str) -> str:
    return prefix + SystemEntropy().bytes(6).hex()


def database_url(server_url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(server_url)._replace(path="/" + quote(name, safe="")).geturl()
