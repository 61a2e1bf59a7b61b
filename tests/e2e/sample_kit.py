"""Databases to try things on."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def load(url: str, *scripts: Path) -> None:
    for script in scripts:
        subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(script)],
            check=True,
            capture_output=True,
        )
