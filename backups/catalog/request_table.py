"""Tables of requests and consent, beside `tables`."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from backups.catalog.columns import Id, Instant, metadata

requests = Table(
    "requests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("database", Id, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("key", String(64), nullable=False),  # SHA-256 of what the caller chose
    Column("body", String(64), nullable=False),  # SHA-256 of what was asked under it
    Column("document", Text, nullable=False),
    UniqueConstraint("customer", "key"),
    ForeignKeyConstraint(["database", "customer"], ["databases.id", "databases.customer"]),
    Index(None, "state", "created_at"),
    Index(None, "customer", "created_at"),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Id, primary_key=True),
    Column("customer", Id, nullable=False),
    Column("reason", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("granted_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index(None, "customer", "until"),
)
