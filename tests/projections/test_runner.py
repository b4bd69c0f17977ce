"""Following: exactly once, in order, by any number of runners, whatever dies."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.store.casebook import House
from projections.rebuild import help_rebuild, owner_conninfo, prepare
from projections.runner import Fenced, advance, catch_up, follow
from projections.table import Table
from projections.tracking import CLAIM, wait_for
from projections.verify import digest, verify
from tests.conftest import MASTER_KEY, Database, Server
from tests.projections.oracle import leg_rows, parcel_rows, place_rows, stored
from tests.projections.parcel import ALL, EVERY, LEGS, PARCELS, TRAIL, VISITS, ParcelTouched, flat, journeys, stamp


def forget(house: House, institution: str) -> None:
    """As if no view had ever read this institution."""
    with house.everywhere.connection() as connection, connection.transaction():
        for table in ("tracking", *(v.name for v in EVERY), "parcel_place_source", "parcel_trail_source"):
            connection.execute(f"DELETE FROM {table} WHERE institution = %s".encode(), (institution,))


def trail_of(house: House, institution: str) -> list[str]:
    """The institution's events in the order of their positions."""
    with house.everywhere.connection() as connection:
        rows = connection.execute(
            "SELECT originator_id || '/' || originator_version FROM event WHERE institution = %s ORDER BY position",
            (institution,),
        ).fetchall()
    return [row[0] for row in rows]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), parcels=st.integers(1, 12), batch=st.integers(1, 40))
def test_views_show_what_an_independent_oracle_works_out(
    parcels_shared: House, seed: int, parcels: int, batch: int
) -> None:
    """test-list 16, 22: whatever the batches, the rows are those of the log, byte for byte the same."""
    institution = f"O{next(_numbers)}"
    commands = journeys(seed, parcels)
    parcels_shared.casebook(institution).append_many(commands)
    catch_up(parcels_shared, EVERY, institution, batch=batch)
    log = list(enumerate(flat(commands), 1))
    assert stored(parcels_shared, PARCELS, institution) == parcel_rows(institution, log)
    assert stored(parcels_shared, LEGS, institution) == leg_rows(institution, log)
    assert stored(parcels_shared, VISITS, institution) == place_rows(institution, log)
    [row] = stored(parcels_shared, TRAIL, institution)
    assert list(row["trail"]) == trail_of(parcels_shared, institution)


_numbers = iter(range(10**6))


