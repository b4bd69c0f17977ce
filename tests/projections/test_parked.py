"""Parking: what cannot be folded waits with all that follows it, the rest goes on, and nothing overtakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from domain.kernel import Event
from domain.personal import ERASED
from domain.store.casebook import House
from projections.parked import parked, retry
from projections.runner import catch_up
from projections.table import Table
from projections.verify import digest, verify
from projections.view import View
from tests.conftest import MASTER_KEY, Database
from tests.projections.oracle import stored
from tests.projections.parcel import (
    LEGS,
    PARCELS,
    PLACES,
    VISITS,
    ParcelCarried,
    ParcelSent,
    ParcelWeighed,
    PlaceRow,
    show,
    show_place,
    stamp,
)

BAD, GOOD = UUID(int=1), UUID(int=2)


def sent(parcel: UUID, number: str = "P1", **more: Any) -> ParcelSent:
    return ParcelSent(originator_id=parcel, originator_version=1, stamp=stamp(next(_times)), number=number, **more)


def carried(parcel: UUID, version: int, place: str) -> ParcelCarried:
    return ParcelCarried(originator_id=parcel, originator_version=version, stamp=stamp(next(_times)), place=place)


_times = iter(range(10**6))


def append(house: House, institution: str, *events: Event) -> None:
    house.casebook(institution).append_many([[event] for event in events])


def mended(view: View[Any]) -> View[Any]:
    """The same view after its fold was repaired."""

    def show_any(row: Any, event: Any) -> Any:
        place = getattr(event, "place", "") == "Nowhere"
        fold = show_place if view is VISITS else show
        return fold(row, replace(event, place="Mended") if place else event)

    return View(view.name, view.row, view.events, show_any, view.key, view.parts, view.gathers, listed=False)


def test_a_stream_that_fails_waits_and_the_others_go_on(parcels_shared: House, institution: str) -> None:
    """test-list 27: parked with its later events, replayed in order, nothing twice."""
    append(
        parcels_shared, institution,
        sent(BAD), carried(BAD, 2, PLACES[0]), sent(GOOD), carried(BAD, 3, "Nowhere"), carried(GOOD, 2, PLACES[1]),
    )  # fmt: skip
    catch_up(parcels_shared, [PARCELS], institution, batch=3)
    append(parcels_shared, institution, carried(BAD, 4, PLACES[2]), carried(GOOD, 3, PLACES[3]))
    catch_up(parcels_shared, [PARCELS], institution)
    bad, good = stored(parcels_shared, PARCELS, institution)
    assert (bad["places"], bad["version"], bad["position"]) == ((PLACES[0],), 2, 2)
    assert (good["places"], good["version"]) == ((PLACES[1], PLACES[3]), 3)
    [waiting] = parked(parcels_shared, PARCELS, institution)
    assert (waiting.key, waiting.position, waiting.topic) == (f"stream:{BAD}", 4, "test.parcel.carried")
    assert waiting.error.startswith("LookupError")
    assert verify(parcels_shared, PARCELS, institution).parked == 1

    assert not retry(parcels_shared, PARCELS, institution, waiting.key)
    assert [p.tries for p in parked(parcels_shared, PARCELS, institution)] == [2]
    assert stored(parcels_shared, PARCELS, institution) == [bad, good]

    assert retry(parcels_shared, mended(PARCELS), institution, BAD)
    assert parked(parcels_shared, PARCELS, institution) == []
    append(parcels_shared, institution, carried(BAD, 5, PLACES[3]))
    catch_up(parcels_shared, [mended(PARCELS)], institution)
    bad, again = stored(parcels_shared, PARCELS, institution)
    assert (bad["places"], bad["version"]) == ((PLACES[0], "Mended", PLACES[2], PLACES[3]), 5)
    assert again == good
    assert verify(parcels_shared, mended(PARCELS), institution).ok


def test_what_is_kept_of_a_failure_holds_nothing_of_the_event(parcels_shared: House, institution: str) -> None:
    """test-list 38: the place is in the exception's words; it must not be in the table."""
    append(parcels_shared, institution, sent(BAD), carried(BAD, 2, "Nowhere"))
    catch_up(parcels_shared, [PARCELS, VISITS], institution)
    waiting = parked(parcels_shared, institution=institution)
    assert len(waiting) == 2
    assert not any("Nowhere" in p.error for p in waiting)


