"""What the layout promises and no linter checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in ("backups", "providers", "verify")
    for path in ROOT.glob(f"{package}/**/*.py")
)


def test_localstack_is_no_python_package() -> None:
    """The name belongs to a distribution; a package here would shadow it."""
    assert not (ROOT / "localstack" / "__init__.py").exists()


@pytest.mark.parametrize("script", ["setup", "up", "down", "test", "demo", "../.ci/run"])
def test_scripts_are_strict_and_executable(script: str) -> None:
    path = ROOT / "localstack" / script
    assert path.stat().st_mode & 0o111
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_modules_stay_small() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := lines(p)) > 400}
    assert not long


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, backups.cli\n"
        "heavy = {'boto3', 'botocore', 'sqlalchemy', 'psycopg', 'cryptography', 'alembic'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
