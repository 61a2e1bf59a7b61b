"""What the fleet file's page and its published schema say is what is taken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backups.fleet import fleet_schema, load_fleet, policies, rules
from backups.fleet.states import STATES

FOLDER = Path(__file__).parents[2] / "backups" / "fleet"
PAGE = (FOLDER / "README.md").read_text()


def test_the_published_schema_is_the_real_one() -> None:
    assert json.loads((FOLDER / "fleet.schema.json").read_text()) == fleet_schema()


def test_the_example_is_a_fleet(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert text.startswith("# yaml-language-server: $schema=fleet.schema.json\n")
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    fleet = load_fleet(path)
    main, old = policies(fleet)
    assert (main.plan.keep_monthly, main.plan.second_approver) == (12, True)
    assert main.password_ref == "aws-sm:acme/main#password"
    assert old.database == "acme-old"
    assert [customer.state for customer in fleet.customers] == [None, "paused"]


@pytest.mark.parametrize("model", ["PlanRule", "Customer", "Store", "Database"])
def test_every_key_is_on_the_page_and_in_the_schema(model: str) -> None:
    keys = getattr(rules, model).model_fields
    tables = set(re.findall(r"`(\w+)`", PAGE))
    assert set(keys) <= tables
    described: dict[str, Any] = fleet_schema()["$defs"][model]["properties"]
    plain = {"id", "plan", "engine", "state", "recipients", "databases", "assertions"}
    silent = [k for k in keys if "description" not in described[k]]
    assert set(silent) <= plain


def test_the_table_of_states_is_what_states_allow() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|", PAGE, re.M
    )
    real = [
        (state.name, *("yes" if may else "no" for may in
         (state.back_up, state.prune, state.restore, state.test)))
        for state in STATES.values()
    ]  # fmt: skip
    assert rows == real
