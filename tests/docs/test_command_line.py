"""What the documents say of the command line is what it does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from backups import errors
from backups.cli import COMMANDS, cli
from backups.fleet import load_fleet, policies

ROOT = Path(__file__).parent.parent.parent
REFERENCE = (ROOT / "backups" / "cli" / "README.md").read_text()
README = (ROOT / "README.md").read_text()
HEAVY = {
    "boto3",
    "sqlalchemy",
    "psycopg",
    "cryptography",
    "pydantic",
    "rich",
    "alembic",
    "yaml",
}


def tree(root: type[errors.BackupsError]) -> list[type[errors.BackupsError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


def test_the_table_of_exit_codes_is_the_error_tree() -> None:
    documented = re.findall(r"^\| (\d+) \| (\w+) \| (yes|no) \|$", REFERENCE, re.M)
    real = {
        (str(kind.exit_code), kind.__name__, "yes" if kind.retryable else "no")
        for kind in tree(errors.BackupsError)
    }
    assert set(documented) == real


def test_the_drawing_of_the_tree_is_the_tree() -> None:
    drawn = re.findall(r"(\w+) +(\d+)", errors.__doc__ or "")
    real = {(kind.__name__, str(kind.exit_code)) for kind in tree(errors.BackupsError)}
    assert real <= set(drawn)


def test_exit_codes_are_different() -> None:
    codes = [kind.exit_code for kind in tree(errors.BackupsError)]
    assert len(set(codes)) == len(codes)


def test_every_error_says_what_to_do_next() -> None:
    assert [kind for kind in tree(errors.BackupsError)[1:] if not kind.hint] == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_documented_and_has_an_example(name: str) -> None:
    assert f"`backups {name}" in REFERENCE
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert leaf.help
        assert "Example: " in (leaf.epilog or "")


def test_the_commands_that_the_readme_shows_exist() -> None:
    shown = {
        match[1]
        for block in re.findall(r"```\n(.*?)```", README, re.S)
        for match in re.finditer(r"^backups (\w+)", block, re.M)
    }
    assert shown
    assert shown <= set(COMMANDS)


def test_the_fleet_file_of_the_readme_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    (policy,) = policies(load_fleet(path))
    assert policy.database == "acme-main"
    assert policy.plan.retention_days == 90


def test_help_imports_nothing_heavy() -> None:
    """Its time is measured in the benchmark; this is what keeps it short."""
    script = "import sys; from backups.cli import run; run(['--help']); print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert "Commands:" in said
    assert HEAVY & set(said.splitlines()[-1].split()) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "backups.cli", "completion", shell],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "_BACKUPS_COMPLETE" in said


def test_completion_offers_commands() -> None:
    said = subprocess.run(
        [Path(sys.executable).parent / "backups"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_BACKUPS_COMPLETE": "bash_complete",
            "COMP_WORDS": "backups re",
            "COMP_CWORD": "1",
        },
    ).stdout
    assert re.findall(r"plain,(\w+)", said) == ["report", "restore", "replace", "recover"]