def test_writers_and_runners_at_once_lose_and_double_nothing(parcels: House) -> None:
    """test-list 16, 21: four writers, three runners of the same views: the delivered order is the committed order."""
    book = parcels.casebook("BUSY")
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for command in journeys(writer, 6, start=writer * 1000):
                book.append(*command)
        except BaseException as problem:
            failed.append(problem)

    runners = [threading.Thread(target=follow, args=(parcels, EVERY), kwargs={"stop": stop}) for _ in range(3)]
    writers = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in (*runners, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in runners:
        thread.join()
    assert not failed
    catch_up(parcels, EVERY)
    [row] = stored(parcels, TRAIL, "BUSY")
    assert list(row["trail"]) == trail_of(parcels, "BUSY")
    assert all(verify(parcels, view).ok for view in EVERY)


def test_two_runners_never_hold_the_same_view_of_an_institution(parcels: House) -> None:
    """test-list 21: what one runner has claimed, another passes over; other views it may have."""
    parcels.casebook("ONE").append_many(journeys(1, 3))
    tables: dict[str, Table[Any]] = {view.name: Table(view) for view in ALL}
    with parcels.everywhere.connection() as first, parcels.everywhere.connection() as second:
        advance(first, parcels.mapper, tables, batch=1)
        with first.transaction():
            claimed = first.execute(CLAIM, ("ONE", [PARCELS.name])).fetchall()
            assert len(claimed) == 1
            while advance(second, parcels.mapper, tables):
                pass
            reached = dict(second.execute("SELECT view, position FROM tracking").fetchall())
    head = parcels.casebook("ONE").head()
    assert reached == {PARCELS.name: 1, LEGS.name: head, VISITS.name: head}


def test_tracking_that_moved_under_a_runner_undoes_its_step(parcels: House, parcel_database: Database) -> None:
    """test-list 21: should a claim ever fail to hold, nothing is applied twice; the step leaves no row and no move."""
    parcels.casebook("FENCE").append_many(journeys(1, 3))
    with psycopg.connect(parcel_database.owner, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN UPDATE tracking SET position = position + 1; RETURN NULL; END';"
            "CREATE TRIGGER moves AFTER INSERT ON parcel FOR EACH STATEMENT EXECUTE FUNCTION moves()"
        )
        with pytest.raises(Fenced, match="FENCE"):
            catch_up(parcels, [PARCELS])
        assert owner.execute("SELECT position FROM tracking").fetchall() == [(0,)]
        assert stored(parcels, PARCELS, "FENCE") == []
        owner.execute("DROP TRIGGER moves ON parcel")
    catch_up(parcels, [PARCELS])
    assert verify(parcels, PARCELS).ok


def test_a_runner_gives_its_connection_back_as_it_was(parcels: House, parcel_database: Database) -> None:
    """Views need not wait for the disk; the next append on the same connection must."""
    options = f"{conninfo_to_dict(parcel_database.app).get('options') or ''} -c synchronous_commit=on".strip()
    with House(make_conninfo(parcel_database.app, options=options), MASTER_KEY, pool_max=1) as house:
        house.casebook("DISK").append_many(journeys(1, 3))

        def waits_for_the_disk() -> bool:
            with house.everywhere.connection() as connection:
                return connection.execute("SHOW synchronous_commit").fetchone() == ("on",)

        assert waits_for_the_disk()
        catch_up(house, ALL)
        assert waits_for_the_disk()
        stop = threading.Event()
        runner = threading.Thread(target=follow, args=(house, ALL), kwargs={"stop": stop})
        runner.start()
        stop.set()
        runner.join()
        assert waits_for_the_disk()
        with psycopg.connect(owner_conninfo(parcel_database.owner), autocommit=True) as connection:
            prepare(connection, PARCELS)
        help_rebuild(house, PARCELS, stop=threading.Event())
        assert waits_for_the_disk()


@pytest.mark.parametrize("runners", [1, 2, 3, 4])
def test_any_number_of_runners_gives_the_same_bytes(parcels_shared: House, runners: int) -> None:
    """test-list 25."""
    names = [f"SHARD{n}" for n in range(3)]
    for n, name in enumerate(names):
        parcels_shared.casebook(name).append_many(journeys(n, 10))
        forget(parcels_shared, name)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(catch_up(parcels_shared, ALL, batch=10))) for _ in range(runners)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    catch_up(parcels_shared, ALL)
    assert len(found) == runners
    digests = [digest(parcels_shared, view, name) for view in ALL for name in names]
    for name in names:
        forget(parcels_shared, name)
    catch_up(parcels_shared, ALL, batch=7)
    assert digests == [digest(parcels_shared, view, name) for view in ALL for name in names]


class Died(Exception):
    """What stands for the death of a process: its connection ends where it is."""