def test_a_gathering_view_parks_one_key_only(parcels_shared: House, institution: str) -> None:
    """test-list 27: the key waits, whichever streams move it; its stream's other keys do not."""
    append(
        parcels_shared, institution,
        carried(BAD, 1, PLACES[0]), carried(BAD, 2, "Nowhere"), carried(BAD, 3, PLACES[0]), carried(GOOD, 1, "Nowhere"),
    )  # fmt: skip
    catch_up(parcels_shared, [VISITS], institution)
    assert [(r["place"], r["came"]) for r in stored(parcels_shared, VISITS, institution)] == [(PLACES[0], 2)]
    [waiting] = parked(parcels_shared, VISITS, institution)
    assert (waiting.key, waiting.position) == ('["Nowhere"]', 2)
    report = verify(parcels_shared, VISITS, institution)
    assert report.ok

    def tolerant(row: PlaceRow | None, event: ParcelCarried) -> PlaceRow:
        return PlaceRow(place=event.place, came=(row.came if row else 0) + 1, last=event.originator_id)

    view = View("parcel_place", PlaceRow, VISITS.events, tolerant, VISITS.key, VISITS.parts, True, listed=False)
    assert retry(parcels_shared, view, institution, ("Nowhere",))
    rows = {r["place"]: r for r in stored(parcels_shared, VISITS, institution)}
    assert (rows["Nowhere"]["came"], rows["Nowhere"]["last"], rows["Nowhere"]["position"]) == (2, GOOD, 4)
    assert verify(parcels_shared, view, institution).ok


def store_raw(house: House, institution: str, stream: UUID, version: int, topic: str, state: bytes) -> None:
    """An event as another program, or an older one of ours, would have stored it."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with house.within(institution) as connection:
        connection.execute(
            "SELECT append_events(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (institution, [stream], [version], [uuid4()], uuid4(), uuid4(), [now], [topic], [state]),
        )


def test_an_event_that_cannot_be_read_parks_its_stream(parcels_shared: House, institution: str) -> None:
    """test-list 27: in every kind of view, and only there."""
    append(parcels_shared, institution, sent(BAD), carried(BAD, 2, PLACES[0]), carried(GOOD, 1, PLACES[0]))
    store_raw(parcels_shared, institution, BAD, 3, "test.parcel.carried", b'{"place":7}')
    append(parcels_shared, institution, carried(BAD, 4, PLACES[1]), carried(GOOD, 2, PLACES[1]))
    views: Sequence[View[Any]] = (LEGS, VISITS)
    catch_up(parcels_shared, views, institution)
    assert [p.key for p in parked(parcels_shared, institution=institution)] == [f"stream:{BAD}"] * 2
    assert [(r["place"], r["came"]) for r in stored(parcels_shared, VISITS, institution)] == [
        (PLACES[0], 2),
        (PLACES[1], 1),
    ]
    assert len(stored(parcels_shared, LEGS, institution)) == 3
    assert not any(retry(parcels_shared, view, institution, BAD) for view in views)
    assert {p.tries for p in parked(parcels_shared, institution=institution)} == {2}


def test_a_former_topic_is_folded_as_the_event_that_took_its_place(parcels_shared: House, institution: str) -> None:
    """test-list 29: upcast when it is read, followed, rebuilt from, verified – the stored bytes stay."""
    store_raw(parcels_shared, institution, GOOD, 1, "test.parcel.posted", b'{"code":"OLD7"}')
    append(parcels_shared, institution, carried(GOOD, 2, PLACES[0]))
    catch_up(parcels_shared, [PARCELS], institution)
    [row] = stored(parcels_shared, PARCELS, institution)
    assert (row["number"], row["places"]) == ("OLD7", (PLACES[0],))
    assert verify(parcels_shared, PARCELS, institution).ok


def test_a_row_that_postgresql_refuses_parks_its_stream_alone(parcels_shared: House, institution: str) -> None:
    """test-list 27: found by halving the batch; what stands before and after it is stored."""
    events: list[Event] = [sent(UUID(int=n), f"P{n}") for n in range(3, 20)]
    events.insert(9, sent(BAD, "P\x00"))
    events.append(ParcelWeighed(originator_id=BAD, originator_version=2, stamp=stamp(next(_times)), kilos=0))  # type: ignore[arg-type]
    append(parcels_shared, institution, *events)
    catch_up(parcels_shared, [PARCELS], institution)
    assert [r["number"] for r in stored(parcels_shared, PARCELS, institution)] == [f"P{n}" for n in range(3, 20)]
    [waiting] = parked(parcels_shared, PARCELS, institution)
    assert (waiting.key, waiting.position) == (f"stream:{BAD}", 10)
    assert not retry(parcels_shared, PARCELS, institution, BAD)


def test_erasing_in_one_institution_leaves_the_same_ids_of_another_alone(
    parcels: House, parcel_database: Database
) -> None:
    """test-list 36: a person's key is destroyed here, the rows are folded again here, and nothing moves there."""
    ann = UUID(int=77)
    for institution in ("HERE", "THERE"):
        append(parcels, institution, sent(GOOD, sender=ann, name="Ann"), carried(GOOD, 2, PLACES[0]))
    catch_up(parcels, [PARCELS, VISITS])
    before = digest(parcels, PARCELS, "THERE")
    with psycopg.connect(parcel_database.owner, autocommit=True) as connection:
        gone = connection.execute("DELETE FROM subject_key WHERE institution = 'HERE' AND subject = %s", (ann,))
        assert gone.rowcount == 1
    with House(parcel_database.app, MASTER_KEY) as other:  # a process that never saw the key
        assert retry(other, PARCELS, "HERE", GOOD)
        assert all(verify(other, view).ok for view in (PARCELS, VISITS))
    assert [r["name"] for r in stored(parcels, PARCELS, "HERE")] == [ERASED]
    assert [r["name"] for r in stored(parcels, PARCELS, "THERE")] == ["Ann"]
    assert digest(parcels, PARCELS, "THERE") == before


