"""What people read of alarms and settings is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from backups.notify.alarms import KINDS
from backups.notify.rules import Notify

PAGE = (Path(__file__).parents[2] / "backups" / "notify" / "README.md").read_text()


def test_every_alarm_is_on_the_page() -> None:
    assert re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", PAGE, re.M) == list(KINDS.items())


def test_the_example_is_taken() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    notify = Notify.model_validate(yaml.safe_load(text)["notify"])
    assert [endpoint.id for endpoint in notify.endpoints()] == ["ops", "people"]
