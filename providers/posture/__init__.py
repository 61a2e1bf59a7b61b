"""Read-only looks at how a customer's bucket is set up: what the ObjectStore port has no call
for. One module per cloud; what a cloud does not tell us is `unproven`, never passed.

A directory and a store in memory have nothing to look at beyond what the conformance checks
try out.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from backups.ports import Clock
from providers.access import Access
from providers.posture.looking import Judge, Judged, Upload, View
from providers.urls import StoreUrl

__all__ = ["Judge", "Judged", "Upload", "View", "looking", "unfinished_uploads"]

LOOKS: Mapping[str, str] = {
    "az": "providers.posture.azure",
    "gs": "providers.posture.gcs",
    "s3": "providers.posture.s3",
}
"""Kind of store to the module whose `looking(view)` looks at it; imported when it does, as
the cloud's SDK is."""


@contextmanager
def looking(view: View) -> Iterator[Mapping[str, Judge]]:
    """Every look at the store by name, to be called while the context lasts.

    Raises ConfigError for credentials that are malformed; a look raises StoreError's kinds."""
    if view.url.scheme not in LOOKS:
        yield {}
        return
    module = importlib.import_module(LOOKS[view.url.scheme])
    with module.looking(view) as looks:
        yield looks


def unfinished_uploads(url: StoreUrl, access: Access, clock: Clock) -> list[Upload]:
    """Uploads below the store's prefix that were begun and not ended: S3's alone are kept
    until somebody removes them; Google's and Azure's end after a week.

    Raises StoreError's kinds, StoreDenied where the role may not look."""
    if url.scheme != "s3":
        return []
    from providers.posture.s3 import unfinished_uploads as of_s3  # noqa: PLC0415

    return of_s3(url, access, clock)
