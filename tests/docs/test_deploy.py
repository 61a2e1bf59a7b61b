"""What is copied to machines holds together: units, alert rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from backups.cli import COMMANDS, cli
from backups.notify import metrics

DEPLOY = Path(metrics.__file__).parents[1] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: it for name, it in COMPOSE["services"].items() if name != "catalog"}


def unit(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_and_is_hardened(path: Path) -> None:
    service = unit(path)["Service"]
    command = service["ExecStart"].split()
    assert command[:2] == ["/usr/bin/env", "backups"]
    assert command[2] in COMMANDS
    assert service["User"].startswith("backups")
    for name, value in {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        "LimitCORE": "0", "UMask": "0077", "CapabilityBoundingSet": "", "PrivateTmp": "yes",
        "StateDirectoryMode": "0700",
    }.items():  # fmt: skip
        assert service[name] == value


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_its_exposure_is_low(path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        return  # the settings themselves are held above
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager"]
    done = subprocess.run([*argv, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_alert_rules_speak_of_metrics_that_there_are() -> None:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    source = Path(metrics.__file__).read_text()
    for rule in group["rules"]:
        names = re.findall(r"backups_(\w+)", rule["expr"])
        assert names
        for name in names:
            assert f'"{name}"' in source
        (page,) = re.findall(r"runbook/\S+\.md", rule["annotations"]["runbook"])
        assert (DEPLOY / page).is_file()


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_and_is_hardened(name: str) -> None:
    service = OURS[name]
    if name != "setup":
        parsed(service["command"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= COMPOSE[
        "volumes"
    ].keys()
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_no_two_workers_share_a_home() -> None:
    homes = [OURS[name]["volumes"] for name in OURS if name != "setup"]
    assert all(len(each) == 1 for each in homes)
    assert len({each[0] for each in homes}) == len(homes)


def test_the_commands_that_make_homes_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    text = (DEPLOY / "README.md").read_text()
    calls = re.findall(r"^docker compose run --rm setup (.+)$", text, re.MULTILINE)
    assert len(calls) == 5
    for call in calls:
        parsed(call.replace("/var/lib", str(tmp_path)).split())
    mounted = {volume.partition(":")[2] for volume in OURS["setup"]["volumes"]}
    assert set(re.findall(r"--home (\S+)", "\n".join(calls))) < mounted


def test_the_image_holds_what_the_package_is_made_of() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE) == wheel
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    assert set(extras.split(",")) == project["project"]["optional-dependencies"].keys() - {
        "test"
    }
    assert text.index("\nUSER backups") < text.index("\nENTRYPOINT")


def parsed(argv: list[str]) -> None:
    """Raises click's own error where it is no call of ours."""
    context = cli.make_context("backups", list(argv))
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, found, rest = command.resolve_command(context, rest)
        assert found
        context, command = found.make_context(found.name, rest, parent=context), found
