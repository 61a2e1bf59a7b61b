"""What is copied to machines holds together: units, alert rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from backups.cli import COMMANDS
from backups.notify import metrics

DEPLOY = Path(metrics.__file__).parents[1] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


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
