"""What is not as promised is noticed, told once, and closed: real receivers, a real server."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks import Webhook
from test_main_job import documented

from backups import wiring
from backups.clock import SystemClock

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Later(SystemClock):
    """The machine's clock, some hours ahead."""

    def __init__(self, hours: float) -> None:
        self._ahead = timedelta(hours=hours)

    def now(self) -> Any:
        return super().now() + self._ahead


@dataclass
class Receiver:
    """Somebody's HTTP server."""

    url: str
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: int = 204


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.answer)
            if found.answer == 302:
                self.send_header("location", f"{found.url}/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Inbox:
    mails: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.mails.append(envelope.content.decode())
        return "250 taken"


@pytest.fixture
def told(house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    (house.home / "settings.yaml").write_text(
        "notify:\n"
        "  webhooks:\n"
        f"    - {{id: ops, url: '{receiver.url}/hook', secrets: ['env:HOOK_SECRET']}}\n"
        f"  dead_man: {receiver.url}/alive\n"
    )
    return house


def look(house: House, hours: float = 0) -> Any:
    with wiring.opened(house.home, Later(hours)) as app:
        return wiring.watch(app)


def hooks(receiver: Receiver) -> list[dict[str, Any]]:
    """The bodies that arrived, each signed rightly."""
    bodies = []
    for path, headers, body in receiver.got:
        if path == "/hook":
            at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            signature = Webhook(SECRET).sign(headers["webhook-id"], at, body.decode())
            assert signature == headers["webhook-signature"]
            bodies.append(json.loads(body))
    return bodies


def test_a_missed_day_from_noticed_to_closed(
    told: House,
    receiver: Receiver,
    tmp_path: Path,
    pg15_url: str,
    make_database: Callable[..., str],
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    told.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (x int)"))
    told.must("run", "shop")
    assert look(told).standing == 0
    _, headers, body = receiver.got[0]
    assert Webhook(SECRET).verify(body, headers) == hooks(receiver)[0]
    types = [body["type"] for body in hooks(receiver)]
    assert types == ["policy.saved", "backup.committed"]
    # Alive is said after each look that was brought to its end.
    assert [path for path, _, _ in receiver.got if path.startswith("/alive")] == ["/alive"]

    missed = look(told, hours=27)
    assert (missed.opened, missed.trouble) == (2, False)  # and nobody has proven to decrypt
    (body,) = [b for b in hooks(receiver) if b["type"] == "backup.missed"]
    assert (body["data"]["customer"], body["subject"]) == ("acme", "shop")
    assert body["data"]["state"] == "opened"
    count = len(receiver.got)
    assert look(told, hours=27.1).opened == 0  # once
    assert [path for path, _, _ in receiver.got[count:]] == ["/alive"]
    alarms = told.must("alarms", "--json").json
    assert {row["kind"] for row in alarms} == {"backup.missed", "recipients.unproven"}
    assert set(alarms[0]) == documented("alarms --json")

    assert "backup.missed: 1\n" in told.must("status").out
    (incident,) = told.must("incident", "list", "--json").json
    assert set(incident) == documented("incident list --json")
    assert incident["state"] == "ongoing"
    name = incident["incident_id"]
    early = told.call("incident", "close", name, "--cause", "c", "--post-mortem", "https://pm")
    assert early.code == 2
    assert "not over yet" in early.err

    told.must("run", "shop")
    assert look(told).closed == 2
    closed = told.must(
        "incident", "close", name, "--cause", "disk", "--post-mortem", "https://pm", "--json"
    ).json
    assert (closed["state"], closed["cause"]) == ("closed", "disk")
    assert told.must("incident", "list", "--json").json == []
    log = told.must("notify", "log", "--json").json
    assert {row["state"] for row in log} == {"delivered"}
    assert set(log[0]) == documented("notify log --json")
    ids = [body["id"] for body in hooks(receiver)]
    assert len(ids) == len(set(ids))


def test_a_receiver_that_fails_is_tried_again_with_the_same_id(
    told: House, receiver: Receiver, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    told.declare(f"file://{store}", shop="postgresql://nobody@localhost/none")
    receiver.answer = 302  # followed nowhere
    with pytest.raises(Exception, match="did not take the call"):
        look(told)
    (row,) = told.must("notify", "list", "--json").json
    assert set(row) == documented("notify list --json")
    assert (row["pending"], row["failures"]) == (1, 1)
    assert not [path for path, _, _ in receiver.got if path == "/elsewhere"]
    receiver.answer = 204
    assert look(told, hours=1).delivered == 1
    first, second = hooks(receiver)
    assert first["id"] == second["id"]

    receiver.answer = 410
    told.declare(f"file://{store}", shop="postgresql://nobody@localhost/other")
    with pytest.raises(Exception, match="did not take the call"):
        look(told, hours=2)
    receiver.answer = 204
    assert "endpoint.disabled" in {alarm.alarm.kind for alarm in standing(told, hours=3)}
    assert told.call("notify", "replay", "nobody").code == 11
    told.must("notify", "replay", "ops")
    assert look(told, hours=3).delivered > 0


def standing(house: House, hours: float) -> Any:
    with wiring.opened(house.home, Later(hours)) as app:
        wiring.watch(app)
        return app.notices.alarms()


def test_by_mail_and_when_nobody_can_be_told(
    house: House, receiver: Receiver, tmp_path: Path
) -> None:
    inbox = Inbox()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        (house.home / "settings.yaml").write_text(
            "notify:\n"
            "  email:\n"
            f"    - {{id: people, server: '127.0.0.1:{port}', tls: none, "
            "sender: backups@bloomneo.example, recipients: [ops@bloomneo.example]}\n"
            f"  dead_man: {receiver.url}/alive\n"
        )
        store = tmp_path / "store"
        store.mkdir()
        house.declare(f"file://{store}", shop="postgresql://nobody@localhost/none")
        assert "people was told" in house.must("notify", "test", "people").out
        look(house, hours=30)
    finally:
        controller.stop()
    subjects = "\n".join(inbox.mails)
    assert "Subject: [backups] backup.missed opened: shop" in subjects
    assert "Auto-Submitted: auto-generated" in subjects
    # The server is gone: the alarm stands, nobody hears of it, and the second path says so.
    look(house, hours=80)
    assert receiver.got[-1][0] == "/alive/fail"


def test_prometheus_reads_it(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url), cart=make_database(pg15_url))
    house.must("run", "shop")
    assert house.must("status").out.startswith("covered: 1 of 2 databases have a backup")
    families = {
        family.name: {
            tuple(sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(house.must("metrics").out)
    }
    shop = (("customer", "acme"), ("database", "shop"))
    cart = (("customer", "acme"), ("database", "cart"))
    assert families["backups_covered"] == {shop: 1, cart: 0}
    assert families["backups_last_run_committed"] == {shop: 1, cart: 0}
    assert families["backups_newest_backup_bytes"][shop] > 0
    assert families["backups_newest_backup_timestamp_seconds"][cart] == 0