class Doomed(psycopg.Connection[Any]):
    """A connection whose process dies before or after the n-th exchange with the server."""

    left: float = float("inf")
    before: bool = True

    def wait(self, gen: Any, interval: Any = 0.1, *given: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left < 0 and self.before:
            self._die()
        result = super().wait(gen, interval, *given, **named)
        if self.left < 0:
            self._die()
        return result

    def _die(self) -> None:
        self.pgconn.finish()
        raise Died


@pytest.mark.parametrize("before", [True, False])
def test_a_runner_that_dies_between_any_two_statements_leaves_all_or_nothing(
    parcels_shared: House, before: bool
) -> None:
    """test-list 20: die at every exchange with the server; then every view is as its tracking says, and goes on."""
    tables: dict[str, Table[Any]] = {view.name: Table(view) for view in EVERY}
    commands = journeys(4, 4, 3)
    deaths = 0
    for exchange in range(500):
        institution = f"D{'B' if before else 'A'}{exchange}"
        parcels_shared.casebook(institution).append_many(commands)
        survived = True
        with Doomed.connect(parcels_shared.runner_conninfo, autocommit=True) as connection:
            connection.left, connection.before = exchange, before
            try:
                while advance(connection, parcels_shared.mapper, tables, 6, institution=institution):
                    pass
            except (Died, psycopg.OperationalError):
                survived = False
            connection.left = float("inf")
        for view in EVERY:
            assert verify(parcels_shared, view, institution).ok, (exchange, view.name)
        if survived:
            break
        deaths += 1
        if exchange % 10 == 0:
            settle(parcels_shared, institution)
            [row] = stored(parcels_shared, TRAIL, institution)
            assert list(row["trail"]) == trail_of(parcels_shared, institution)
    assert deaths > 20


RUNNER = """
import sys, threading
from domain.store.casebook import House
from projections.runner import follow
from tests.projections.parcel import EVERY
with House(sys.argv[1], bytes.fromhex(sys.argv[2])) as house:
    print("following", flush=True)
    follow(house, EVERY, stop=threading.Event(), batch=5)
"""


def test_a_killed_runner_process_is_continued_by_the_next(parcels: House, parcel_database: Database) -> None:
    """test-list 20: kill -9 at moments drawn by chance."""
    chance = random.Random(3)
    book = parcels.casebook("KILL")
    for attempt in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", RUNNER, parcel_database.app, MASTER_KEY.hex()], stdout=subprocess.PIPE
        ) as runner:
            assert runner.stdout is not None
            runner.stdout.readline()
            for command in journeys(attempt, 8, start=attempt * 1000):
                book.append(*command)
            time.sleep(chance.random() / 20)
            runner.send_signal(signal.SIGKILL)
        assert all(verify(parcels, view).ok for view in EVERY)
    settle(parcels, "KILL")
    [row] = stored(parcels, TRAIL, "KILL")
    assert list(row["trail"]) == trail_of(parcels, "KILL")


def test_tracking_moves_over_events_nobody_listens_to(parcels_shared: House, institution: str) -> None:
    """test-list 26: a view that has nothing to fold is up to date all the same."""
    book = parcels_shared.casebook(institution)
    [[sent]] = journeys(1, 1, 1)
    touched = [
        ParcelTouched(originator_id=sent.originator_id, originator_version=n, stamp=stamp(n)) for n in range(2, 40)
    ]
    book.append_many([[sent], *([t] for t in touched)])
    assert catch_up(parcels_shared, ALL, institution, batch=5) == 39
    with parcels_shared.everywhere.connection() as connection:
        reached = connection.execute("SELECT position FROM tracking WHERE institution = %s", (institution,)).fetchall()
    assert reached == [(39,)] * len(ALL)
    [row] = stored(parcels_shared, PARCELS, institution)
    assert (row["position"], row["version"]) == (1, 1)


def test_a_runner_comes_back_with_its_database(parcels: House, server: Server, parcel_database: Database) -> None:
    """A lost connection ends nothing: the runner takes another one and goes on where it was."""
    stop, wake = threading.Event(), threading.Event()
    runner = threading.Thread(target=follow, args=(parcels, EVERY), kwargs={"stop": stop, "wake": wake})
    runner.start()
    book = parcels.casebook("BACK")
    try:
        book.append_many(journeys(1, 4))
        wake.set()
        wait_until(parcels, "BACK")
        with psycopg.connect(server.admin, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (parcel_database.name,)
            )
        parcels.pool.check()
        parcels.everywhere.check()
        book.append_many(journeys(2, 4, start=5000))
        wake.set()
        wait_until(parcels, "BACK")
    finally:
        stop.set()
        wake.set()
        runner.join()
    assert all(verify(parcels, view).ok for view in EVERY)


def settle(house: House, institution: str) -> None:
    """Catch up, also when a server process still has to notice that its client is dead."""
    head = house.casebook(institution).head()
    while wait_for(house, EVERY, institution, head, 0.01) is not None:
        catch_up(house, EVERY, institution)


def wait_until(house: House, institution: str) -> None:

    assert wait_for(house, EVERY, institution, house.casebook(institution).head(), 30) is None
