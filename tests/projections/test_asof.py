"""Rows as they were, and who set what: every bound agrees with a log that ends there."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.kernel import Event
from domain.store.casebook import House
from projections.asof import as_of, blame
from projections.runner import catch_up
from projections.view import Key, View
from tests.projections.oracle import leg_rows, parcel_rows, place_rows, plain, stored
from tests.projections.parcel import ALL, LEGS, PARCELS, PLACES, START, VISITS, ParcelScrapped, flat, journeys, stamp
from tests.projections.test_parked import GOOD, append, carried, sent

_numbers = iter(range(10**6))


def rows(house: House, view: View[Any], institution: str, key: UUID | Key, **bound: Any) -> list[dict[str, Any]]:
    return [plain(row) for row in as_of(house, view, institution, key, **bound)]


def one_by_one(house: House, institution: str, events: list[Event]) -> list[Any]:
    """Append each event alone, so that each has its own time of recording; those times."""
    book = house.casebook(institution)
    for event in events:
        book.append(event)
    with house.everywhere.connection() as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT recorded_at FROM event WHERE institution = %s ORDER BY position", (institution,)
            )
        ]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), parcels=st.integers(1, 5), data=st.data())
def test_every_bound_is_a_log_that_ends_there(parcels_shared: House, seed: int, parcels: int, data: Any) -> None:
    """test-list 32: as of a position, a version and a time of recording, against views of the truncated log."""
    whole, short = f"W{next(_numbers)}", f"S{next(_numbers)}"
    events = flat(journeys(seed, parcels))
    recorded = one_by_one(parcels_shared, whole, events)
    if data.draw(st.booleans(), "the views have read"):
        catch_up(parcels_shared, ALL, whole)
    cut = data.draw(st.integers(1, len(events)), "events kept")
    append(parcels_shared, short, *events[:cut])
    catch_up(parcels_shared, ALL, short)
    # two events may be recorded in the same microsecond
    last = max(n for n, at in enumerate(recorded, 1) if at <= recorded[cut - 1])
    for view in (PARCELS, LEGS, VISITS):
        keys: list[Any] = list(PLACES) if view is VISITS else sorted({e.originator_id for e in events})
        for key in keys:
            key = (key,)
            truncated = [
                r | {"institution": whole} for r in stored(parcels_shared, view, short) if r[view.key[0]] == key[0]
            ]
            assert rows(parcels_shared, view, whole, key, position=cut) == truncated
            if last == cut:
                assert rows(parcels_shared, view, whole, key, recorded_at=recorded[cut - 1]) == truncated
            if view is not VISITS:
                version = sum(1 for e in events[:cut] if e.originator_id == key[0])
                assert rows(parcels_shared, view, whole, key, version=version) == truncated


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), minutes=st.integers(-90, 60))
def test_as_of_a_moment_leaves_out_what_happened_later(parcels_shared: House, seed: int, minutes: int) -> None:
    """test-list 32: by what the actors said of the time, in the order of recording, for one stream and many."""
    institution = f"M{next(_numbers)}"
    events = flat(journeys(seed, 5))
    append(parcels_shared, institution, *events)
    catch_up(parcels_shared, [VISITS], institution)
    moment = START + timedelta(minutes=len(events) // 2 + minutes)
    log = [(n, e) for n, e in enumerate(events, 1) if e.stamp.at <= moment]
    begun = {e.originator_id for _, e in log if e.originator_version == 1}
    for parcel in {e.originator_id for e in events}:
        own = [(n, e) for n, e in log if e.originator_id == parcel and parcel in begun]
        assert rows(parcels_shared, PARCELS, institution, parcel, occurred_at=moment) == parcel_rows(institution, own)
    for place in PLACES:
        expected = [r for r in place_rows(institution, log) if r["place"] == place]
        assert rows(parcels_shared, VISITS, institution, (place,), occurred_at=moment) == expected


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_blame_names_the_event_that_set_each_field(parcels_shared: House, seed: int) -> None:
    """Against folding every prefix: the blamed event is the last at which the field changed."""
    institution = f"B{next(_numbers)}"
    events = flat(journeys(seed, 2))
    append(parcels_shared, institution, *events)
    for parcel in {e.originator_id for e in events}:
        found = blame(parcels_shared, PARCELS, institution, parcel)
        states = [(0, dict[str, Any]())]
        for position in range(1, len(events) + 1):
            now = parcel_rows(
                institution, [(n, e) for n, e in enumerate(events[:position], 1) if e.originator_id == parcel]
            )
            states.append((position, now[0] if now else {}))
        current = states[-1][1]
        assert {name: b.value for name, b in found.items()} == {
            k: v for k, v in current.items() if k not in ("institution", "position", "version")
        }
        for name, b in found.items():
            changed = [p for (_, was), (p, now) in pairwise(states) if was.get(name, ...) != now.get(name, ...)]
            event = events[b.position - 1]
            assert b.position == changed[-1]
            assert (b.version, b.topic, b.actor, b.occurred_at) == (
                event.originator_version, event.topic, event.stamp.by, event.stamp.at,
            )  # fmt: skip


def test_a_row_that_is_gone_has_a_past(parcels_shared: House, institution: str) -> None:
    append(
        parcels_shared, institution, sent(GOOD), carried(GOOD, 2, PLACES[0]),
        ParcelScrapped(originator_id=GOOD, originator_version=3, stamp=stamp(10**7)),
    )  # fmt: skip
    catch_up(parcels_shared, ALL, institution)
    assert stored(parcels_shared, PARCELS, institution) == []
    assert as_of(parcels_shared, PARCELS, institution, GOOD) == []
    assert blame(parcels_shared, PARCELS, institution, GOOD) == {}
    [was] = as_of(parcels_shared, PARCELS, institution, GOOD, version=2)
    assert was.place == PLACES[0]
    assert blame(parcels_shared, PARCELS, institution, GOOD, version=2)["place"].position == 2


def test_one_row_of_a_stream_or_all_of_them(parcels_shared: House, institution: str) -> None:
    append(parcels_shared, institution, sent(GOOD), carried(GOOD, 2, PLACES[0]), carried(GOOD, 3, PLACES[1]))
    log = [(2, carried(GOOD, 2, PLACES[0])), (3, carried(GOOD, 3, PLACES[1]))]
    assert [r["place"] for r in leg_rows(institution, log)] == [
        r.place for r in as_of(parcels_shared, LEGS, institution, GOOD)
    ]
    [second] = as_of(parcels_shared, LEGS, institution, (GOOD, 3))
    assert second.place == PLACES[1]
    [first] = as_of(parcels_shared, LEGS, institution, (GOOD, 2), version=2)
    assert first.left_at is None


def test_a_version_means_nothing_to_a_view_of_many_streams(parcels_shared: House, institution: str) -> None:
    with pytest.raises(ValueError, match="not by a version"):
        as_of(parcels_shared, VISITS, institution, (PLACES[0],), version=1)


def test_another_institution_has_no_such_past(parcels_shared: House) -> None:
    """test-list 36: the same id elsewhere is another stream."""
    append(parcels_shared, "PASTA", sent(GOOD, "A"))
    append(parcels_shared, "PASTB", sent(GOOD, "B"))
    assert [r.number for r in as_of(parcels_shared, PARCELS, "PASTA", GOOD)] == ["A"]
    assert as_of(parcels_shared, PARCELS, "PASTC", GOOD) == []
    assert as_of(parcels_shared, VISITS, "PASTC", (PLACES[0],)) == []
