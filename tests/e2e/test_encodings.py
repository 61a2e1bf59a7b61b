"""Databases in other encodings than UTF-8, and bytes that mean nothing: out, back, proven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from pg_kit import create, drop, dropped, url_of

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

BYTES = {"LATIN1": b"caf\xe9", "SQL_ASCII": b"\xff\xfe caf\xe9 \xc3"}


@pytest.fixture(params=BYTES)
def live(request: pytest.FixtureRequest, pg15_url: str) -> Iterator[str]:
    name = next(dropped(pg15_url))
    url = url_of(pg15_url, name)
    create(pg15_url, url, f"encoding '{request.param}' lc_collate 'C' lc_ctype 'C'")
    with psycopg.connect(url) as connection:
        connection.execute(f"set client_encoding to {request.param}")
        connection.execute("create table texts (id int primary key, t text unique)")
        with connection.cursor() as cursor, cursor.copy("copy texts from stdin") as rows:
            rows.write(b"1\t" + BYTES[request.param] + b"\n2\tplain\n")
    yield url
    drop(pg15_url, name)


def test_out_back_and_proven(house: House, live: str, tmp_path: Path, pg15_url: str) -> None:
    copy = next(dropped(pg15_url))
    with house.proving(tmp_path, live):
        house.must("run", "live")
        try:
            there = url_of(pg15_url, copy)
            assert house.must("restore", "live", "--to", there, "--json").json["equal"] is True
        finally:
            drop(pg15_url, copy)
        said = house.call("verify", "run", "live", "--json")
        assert said.code == 0, said.err + said.out
        assert (said.json["verdict"], said.json["level"]) == ("PASSED", 12)
