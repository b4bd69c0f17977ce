"""Two institutions with the same ids: whatever is done to one leaves every byte of the other as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.store.casebook import House
from domain.store.recorder import StaleVersion
from projections.asof import as_of, blame
from projections.parked import parked, retry
from projections.rebuild import rebuild
from projections.runner import catch_up
from projections.tracking import lag
from projections.verify import digest, verify
from tests.conftest import MASTER_KEY, Database
from tests.projections.parcel import EVERY, PARCELS, ParcelCarried, journeys, stamp

HERE, THERE = "HERE", "THERE"
KEPT = ("event", "institution_position", "subject_key", "tracking", "parked")


def bytes_of(house: House, institution: str) -> dict[str, Any]:
    """Everything there is of an institution."""
    found: dict[str, Any] = {view.name: digest(house, view, institution) for view in EVERY}
    with house.everywhere.connection() as connection:
        for table in KEPT:
            query = f"SELECT t.*, t::text FROM {table} AS t WHERE institution = %s ORDER BY t::text"
            found[table] = connection.execute(query.encode(), (institution,)).fetchall()
    return found


@pytest.fixture
def twins(parcels: House) -> House:
    """The same commands, streams and events in two institutions, followed."""
    for code in (HERE, THERE):
        parcels.casebook(code).append_many(journeys(3, 6, 4))
    catch_up(parcels, EVERY)
    return parcels


def test_what_is_done_to_one_leaves_the_others_bytes_equal(twins: House, parcel_database: Database) -> None:
    """test-list 36: append, follow, rebuild, verify, fold again, as of, blame, erase."""
    before = bytes_of(twins, THERE)
    here = twins.casebook(HERE)
    commands = journeys(3, 6, 4)
    streams = sorted({event.originator_id for command in commands for event in command}, key=lambda id: id.int)
    asked = [[*as_of(twins, PARCELS, THERE, id), blame(twins, PARCELS, THERE, id)] for id in streams]

    assert here.append_many(commands) == 0, "known here"
    last = here.history(streams[0])[-1][0].originator_version
    said = replace(stamp(9), command_id=UUID(int=2**70))
    carried = ParcelCarried(originator_id=streams[0], originator_version=last + 1, stamp=said, place="Delft")
    here.append(carried)
    with pytest.raises(StaleVersion):
        twins.casebook(THERE).append(replace(carried, originator_version=last + 9))
    catch_up(twins, EVERY, HERE)
    for view in EVERY:
        assert verify(twins, view, HERE).ok
        for id in streams:
            retry(twins, view, HERE, id)
    with psycopg.connect(parcel_database.owner, autocommit=True) as owner:
        owner.execute("DELETE FROM subject_key WHERE institution = %s", (HERE,))
    with House(parcel_database.app, MASTER_KEY) as other:  # a process that never saw the keys
        for id in streams:
            retry(other, PARCELS, HERE, id)
    assert bytes_of(twins, THERE) == before
    assert [[*as_of(twins, PARCELS, THERE, id), blame(twins, PARCELS, THERE, id)] for id in streams] == asked
    assert bytes_of(twins, HERE) != before

    rebuilt = {view.name: before[view.name] for view in EVERY}
    for view in EVERY:
        assert rebuild(twins, view, owner=parcel_database.owner).switched
    assert {view.name: digest(twins, view, THERE) for view in EVERY} == rebuilt
    assert all(verify(twins, view, THERE).ok for view in EVERY)
    assert {one.position for one in lag(twins, EVERY, THERE)} == {twins.casebook(THERE).head()}
    assert parked(twins, institution=THERE) == []
