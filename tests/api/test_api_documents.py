"""What the API's page says is what it does: its Node programs are run as they stand."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import command_kit
import httpx
import psycopg
import pytest
import yaml
from api_kit import CLOCK, ISSUER, SECRET, Town

from backups.api.app import create
from backups.model import Secret
from backups.notify.signing import headers
from backups.settings import ApiSettings
from backups.wiring.serving_api import house

pytestmark = pytest.mark.postgres

FOLDER = Path(__file__).parents[2] / "backups" / "api"
PAGE = (FOLDER / "README.md").read_text()
CLIENT, RECEIVER = re.findall(r"```js\n(.*?)```", PAGE, re.S)
HOOK = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def program(folder: Path, text: str) -> Path:
    path = folder / "program.mjs"
    path.write_text(text)
    return path


@pytest.fixture
def worked(town: Town) -> Iterator[None]:
    """What was asked for is done, as by `serve`."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            town.work()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def removed(pg15_url: str) -> Iterator[None]:
    """The copy that the page's program asks for."""
    drop = "drop database if exists shop_before_the_accident with (force)"
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        connection.execute(drop)
        yield
        connection.execute(drop)


@pytest.mark.usefixtures("removed", "worked")
def test_the_node_client_restores_a_database(town: Town, tmp_path: Path) -> None:
    environment = {**os.environ, "BACKUPS_URL": town.base, "DASHBOARD_SECRET": SECRET}
    done = subprocess.run(
        ["node", program(tmp_path, CLIENT)],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    operation = json.loads(done.stdout)
    assert (operation["state"], operation["result"]) == ("done", "shop_before_the_accident")
    wrong = subprocess.run(
        ["node", program(tmp_path, CLIENT.replace("'acme'", "'birch'"))],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "there is no database 'shop'" in wrong.stderr


@contextmanager
def receiving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        ["node", program(folder, RECEIVER)],
        env={**os.environ, "HOOK_SECRET": HOOK}, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}/", child
        child.kill()


def test_the_node_receiver_believes_ours_alone_and_each_once(tmp_path: Path) -> None:
    body = b'{"type": "restore.done", "id": "e1"}'
    now = CLOCK.now()

    def signed(name: str, at: datetime, secret: str = HOOK) -> dict[str, str]:
        return headers(name, body, at, [Secret(secret)])

    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    both = headers("e2", body, now, [Secret(other), Secret(HOOK)])
    cases = [
        (signed("e1", now), body, 204),
        (signed("e1", now), body, 204),  # delivered at least once
        (both, body, 204),  # while a secret is changed
        (signed("e3", now, other), body, 401),
        (signed("e3", now - timedelta(hours=1)), body, 401),  # replayed later
        ({**signed("e1", now), "webhook-id": "e3"}, body, 401),
        (signed("e3", now), body + b" ", 401),
        ({}, body, 401),
    ]
    with receiving(tmp_path) as (url, child):
        for given, content, status in cases:
            assert httpx.post(url, headers=given, content=content).status_code == status
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(2)]
        child.kill()
        assert child.stdout.read() == "", "no third"
    assert told == ["restore.done", "restore.done"]


def test_the_table_of_calls_is_the_description(town: Town) -> None:
    documented = set(re.findall(r"^\| `(GET|POST) (/\S+)` \|", PAGE, re.M))
    described = {
        (method.upper(), path)
        for path, methods in create(house(town.app)).openapi()["paths"].items()
        for method in methods
    }
    assert documented == described


def test_the_settings_shown_are_settings() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    api = ApiSettings.model_validate(yaml.safe_load(text)["api"])
    assert api.issuers[0].issuer == ISSUER
    defaults = ApiSettings()
    assert api.longest_token_minutes == defaults.longest_token_minutes
    assert (api.per_minute, api.session_minutes) == (
        defaults.per_minute, defaults.session_minutes,
    )  # fmt: skip


def test_a_link_by_command_leads_in_once(town: Town) -> None:
    shown = re.findall(r"^(backups api link .*)$", PAGE, re.M)
    command = [*shown[0].split()[1:], "--url", town.base, "--json"]
    done = command_kit.call(["--home", str(town.home), *command])
    assert done.returncode == 0, done.stderr
    url = json.loads(done.stdout)["url"]
    with httpx.Client(follow_redirects=True) as client:
        page = client.get(url)
        assert page.status_code == 200
        assert "shop" in page.text
        assert "birds" not in page.text
        assert httpx.get(url).status_code == 401
    unknown = command_kit.call(["--home", str(town.home), "api", "link", "nobody"])
    assert (unknown.returncode, "no customer 'nobody'" in unknown.stderr) == (11, True)


def test_the_description_by_command_is_the_one_that_is_served(town: Town) -> None:
    done = command_kit.call(["--home", str(town.home), "api", "describe"])
    assert json.loads(done.stdout) == httpx.get(f"{town.base}/openapi.json").json()
