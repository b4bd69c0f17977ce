"""How a view stands: another text whenever one of its rows may be another, and the same while none is."""

from __future__ import annotations

from uuid import UUID, uuid4

import anyio
import psycopg

from domain.store.casebook import House
from domain.store.tenant import begin_reading
from projections.parked import retry
from projections.rebuild import rebuild
from projections.runner import catch_up
from projections.tracking import standing
from tests.conftest import Database
from tests.projections.parcel import LEGS, PARCELS, ParcelCarried, ParcelSent, stamp

VIEWS = (PARCELS, LEGS)
NAMES = [view.name for view in VIEWS]


def stands(house: House, institution: str) -> dict[str, str]:
    async def read() -> dict[str, str]:
        async with await psycopg.AsyncConnection.connect(house.conninfo, autocommit=True) as connection:
            await begin_reading(connection, institution)
            return await standing(connection, institution, NAMES)

    return anyio.run(read)


def follow(house: House, institution: str) -> dict[str, str]:
    catch_up(house, VIEWS, institution)
    return stands(house, institution)


def send(house: House, institution: str, parcel: UUID) -> None:
    said = ParcelSent(originator_id=parcel, originator_version=1, stamp=stamp(1), number="P1")
    house.casebook(institution).append_many([[said]])


def test_a_view_that_moved_stands_otherwise(parcels_shared: House, institution: str) -> None:
    parcel = uuid4()
    assert stands(parcels_shared, institution) == {}
    send(parcels_shared, institution, parcel)
    first = follow(parcels_shared, institution)
    assert set(first) == set(NAMES)
    parcels_shared.casebook(institution).append_many(
        [[ParcelCarried(originator_id=parcel, originator_version=2, stamp=stamp(2), place="Delft")]]
    )
    assert stands(parcels_shared, institution) == first, "an event that no view has read changes no answer"
    second = follow(parcels_shared, institution)
    assert all(first[name] != second[name] for name in NAMES)


def test_what_happens_elsewhere_leaves_it_as_it_stood(parcels_shared: House, institution: str) -> None:
    send(parcels_shared, institution, uuid4())
    before = follow(parcels_shared, institution)
    send(parcels_shared, "ELSEWHERE", uuid4())
    catch_up(parcels_shared, VIEWS, "ELSEWHERE")
    retry(parcels_shared, PARCELS, "ELSEWHERE", uuid4())
    assert follow(parcels_shared, institution) == before


def test_a_key_folded_again_makes_it_stand_otherwise(parcels_shared: House, institution: str) -> None:
    """The position stays, the rows may not: a repair, or a subject's key that is no more (test-list 37)."""
    parcel = uuid4()
    send(parcels_shared, institution, parcel)
    before = follow(parcels_shared, institution)
    assert retry(parcels_shared, PARCELS, institution, parcel)
    after = stands(parcels_shared, institution)
    assert after[PARCELS.name] != before[PARCELS.name]
    assert after[LEGS.name] == before[LEGS.name]


def test_a_rebuilt_view_stands_otherwise_in_every_institution(parcels: House, parcel_database: Database) -> None:
    for institution in ("BJ", "CD"):
        send(parcels, institution, uuid4())
    before = {institution: follow(parcels, institution) for institution in ("BJ", "CD")}
    assert rebuild(parcels, PARCELS, owner=parcel_database.owner).switched
    for institution, stood in before.items():
        after = stands(parcels, institution)
        assert after[PARCELS.name] != stood[PARCELS.name]
        assert after[LEGS.name] == stood[LEGS.name]
