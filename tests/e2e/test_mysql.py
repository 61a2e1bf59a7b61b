"""A customer whose database is on MariaDB or MySQL: out, back, proven, and without us."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import command_kit
import pytest
from engine_kits import MysqlKit

from backups.engines.mysql.dump import tool
from backups.engines.mysql.server import login
from backups.errors import ConfigError, NotFound, TargetRefused
from backups.model import Source
from verify.controls import CONTROLS
from verify.meddle.registry import meddlings

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

SHOP = """
create table customer (id int auto_increment primary key, name varchar(40) not null,
    mail varchar(60) character set latin1, seen timestamp default current_timestamp,
    extra blob, shout varchar(40) as (upper(name)) stored, note text) engine=InnoDB;
create table orders (id int primary key, customer int not null, total decimal(10,2) check (total >= 0),
    note varchar(20), foreign key (customer) references customer (id), key (total));
create table told (id int primary key, at datetime(6), what json);
create sequence numbers start with 5;
create view spent as select c.name, sum(o.total) as total from customer c
    join orders o on o.customer = c.id group by c.name;
create procedure nothing() select 1;
create function twice(a int) returns int deterministic return a * 2;
create trigger noted before insert on told for each row set new.at = coalesce(new.at, now(6));
create event tidy on schedule every 1 day starts '2037-01-01 00:00:00' do delete from told;
insert into customer (name, mail, extra) select concat('c', seq), concat(seq, '@exämple.com'),
    unhex(hex(seq)) from seq_1_to_200;
insert into orders select id, id, id * 1.5, 'it''s\\nso' from customer;
insert into told values (1, '2026-01-02 03:04:05.678901', '{"b": 1, "a": "ü"}');
select nextval(numbers);
"""  # noqa: E501
MYSQL_SHOP = (
    re.sub(r"(?m)^(create sequence|select nextval).*;\n", "", SHOP)
    .replace("from seq_1_to_200", "from (with recursive s (seq) as (select 1 union all select"
             " seq + 1 from s where seq < 200) select seq from s) numbered")
)  # fmt: skip


def client(source: Source, statements: str) -> None:
    opened = login(source)
    subprocess.run(
        [tool(opened.family, opened.family.client), "--no-defaults",
         f"--socket={opened.options['socket']}", "--user=root",
         "--default-character-set=utf8mb4", opened.database],
        input=statements.encode(), check=True, capture_output=True,
    )  # fmt: skip


def vendors_dump(source: Source) -> list[str]:
    """What the vendor's own tool says of it, but for what differs in any two."""
    opened = login(source)
    said = subprocess.run(
        [tool(opened.family, opened.family.dump), "--no-defaults",
         f"--socket={opened.options['socket']}", "--user=root", "--routines", "--events",
         "--hex-blob", "--skip-dump-date", "--skip-comments", *opened.family.dump_options,
         opened.database],
        check=True, capture_output=True,
    ).stdout.decode()  # fmt: skip
    # MySQL says a copy's character sets twice.
    return re.sub(r" CHARACTER SET (\w+)(?= COLLATE \1_)", "", said).splitlines()


FAMILIES = [
    pytest.param("mariadb", marks=pytest.mark.mariadb),
    pytest.param("mysql", marks=pytest.mark.mysql),
]


@pytest.fixture(params=FAMILIES)
def kit(request: pytest.FixtureRequest) -> Iterator[MysqlKit]:
    found = MysqlKit(request.getfixturevalue(f"{request.param}_url"))
    yield found
    found.close()


@pytest.fixture(params=["shop", "chinook"])
def live(request: pytest.FixtureRequest, kit: MysqlKit) -> Source:
    source = kit.make()
    if request.param == "chinook":
        path = request.getfixturevalue("sample_data") / "chinook-mysql.sql"
        script = path.read_text(encoding="utf-8-sig")
        script = re.sub(r"(?im)^(DROP|CREATE) DATABASE .*;$|^USE .*;$", "", script)
        client(source, script)
    else:
        mysql = login(source).family.engine == "mysql"
        client(source, MYSQL_SHOP if mysql else SHOP)
    return source


@pytest.fixture
def home(house: House, live: Source, tmp_path: Path) -> Iterator[House]:
    with house.proving(tmp_path, live.url):
        yield house


def test_out_back_and_proven(home: House, live: Source, kit: MysqlKit) -> None:
    home.must("run", "live")
    copy = kit.fresh()
    done = home.must("restore", "live", "--to", copy.url, "--json").json
    assert done["equal"] is True
    assert vendors_dump(copy) == vendors_dump(live)
    again = home.call("restore", "live", "--to", copy.url)
    assert again.code == TargetRefused.exit_code
    table = "customer" if "customer" in "".join(vendors_dump(live)[:60]) else "Album"
    part = kit.fresh()
    one = home.must("restore", "live", "--only", table, "--to", part.url, "--json").json
    assert (one["tables"], one["equal"]) == (1, True)
    wrong = home.call("restore", "live", "--only", "nothing", "--to", kit.fresh().url)
    assert wrong.code == NotFound.exit_code
    refused = home.call("replace", "plan", "live")
    assert refused.code == ConfigError.exit_code, "declared: not in one step"

    said = home.call("verify", "run", "live", "--json")
    assert said.code == 0, said.err + said.out
    assert (said.json["verdict"], said.json["level"]) == ("PASSED", 12)
    assert said.json["scratch"]["kind"] == "private server"
    assert said.json["scratch"]["destroyed_at"]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_what_is_changed_in_a_copy_is_noticed(
    home: House, live: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_kit, "TIMEOUT", 500)
    home.must("run", "live")
    said = home.call("verify", "self-test", "live", "--json")
    found = said.json
    assert said.code == 0, [t for t in found["trials"] if not t["caught"]]
    made = {trial["name"] for trial in found["trials"]}
    there = set(meddlings(login(live).family.engine)) - {"trigger dropped", "sequence moved"}
    assert made >= set(CONTROLS) - {"forged end"} | there | {"undamaged"}
    assert found["caught"] == len(found["trials"])


def test_stock_tools_bring_it_back(
    home: House, live: Source, tmp_path: Path, kit: MysqlKit
) -> None:
    home.must("run", "live")
    recipe = home.must("show", "live", "--recipe").out
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(home.customer_identity, place / "identity.txt")
    shutil.copy(home.home / "keys" / "verify.pem", place / "verify-key.pem")
    shutil.rmtree(home.home)
    socket = login(live).options["socket"]
    (place / "my.cnf").write_text(f"[client]\nsocket={socket}\nuser=root\n")
    (place / ".my.cnf").write_text(f"[client]\nsocket={socket}\nuser=root\n")
    copy = kit.engine.beside(live, "live-restored")
    tools = Path(tool(login(live).family, login(live).family.dump)).parent
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", recipe], cwd=place, check=False,
            capture_output=True, text=True,
            env={"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(place)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert vendors_dump(copy) == vendors_dump(live)
    finally:
        with suppress(subprocess.CalledProcessError):
            client(live, "drop database `live-restored`")
