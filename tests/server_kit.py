"""Names that nobody else has, and addresses of databases on a server."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from backups.entropy import SystemEntropy


def unique(prefix: str) -> str:
    return prefix + SystemEntropy().bytes(6).hex()


def database_url(server_url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(server_url)._replace(path="/" + quote(name, safe="")).geturl()
