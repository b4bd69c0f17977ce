"""Row types and tables: one is the other, for every view of the house."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.kernel import Event
from domain.store.casebook import House
from projections import views
from projections.schema import ddl, differences
from projections.view import VIEWS, Row, View, columns
from tests.conftest import MASTER_KEY, Database
from tests.projections.parcel import EVERY, PARCELS, Size, Standing, journeys

assert views, "importing it lists every view"


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_the_table_of_every_view_is_its_row_type(shared_database: Database, name: str) -> None:
    """The schema from all migrations, column by column and key by key."""
    with psycopg.connect(shared_database.owner) as connection:
        assert differences(connection, VIEWS[name]) == []


@dataclass(kw_only=True)
class EverythingRow(Row):
    """One field of every kind there is."""

    id: UUID
    text: str
    maybe: str | None = None
    count: int = 0
    yes: bool = True
    day: date
    at: datetime | None = None
    money: Decimal
    standing: Standing
    words: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    ids: tuple[UUID, ...] = ()
    size: Size | None = None
    sizes: tuple[Size, ...] = ()
    names: dict[str, str]


def nothing(row: EverythingRow | None, event: Event) -> EverythingRow | None:
    return row


EVERYTHING = View("everything", EverythingRow, (Event,), nothing, ("id",), listed=False)


def test_a_field_of_each_kind_has_its_column() -> None:
    kinds = {c.name: (c.type, c.nullable) for c in columns(EverythingRow)}
    assert kinds == {
        "institution": ("text", False), "position": ("bigint", False), "version": ("bigint", False),
        "recorded_at": ("timestamp with time zone", False), "id": ("uuid", False), "text": ("text", False),
        "maybe": ("text", True), "count": ("bigint", False), "yes": ("boolean", False), "day": ("date", False),
        "at": ("timestamp with time zone", True), "money": ("numeric", False), "standing": ("text", False),
        "words": ("text[]", False), "standings": ("text[]", False), "ids": ("uuid[]", False),
        "size": ("jsonb", True), "sizes": ("jsonb", False), "names": ("jsonb", False),
    }  # fmt: skip


def test_a_row_comes_back_as_it_went(parcels: House, parcel_database: Database) -> None:
    """Every kind of value, type for type."""
    from projections.table import Table

    with psycopg.connect(parcel_database.owner, autocommit=True) as connection:
        connection.execute(ddl(EVERYTHING).encode())
        assert differences(connection, EVERYTHING) == []
    row = EverythingRow(
        institution="KINDS", position=2**40, id=UUID(int=5), text="案卷 \\N\t'\"", day=date(2026, 2, 28),
        money=Decimal("12.50"), standing=Standing.DELIVERED, words=("a", "", "{,}"), standings=(Standing.UNDER_WAY,),
        ids=(UUID(int=1),), size=Size(1, 2), sizes=(Size(3, 4), Size(5, 6)), names={"b": "2", "a": "1"},
    )  # fmt: skip
    table = Table(EVERYTHING)
    with parcels.everywhere.connection() as connection, connection.transaction():
        table.copy(connection, [row])
        [back] = table.load(connection, "KINDS", [(row.id,)]).values()
    assert back == row
    assert back is not None
    assert [type(v) for v in vars(back).values()] == [type(v) for v in vars(row).values()]
    assert str(back.money) == "12.50"


@pytest.mark.parametrize("hint", [float, Any, list, "int | str"])
def test_a_field_no_column_can_hold_is_refused(hint: Any) -> None:
    row = dataclass(kw_only=True)(type("Odd", (Row,), {"__annotations__": {"odd": hint}, "__module__": __name__}))
    with pytest.raises(TypeError, match=r"Odd\.odd"):
        columns(row)


DRIFTS: Mapping[str, str] = {
    "ALTER TABLE parcel DROP COLUMN place": "parcel.place: no such column",
    "ALTER TABLE parcel ADD COLUMN colour text": "parcel.colour: no such field in ParcelRow",
    "ALTER TABLE parcel ALTER COLUMN kilos TYPE date USING NULL": "parcel.kilos: type is date, the field says numeric",
    "ALTER TABLE parcel ALTER COLUMN number DROP NOT NULL": "parcel.number: NOT NULL is False, the field says True",
    "ALTER TABLE parcel DROP CONSTRAINT parcel_pkey": (
        "parcel: the primary key is [], it must be ['institution', 'parcel_id']"
    ),
    "DROP TABLE parcel": "there is no table parcel",
}


@pytest.mark.parametrize("change", DRIFTS)
def test_a_table_that_drifted_from_its_row_type_is_told(parcel_database: Database, change: str) -> None:
    with psycopg.connect(parcel_database.owner) as connection:
        assert differences(connection, PARCELS) == []
        connection.execute(change.encode())
        assert differences(connection, PARCELS) == [DRIFTS[change]]


def test_a_view_of_everything_listens_to_every_topic_also_those_of_old() -> None:
    assert {"test.parcel.sent", "test.parcel.posted", "test.parcel.touched"} <= EVERYTHING.topics
    assert "test.parcel.touched" not in PARCELS.topics
    assert "test.parcel.posted" in PARCELS.topics


DIGEST = """
import sys
from domain.store.casebook import House
from projections.runner import catch_up
from projections.verify import digest
from tests.projections.parcel import EVERY
with House(sys.argv[1], bytes.fromhex(sys.argv[2])) as house:
    catch_up(house, EVERY, batch=17)
    print([digest(house, view, "SEED") for view in EVERY])
"""


def test_rows_do_not_depend_on_the_order_of_sets_and_dicts(parcels: House, parcel_database: Database) -> None:
    """test-list 30: other processes with other hash seeds, run twice, write the same bytes."""
    parcels.casebook("SEED").append_many(journeys(11, 25))
    found: set[str] = set()
    for seed in ("0", "1", "1", "4242"):
        with parcels.everywhere.connection() as connection:
            for table in ("tracking", *(v.name for v in EVERY), "parcel_place_source", "parcel_trail_source"):
                connection.execute(f"DELETE FROM {table}".encode())
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, parcel_database.app, MASTER_KEY.hex()],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1
