"""Tracking: true lag, signs of life, and reading one's own writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

from psycopg_pool import AsyncConnectionPool

from domain.store.casebook import House
from projections.runner import catch_up, follow
from projections.tracking import Stale, lag, wait_for, wait_for_async
from tests.projections.oracle import stored
from tests.projections.parcel import ALL, PARCELS, VISITS, journeys


@contextmanager
def following(house: House, wake: threading.Event) -> Generator[None]:
    """A runner of all views in this process."""
    stop = threading.Event()
    runner = threading.Thread(target=follow, args=(house, ALL), kwargs={"stop": stop, "wake": wake})
    runner.start()
    try:
        yield
    finally:
        stop.set()
        wake.set()
        runner.join()


def test_a_query_after_its_own_write_is_never_older(parcels: House) -> None:
    """test-list 31: the receipt's position is the token; after waiting for it the row has that version."""
    book, wake = parcels.casebook("RYW"), threading.Event()
    with following(parcels, wake):
        for command in journeys(1, 6):
            receipt = book.append(*command)
            wake.set()
            assert wait_for(parcels, ALL, "RYW", receipt.position, 30) is None
            with parcels.everywhere.connection() as connection:
                row = connection.execute(
                    "SELECT coalesce(max(position), 0) FROM parcel WHERE institution = 'RYW'"
                ).fetchone()
            assert row is not None
            listened = isinstance(command[-1], PARCELS.events)
            assert row[0] == receipt.position or not listened


def test_a_wait_that_ends_without_the_write_says_how_far_behind(parcels_shared: House, institution: str) -> None:
    """test-list 31: bounded, and typed: nobody takes an old row for a new one."""
    book = parcels_shared.casebook(institution)
    book.append_many(journeys(1, 3))
    assert wait_for(parcels_shared, ALL, institution, book.head(), 0.02) == Stale(book.head())
    catch_up(parcels_shared, [PARCELS], institution)
    assert wait_for(parcels_shared, [PARCELS], institution, book.head(), 0) is None
    assert wait_for(parcels_shared, [PARCELS, VISITS], institution, book.head(), 0) == Stale(book.head())
    assert wait_for(parcels_shared, [PARCELS], institution, book.head() + 5, 0) == Stale(5)


def test_waiting_on_the_event_loop_lets_others_go_on(parcels_shared: House, institution: str) -> None:
    """test-list 31: the same for the edge."""
    book = parcels_shared.casebook(institution)
    book.append_many(journeys(1, 3))

    async def ask() -> list[Stale | None]:
        async with AsyncConnectionPool(parcels_shared.conninfo, min_size=1, open=False) as pool:
            first = await wait_for_async(pool, [PARCELS], institution, book.head(), 0.01)
            waiting = asyncio.create_task(wait_for_async(pool, [PARCELS], institution, book.head(), 30))
            await asyncio.to_thread(catch_up, parcels_shared, [PARCELS], institution)
            return [first, await waiting]

    assert asyncio.run(ask()) == [Stale(book.head()), None]


def test_lag_is_true_when_no_runner_lives(parcels: House) -> None:
    """test-list 49: what is behind comes from the log, life from the heartbeat; neither from the runner's own word."""
    book, wake = parcels.casebook("LAG"), threading.Event()
    with following(parcels, wake):
        book.append_many(journeys(1, 3))
        first = book.head()
        wake.set()
        assert wait_for(parcels, ALL, "LAG", first, 30) is None
        assert all(found.alive and found.behind == 0 and found.seconds_behind is None for found in lag(parcels, ALL))
    book.append_many(journeys(2, 3, start=500))
    for found in lag(parcels, ALL):
        assert (found.position, found.head, found.behind) == (first, book.head(), book.head() - first)
        assert found.seconds_behind is not None
        assert found.seconds_behind >= 0
        assert not found.alive
        assert found.heartbeat_age is None


def test_the_lag_of_one_institution_is_not_anothers(parcels: House) -> None:
    """test-list 36, 49"""
    for name, count in (("LAGA", 3), ("LAGB", 5)):
        parcels.casebook(name).append_many(journeys(1, count))
    catch_up(parcels, [PARCELS], "LAGA")
    heads = {name: parcels.casebook(name).head() for name in ("LAGA", "LAGB")}
    assert [(f.institution, f.position, f.behind, f.parked) for f in lag(parcels, [PARCELS])] == [
        ("LAGA", heads["LAGA"], 0, 0),
        ("LAGB", 0, heads["LAGB"], 0),
    ]
    with parcels.everywhere.connection() as connection:
        connection.execute(
            "INSERT INTO parked (institution, view, key, position, topic, error)"
            " VALUES ('LAGA', 'parcel', 'stream:1', 1, 'x', 'x')"
        )
    assert [f.parked for f in lag(parcels, [PARCELS])] == [1, 0]


def test_a_runner_that_was_killed_is_seen_to_be_dead(parcels: House) -> None:
    """test-list 49: its last heartbeat stays and grows old."""
    parcels.casebook("DEAD").append_many(journeys(1, 2))
    with parcels.everywhere.connection() as connection:
        connection.execute(
            "INSERT INTO runner_heartbeat (runner, views, seen_at)"
            " VALUES (gen_random_uuid(), %s, clock_timestamp() - interval '1 minute')",
            ([view.name for view in ALL],),
        )
    for found in lag(parcels, ALL):
        assert not found.alive
        assert found.heartbeat_age is not None
        assert found.heartbeat_age >= 60


def test_a_new_institution_and_a_new_view_are_followed_without_being_told(parcels: House) -> None:
    """Tracking rows appear with the first event of an institution, and with a view's first runner."""
    parcels.casebook("NEWA").append_many(journeys(1, 2))
    catch_up(parcels, [PARCELS])
    parcels.casebook("NEWB").append_many(journeys(1, 2))
    assert catch_up(parcels, [PARCELS, VISITS]) > 0
    assert {(found.view, found.behind) for found in lag(parcels, [PARCELS, VISITS])} == {
        ("parcel", 0),
        ("parcel_place", 0),
    }
    assert [r["number"] for r in stored(parcels, PARCELS, "NEWA")] == [
        r["number"] for r in stored(parcels, PARCELS, "NEWB")
    ]
