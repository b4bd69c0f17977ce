"""Verification finds whatever is not as the log says, and names the first of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from domain.store.casebook import House
from projections.runner import catch_up
from projections.verify import Difference, verify
from projections.view import View
from tests.conftest import MASTER_KEY, Database, Server
from tests.projections.parcel import ALL, LEGS, PARCELS, VISITS, journeys

TAMPERED: dict[str, tuple[View[Any], str, str | None]] = {
    "a field": (PARCELS, "UPDATE parcel SET number = 'forged' WHERE {chosen}", "number"),
    "a document": (PARCELS, 'UPDATE parcel SET size = \'{{"height": 1, "width": 1}}\' WHERE {chosen}', "size"),
    "a list": (PARCELS, "UPDATE parcel SET places = places || 'Xanadu'::text WHERE {chosen}", "places"),
    "the position": (PARCELS, "UPDATE parcel SET position = position + 1 WHERE {chosen}", "position"),
    "the version": (PARCELS, "UPDATE parcel SET version = version - 1 WHERE {chosen}", "version"),
    "the time of recording": (PARCELS, "UPDATE parcel SET recorded_at = now() WHERE {chosen}", "recorded_at"),
    "a row that is gone": (PARCELS, "DELETE FROM parcel WHERE {chosen}", None),
    "a row too many": (
        PARCELS,
        "INSERT INTO parcel (institution, position, version, recorded_at, parcel_id, number, standing, places, sent_at)"
        " SELECT institution, position, version, recorded_at, gen_random_uuid(), number, standing, places, sent_at"
        " FROM parcel WHERE {chosen}",
        None,
    ),
    "one of many rows of a stream": (LEGS, "UPDATE parcel_leg SET left_at = now() WHERE {chosen}", "left_at"),
    "a row of many streams": (VISITS, "UPDATE parcel_place SET came = came + 1 WHERE {chosen}", "came"),
    "a row of many streams that is gone": (VISITS, "DELETE FROM parcel_place WHERE {chosen}", None),
    "what made a row": (VISITS, "DELETE FROM parcel_place_source WHERE {chosen}", "made by position"),
}


@pytest.fixture(scope="module")
def verified(server: Server, parcel_template: Database) -> Generator[House]:
    """A house of its own with two institutions of the same parcels, followed."""
    copy = server.create(parcel_template)
    with House(copy.app, MASTER_KEY) as house:
        for name in ("VERA", "VERB"):
            house.casebook(name).append_many(journeys(8, 12))
        catch_up(house, ALL, "VERA", batch=11)
        catch_up(house, ALL, "VERB")
        yield house
    server.drop(copy)


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_changed_is_found(verified: House, what: str) -> None:
    """One row is changed in one of two institutions; the report names it, its field, and nothing of the other."""
    view, statement, field = TAMPERED[what]
    table = "parcel_place_source" if "source" in statement else view.name
    with verified.everywhere.connection() as connection:
        row = connection.execute(
            f"SELECT ctid FROM {table} WHERE institution = 'VERA' ORDER BY institution, {', '.join(view.key)}"
            " OFFSET 2 LIMIT 1".encode()
        ).fetchone()
        assert row is not None
        saved = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
        connection.execute(statement.format(chosen=f"ctid = '{row[0]}'").encode())
        try:
            report = verify(verified, view)
            other = verify(verified, view, "VERB")
        finally:
            connection.execute(f"DELETE FROM {table}".encode())
            marks = ", ".join(["%s"] * len(saved[0]))
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {table} VALUES ({marks})".encode(), [_insertable(r) for r in saved])
    assert not report.ok
    assert report.differing == 1
    assert isinstance(report.first, Difference)
    assert (report.first.institution, report.first.field) == ("VERA", field)
    if field is None:
        assert (report.first.stored is None) != (report.first.folded is None)
    else:
        assert report.first.stored != report.first.folded
    assert str(report.first).startswith("VERA ")
    assert other.ok
    assert other.rows > 0
    assert verify(verified, view).ok


def _insertable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    from psycopg.types.json import Jsonb

    return tuple(Jsonb(value) if isinstance(value, dict) else value for value in row)


def test_the_first_difference_is_the_first_in_key_order(verified: House) -> None:
    with verified.everywhere.connection() as connection, connection.transaction(force_rollback=False):
        rows = connection.execute(
            "SELECT parcel_id FROM parcel WHERE institution = 'VERB' ORDER BY parcel_id"
        ).fetchall()
        chosen = [rows[4][0], rows[7][0]]
        connection.execute("UPDATE parcel SET version = version + 7 WHERE parcel_id = ANY(%s)", (chosen,))
    report = verify(verified, PARCELS, "VERB")
    with verified.everywhere.connection() as connection:
        connection.execute("UPDATE parcel SET version = version - 7 WHERE parcel_id = ANY(%s)", (chosen,))
    assert report.first is not None
    assert (report.differing, report.first.key) == (2, (chosen[0],))


def test_a_sample_checks_some_streams_whole(verified: House) -> None:
    report = verify(verified, PARCELS, "VERA", sample=3)
    assert report.ok
    assert 1 <= report.rows <= 3


def test_a_view_that_is_behind_is_compared_with_what_it_has_read(verified: House, institution: str) -> None:
    """Verification asks whether the rows are right, not whether they are new."""
    book = verified.casebook(institution)
    book.append_many(journeys(1, 4))
    catch_up(verified, ALL, institution)
    read = book.head()
    book.append_many(journeys(2, 4, start=900))
    for view in ALL:
        report = verify(verified, view, institution)
        assert report.ok
        assert report.positions == {institution: read}
