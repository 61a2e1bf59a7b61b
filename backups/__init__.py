"""Encrypted daily database backups in the customer's own bucket, and their restoration."""

from __future__ import annotations

__version__ = "0.1.0"
