"""However the log of reads is asked, an index gives the page in its order: nothing is sorted, nothing is scanned."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection
from psycopg.sql import SQL

from projections.page import Slice
from projections.read_log import ReadFilter, ReadRow, cursor_of, page_query
from tests.conftest import Database, Server

MINE, ROWS = "FILLED", 20_000
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
ONE = UUID(int=7)
AFTER = cursor_of(
    ReadRow(
        read_at=BEGUN + timedelta(days=9), entry=1, reader=ONE, token_id="", road="", purpose=None, document=b"",
        operation=None, correlation="", view="", fields=[], subjects=[], glass=None,
    )
)  # fmt: skip
ASKED = {
    "all": (ReadFilter(), "read_log_pkey"),
    "by time": (ReadFilter(read_from=BEGUN, read_before=BEGUN + timedelta(days=99)), "read_log_pkey"),
    "by reader": (ReadFilter(reader=ONE), "read_log_reader"),
    "by glass": (ReadFilter(glass=ONE), "read_log_glass"),
    "by subject": (ReadFilter(subject=ONE), "read_log_subject_pkey"),
    "by subject and time": (ReadFilter(subject=ONE, read_before=BEGUN + timedelta(days=99)), "read_log_subject_pkey"),
}
FILL = """
    WITH made AS (
        SELECT n, %(begun)s + n * interval '26 minutes' AS at, lpad(to_hex(n %% 200), 32, '0')::uuid AS person
        FROM generate_series(1, %(rows)s) AS n
    ), stored AS (
        INSERT INTO read_log (institution, read_at, entry, reader, token_id, road, purpose, document, correlation, view,
                              fields, subjects, glass, position)
        SELECT %(code)s, at, n, person, 't', 'question', 'p', sha256('d'), 'c', 'v', '{f}', ARRAY[person],
               CASE WHEN n %% 4 = 3 THEN person END, n
        FROM made
    )
    INSERT INTO read_log_subject SELECT %(code)s, person, at, n FROM made
"""


@pytest.fixture(scope="module")
def filled(server: Server, template: Database) -> Generator[Connection[Any]]:
    """The application's connection to a database with many entries of two institutions."""
    database = server.create(template)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        for code in (MINE, "OTHER"):
            owner.execute("SELECT set_config('anjuan.institution', %s, false)", (code,))
            owner.execute(FILL, {"code": code, "begun": BEGUN, "rows": ROWS})
        owner.execute("ANALYZE read_log, read_log_subject")
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute("SELECT set_config('anjuan.institution', %s, false)", (MINE,))
        yield connection
    server.drop(database)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    "slice", [Slice(first=20), Slice(last=20), Slice(first=20, after=AFTER), Slice(last=20, before=AFTER)]
)
def test_every_way_to_ask_is_served_by_its_index(filled: Connection[Any], asked: str, slice: Slice) -> None:
    which, index = ASKED[asked]
    query, values = page_query(MINE, which, slice)
    row = filled.execute(SQL("EXPLAIN (FORMAT JSON) {}").format(query), values).fetchone()
    assert row is not None
    found = list(nodes(row[0][0]["Plan"]))
    assert index in [node.get("Index Name") for node in found], json.dumps(row[0], indent=1)
    assert not {"Seq Scan", "Sort", "Incremental Sort"} & {node["Node Type"] for node in found}
    assert len(filled.execute(query, values).fetchall()) > 0