def test_a_retry_here_leaves_the_same_stream_parked_there(parcels: House) -> None:
    """test-list 36: up to where the view stands in this institution, and nothing of the other."""
    for institution in ("RETRYA", "RETRYB"):
        append(parcels, institution, sent(BAD), carried(BAD, 2, "Nowhere"))
    append(parcels, "RETRYB", sent(GOOD), carried(GOOD, 2, PLACES[1]), carried(GOOD, 3, PLACES[1]))
    catch_up(parcels, [PARCELS])
    append(parcels, "RETRYA", carried(BAD, 3, PLACES[0]))
    there = stored(parcels, PARCELS, "RETRYB")
    assert retry(parcels, mended(PARCELS), "RETRYA", BAD)
    assert [p.institution for p in parked(parcels, PARCELS)] == ["RETRYB"]
    assert [row["version"] for row in stored(parcels, PARCELS, "RETRYA")] == [2]
    assert stored(parcels, PARCELS, "RETRYB") == there


def test_rows_are_kept_apart_by_institution(parcels_shared: House) -> None:
    """test-list 36: the same streams, keys and versions in two institutions."""
    for institution in ("TWINA", "TWINB"):
        append(parcels_shared, institution, sent(GOOD), carried(GOOD, 2, PLACES[0]))
    append(parcels_shared, "TWINA", carried(GOOD, 3, PLACES[0]))
    catch_up(parcels_shared, [PARCELS, LEGS, VISITS], "TWINA")
    assert stored(parcels_shared, PARCELS, "TWINB") == []
    catch_up(parcels_shared, [PARCELS, LEGS, VISITS])
    with parcels_shared.everywhere.connection() as connection:
        table = Table(PARCELS)
        [mine] = table.load(connection, "TWINA", [(GOOD,)]).values()
        [theirs] = table.load(connection, "TWINB", [(GOOD,)]).values()
        table.delete(connection, "TWINA", [(GOOD,)])
        assert mine is not None
        assert theirs is not None
        assert (mine.version, theirs.version) == (3, 2)
        assert list(table.load(connection, "TWINB", [(GOOD,)]).values()) == [theirs]
        table.copy(connection, [mine])
    assert [r["came"] for r in stored(parcels_shared, VISITS, "TWINB")] == [1]
