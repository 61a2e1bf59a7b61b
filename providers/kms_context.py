"""What a key service is to authenticate with a secret, in bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping


def bound(context: Mapping[str, str]) -> bytes:
    """The same bytes for the same context, whatever its order. What was sealed with them is
    lost if they ever change."""
    return json.dumps(dict(context), sort_keys=True).encode()
