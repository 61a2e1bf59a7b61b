"""The text of a dump, however it is cut into blocks, and what is no whole dump."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.engines.mysql.text import Reader, Statement, disabled
from backups.errors import DumpFailed

DUMP = rb"""/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump
/*!40101 SET NAMES utf8mb4 */;
CREATE SEQUENCE `sq` start with 1 minvalue 1;
DO SETVAL(`sq`, 5, 1);
CREATE TABLE `a``b` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `odd ;` text DEFAULT 'x;y',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4;
INSERT INTO `a``b` VALUES
(1,'it\'s; (2),'),
(2,');'),
(3,NULL);
/*!50003 SET sql_mode              = 'STRICT' */ ;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 trigger tr before insert on t
for each row begin set new.id = 1; end */;;
DELIMITER ;
/*!50001 CREATE VIEW `v` AS SELECT
 NULL AS `id` */;
DELIMITER ;;
/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`localhost`*/ /*!50106 EVENT `ev` ON SCHEDULE EVERY 1 DAY STARTS '2026-11-23 19:31:27' ON COMPLETION NOT PRESERVE ENABLE DO begin delete from t; end */ ;;
DELIMITER ;
/*!50001 DROP VIEW IF EXISTS `v`*/;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 1 AS `id` */;

-- Dump completed
"""  # noqa: E501, W291

ON_ONE_LINE = DUMP.replace(
    rb"""INSERT INTO `a``b` VALUES
(1,'it\'s; (2),'),
(2,');'),
(3,NULL);
""",
    rb"""INSERT INTO `a``b` (`id`, `odd ;`) VALUES (1,'it\'s; (2),'),(2,');'),(3,NULL);
""",
)
"""As MySQL writes them."""
DUMPS = pytest.mark.parametrize("dump", [DUMP, ON_ONE_LINE], ids=["mariadb", "mysql"])


def read(blocks: list[bytes]) -> tuple[Reader, list[Statement]]:
    reader, seen = Reader(), list[Statement]()
    for block in blocks:
        reader.feed(block, seen.append)
    reader.finish()
    return reader, seen


@DUMPS
@given(st.lists(st.integers(0, len(ON_ONE_LINE)), max_size=40))
def test_blocks_may_have_any_size(dump: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(dump), *cuts})
    reader, seen = read([dump[a:b] for a, b in pairwise(ends)])
    whole, _ = read([DUMP])
    assert reader.contents == whole.contents, "whoever wrote it, it contains the same"
    (table,) = reader.contents.contents()
    assert (table.name, table.columns, table.rows) == ("a`b", ("id", "odd ;"), 3)
    assert [(s.name, s.last_value) for s in reader.contents.sequences()] == [
        ("a`b", 4), ("sq", 5),
    ]  # fmt: skip
    kinds = {(each.kind, each.name) for each in reader.contents.digests()}
    assert kinds == {
        ("SEQUENCE", "sq"), ("TABLE", "a`b"), ("TRIGGER", "tr"), ("EVENT", "ev"), ("VIEW", "v"),
    }  # fmt: skip
    given_on = b"".join(each.text for each in seen)
    for line in (b"(2,');'),", b"DELIMITER ;;\n", b"-- Dump completed\n"):
        assert line in given_on


@DUMPS
@given(st.integers(0, len(DUMP) - 2))
def test_a_dump_that_ends_early_is_none(dump: bytes, end: int) -> None:
    with pytest.raises(DumpFailed):
        read([dump[:end]])


@DUMPS
@given(st.integers(DUMP.index(b"CREATE SEQUENCE"), len(DUMP) - 30), st.sampled_from(b"x;(`1"))
def test_no_byte_changes_unnoticed(dump: bytes, at: int, new: int) -> None:
    """Whatever stands for content: names, definitions, rows."""
    if dump[at] == new or dump[at : at + 1] in b" \n":
        return
    line = dump[dump.rfind(b"\n", 0, at) + 1 : dump.find(b"\n", at)]
    if not line.startswith((b"(", b"  `", b") ENGINE", b"for each", b"INSERT")):
        return
    if b" VALUES" in line and at < dump.index(b" VALUES"):
        return  # of the statement's head only the table's name is content
    changed = bytearray(dump)
    changed[at] = new
    before, _ = read([dump])
    try:
        after, _ = read([bytes(changed)])
    except DumpFailed:
        return
    assert after.contents != before.contents


def test_an_event_is_made_disabled() -> None:
    event = b"/*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE DO x"
    text, enabled = disabled(event)
    assert enabled
    assert b"PRESERVE DISABLE DO x" in text
    assert disabled(text) == (text, False)
