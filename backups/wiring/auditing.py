"""The audit chain's head, into every customer's stores."""

from __future__ import annotations

from typing import Any

from backups.errors import StoreError
from backups.wiring.app import App
from backups.wiring.stores import declared_stores, store_of


def publish_heads(app: App) -> list[dict[str, Any]]:
    """What became of it in each store: `store`, `outcome` in words, `error` if it failed.

    One store that fails does not keep the others from getting theirs."""
    from backups import keys
    from backups.run.audit import publish, read_chain

    chain = read_chain(app.audit)
    key = keys.load_signing_key(app.home)
    results: list[dict[str, Any]] = []
    for customer, destination in declared_stores(app, None):
        row: dict[str, Any] = {"store": destination.url, "error": None}
        try:
            with store_of(app, customer, destination, "writer") as store:
                new = publish(chain, store, key, app.clock)
            row["outcome"] = "published" if new else "today's is there already"
        except StoreError as error:
            row |= {"outcome": f"failed: {error}", "error": str(error)}
        results.append(row)
    return results
