"""Rebuilding beside the view: the same bytes, no gap, no double, nobody waits, and an interruption costs a chunk."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.store.casebook import House
from projections import switch
from projections.parked import parked
from projections.rebuild import RebuildUnderWay, discard, fold_digest, owner_conninfo, prepare, rebuild
from projections.runner import catch_up, follow
from projections.switch import SwitchRefused
from projections.tracking import wait_for
from projections.verify import digest, verify
from tests.conftest import MASTER_KEY, Database
from tests.projections.oracle import parcel_rows, stored
from tests.projections.parcel import ALL, EVERY, LEGS, PARCELS, VISITS, flat, journeys
from tests.projections.test_parked import BAD, GOOD, PLACES, append, carried, sent


def shape(database: Database, table: str) -> list[tuple[Any, ...]]:
    """What a table is besides its rows: columns, indexes and constraints by name, grants, triggers, policies."""
    queries = (
        "SELECT attname, atttypid, attnotnull, attcollation FROM pg_attribute"
        " WHERE attrelid = %(t)s::regclass AND attnum > 0 ORDER BY attnum",
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisprimary FROM pg_index"
        " WHERE indrelid = %(t)s::regclass ORDER BY 1",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %(t)s::regclass AND contype <> 'n' ORDER BY 1",
        "SELECT a.grantee::text, a.privilege_type FROM pg_class AS c CROSS JOIN aclexplode(relacl) AS a"
        " WHERE c.oid = %(t)s::regclass ORDER BY 1, 2",
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %(t)s::regclass ORDER BY 1",
        "SELECT policyname, cmd, roles::text, qual, with_check FROM pg_policies WHERE tablename = %(t)s ORDER BY 1",
        "SELECT relrowsecurity, relforcerowsecurity, obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE oid = %(t)s::regclass",
    )
    with psycopg.connect(database.owner) as connection:
        return [row for query in queries for row in connection.execute(query.encode(), {"t": table}).fetchall()]


@pytest.mark.parametrize("view", EVERY, ids=lambda view: view.name)
def test_a_rebuilt_view_is_the_followed_one_byte_for_byte(parcels: House, parcel_database: Database, view: Any) -> None:
    """test-list 22: two institutions, chunks smaller than a stream; rows, digest, tracking and table stay the same."""
    for n, name in enumerate(("RA", "RB")):
        parcels.casebook(name).append_many(journeys(n, 20))
    catch_up(parcels, ALL, batch=13)
    catch_up(parcels, EVERY)
    before = [digest(parcels, view, name) for name in ("RA", "RB")]
    was = shape(parcel_database, view.name)
    told: list[tuple[int, int]] = []
    done = rebuild(
        parcels, view, owner=parcel_database.owner, chunk=7, progress=lambda done, total: told.append((done, total))
    )
    assert done.switched
    assert told[-1][0] == told[-1][1] == max(total for _, total in told)
    assert [digest(parcels, view, name) for name in ("RA", "RB")] == before
    assert shape(parcel_database, view.name) == was
    assert verify(parcels, view).ok
    assert catch_up(parcels, EVERY) == 0


def test_a_rebuild_mends_what_was_written_into_the_table(parcels: House, parcel_database: Database) -> None:
    """test-list 22: against the oracle, not only against what was there."""
    commands = journeys(3, 15)
    parcels.casebook("MEND").append_many(commands)
    catch_up(parcels, [PARCELS])
    with parcels.everywhere.connection() as connection:
        connection.execute("UPDATE parcel SET number = 'forged'")
    assert not verify(parcels, PARCELS).ok
    rebuild(parcels, PARCELS, owner=parcel_database.owner)
    assert stored(parcels, PARCELS, "MEND") == parcel_rows("MEND", list(enumerate(flat(commands), 1)))


@pytest.mark.parametrize("view", [PARCELS, VISITS], ids=lambda view: view.name)
def test_writers_readers_and_runners_go_on_during_a_rebuild(
    parcels: House, parcel_database: Database, view: Any
) -> None:
    """test-list 23: nothing is lost or doubled at the cut-over, and a reader never sees fewer rows than before."""
    book, stop, failed = parcels.casebook("LIVE"), threading.Event(), list[BaseException]()
    parcels.casebook("STILL").append_many(journeys(9, 40))

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as problem:
                failed.append(problem)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def write() -> None:
        for round_ in range(100):
            for command in journeys(round_, 3, start=round_ * 1000):
                book.append(*command)
            if stop.is_set():
                return

    def read() -> None:
        seen = 0
        while not stop.is_set():
            with parcels.everywhere.connection() as connection:
                row = connection.execute(f"SELECT coalesce(max(position), 0) FROM {view.name}".encode()).fetchone()
            assert row is not None
            assert row[0] >= seen, "a reader saw an older view than before"
            seen = row[0]

    runner = guarded(lambda: follow(parcels, ALL, stop=stop))
    threads = [guarded(write), guarded(read)]
    for _ in range(3):
        assert rebuild(parcels, view, owner=parcel_database.owner, chunk=50).switched
    stop.set()
    for thread in (*threads, runner):
        thread.join()
    assert not failed
    catch_up(parcels, ALL)
    assert wait_for(parcels, ALL, "LIVE", book.head(), 0) is None
    assert all(verify(parcels, v).ok for v in ALL)


def test_more_hands_make_the_same_view(parcels: House, parcel_database: Database) -> None:
    """test-list 22, 25: two processes share the slices."""
    for n in range(4):
        parcels.casebook(f"HANDS{n}").append_many(journeys(n, 30))
    catch_up(parcels, ALL)
    before = [digest(parcels, view, f"HANDS{n}") for n in range(4) for view in ALL]
    for view in ALL:
        rebuild(parcels, view, owner=parcel_database.owner, chunk=20, hands=1, master_key=MASTER_KEY)
    assert [digest(parcels, view, f"HANDS{n}") for n in range(4) for view in ALL] == before


class Interrupted(Exception):
    """The operator pressed Ctrl-C."""


def test_an_interrupted_rebuild_goes_on_where_it_was(parcels: House, parcel_database: Database) -> None:
    """test-list 24: by an exception, by being told to stop, and at last to its end; no event is folded twice."""
    parcels.casebook("HALF").append_many(journeys(5, 60))
    catch_up(parcels, [PARCELS])
    before = digest(parcels, PARCELS, "HALF")
    told: list[int] = []

    def interrupt(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        rebuild(parcels, PARCELS, owner=parcel_database.owner, chunk=20, progress=interrupt)
    stop = threading.Event()
    stopped = rebuild(
        parcels, PARCELS, owner=parcel_database.owner, chunk=20, stop=stop, progress=lambda done, _: stop.set()
    )
    assert not stopped.switched
    assert digest(parcels, PARCELS, "HALF") == before
    with parcels.everywhere.connection() as connection:
        row = connection.execute("SELECT sum(done), sum(total) FROM rebuild").fetchone()
    assert row is not None
    assert told[-1] < row[0] < row[1]
    finished = rebuild(parcels, PARCELS, owner=parcel_database.owner, chunk=20)
    assert finished.switched
    assert finished.events == row[1] - row[0]
    assert digest(parcels, PARCELS, "HALF") == before


REBUILD = """
import os, sys
from domain.store.casebook import House
from projections.rebuild import rebuild
from tests.projections.parcel import LEGS
left = 4
def progress(done, total):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
with House(sys.argv[1], bytes.fromhex(sys.argv[3])) as house:
    rebuild(house, LEGS, owner=sys.argv[2], chunk=20, progress=progress)
"""


def test_a_killed_rebuild_goes_on_where_it_was(parcels: House, parcel_database: Database) -> None:
    """test-list 24: kill -9 in the middle."""
    parcels.casebook("DEAD").append_many(journeys(6, 60))
    catch_up(parcels, [LEGS])
    before = digest(parcels, LEGS, "DEAD")
    arguments = [parcel_database.app, parcel_database.owner, MASTER_KEY.hex()]
    assert subprocess.run([sys.executable, "-c", REBUILD, *arguments], check=False).returncode == -9
    with parcels.everywhere.connection() as connection:
        row = connection.execute("SELECT sum(done), sum(total) FROM rebuild").fetchone()
    assert row is not None
    assert 0 < row[0] < row[1]
    with psycopg.connect(parcel_database.owner, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchone():
            pass  # the server has yet to notice that its client is dead
    assert rebuild(parcels, LEGS, owner=parcel_database.owner, chunk=20).events == row[1] - row[0]
    assert digest(parcels, LEGS, "DEAD") == before


def test_a_rebuild_by_other_code_begins_anew(parcels: House, parcel_database: Database) -> None:
    """Half of the rows by the old fold and half by the new one would be nobody's view."""
    parcels.casebook("CODE").append_many(journeys(5, 30))
    with psycopg.connect(owner_conninfo(parcel_database.owner), autocommit=True) as connection:
        prepare(connection, PARCELS)
        connection.execute("UPDATE rebuild_begun SET fold = 'older'")
        connection.execute("UPDATE rebuild SET finished = true")
        prepare(connection, PARCELS)
        row = connection.execute("SELECT fold, bool_or(finished) FROM rebuild_begun, rebuild GROUP BY 1").fetchone()
        assert row == (fold_digest(PARCELS), False)
        discard(connection, PARCELS)
        assert connection.execute("SELECT to_regclass('parcel__next')").fetchone() == (None,)
    rebuild(parcels, PARCELS, owner=parcel_database.owner)
    assert verify(parcels, PARCELS).ok


def test_two_rebuilds_of_one_view_are_one_too_many(parcels: House, parcel_database: Database) -> None:
    parcels.casebook("TWO").append_many(journeys(5, 5))

    def again(done: int, total: int) -> None:
        with pytest.raises(RebuildUnderWay):
            rebuild(parcels, PARCELS, owner=parcel_database.owner)

    assert rebuild(parcels, PARCELS, owner=parcel_database.owner, progress=again).switched


def test_a_long_reader_is_not_disturbed_and_the_rebuild_can_end_later(
    parcels: House, parcel_database: Database
) -> None:
    """test-list 23: the switch gives way; another reader is not kept waiting behind it."""
    parcels.casebook("LONG").append_many(journeys(5, 5))
    catch_up(parcels, [PARCELS])
    with parcels.everywhere.connection() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM parcel")
        with pytest.raises(SwitchRefused, match="rebuild again later"):
            rebuild(parcels, PARCELS, owner=parcel_database.owner, patience=0.1)
        assert reader.execute("SELECT count(*) FROM parcel").fetchone() == (5,)
    assert rebuild(parcels, PARCELS, owner=parcel_database.owner).switched


def test_a_rebuild_keeps_what_migrations_put_on_the_table(parcels: House, parcel_database: Database) -> None:
    """Indexes with their names, triggers, row security, comments: the next migration must find them."""
    with psycopg.connect(parcel_database.owner, autocommit=True) as connection:
        connection.execute("CREATE INDEX parcel_by_place ON parcel (institution, place) INCLUDE (number)")
        connection.execute("CREATE UNIQUE INDEX parcel_number ON parcel (institution, lower(number))")
        connection.execute("ALTER TABLE parcel ADD CONSTRAINT heavy CHECK (kilos < 1000)")
        connection.execute("ALTER TABLE parcel ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY mine ON parcel FOR ALL TO anjuan_app USING (true) WITH CHECK (position > 0)")
        connection.execute("COMMENT ON TABLE parcel IS 'It''s parcels'")
        connection.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER noted AFTER INSERT ON parcel FOR EACH ROW EXECUTE FUNCTION note()"
        )
    was = shape(parcel_database, "parcel")
    rebuild(parcels, PARCELS, owner=parcel_database.owner)
    assert shape(parcel_database, "parcel") == was
    rebuild(parcels, PARCELS, owner=parcel_database.owner)
    assert shape(parcel_database, "parcel") == was


def test_a_rebuild_refuses_to_break_what_is_built_on_the_table(parcels: House, parcel_database: Database) -> None:
    with psycopg.connect(parcel_database.owner, autocommit=True) as connection:
        connection.execute("CREATE VIEW heavy_parcel AS SELECT * FROM parcel WHERE kilos > 50")
    with pytest.raises(SwitchRefused, match="heavy_parcel"):
        rebuild(parcels, PARCELS, owner=parcel_database.owner)
    with psycopg.connect(owner_conninfo(parcel_database.owner), autocommit=True) as connection:
        switch.drop_tables(connection, PARCELS)
        assert connection.execute("SELECT count(*) FROM rebuild_begun").fetchone() == (0,)


def test_what_fails_in_a_rebuild_is_parked_as_it_would_be_while_following(
    parcels: House, parcel_database: Database
) -> None:
    """test-list 27: one bad stream does not stop a rebuild; it waits at the same position."""
    append(parcels, "BAD", sent(BAD), carried(BAD, 2, PLACES[0]), carried(BAD, 3, "Nowhere"), sent(GOOD))
    append(parcels, "BAD", *(sent(UUID(int=n), "x\x00" if n == 12 else f"P{n}") for n in (11, 12, 13)))
    catch_up(parcels, ALL)
    waiting = {(p.key, p.position) for p in parked(parcels, PARCELS)}
    rows = stored(parcels, PARCELS, "BAD")
    rebuild(parcels, PARCELS, owner=parcel_database.owner)
    assert {(p.key, p.position) for p in parked(parcels, PARCELS)} == waiting
    assert len(waiting) == 2
    assert stored(parcels, PARCELS, "BAD") == rows
    visits = {(p.key, p.position) for p in parked(parcels, VISITS)}
    rebuild(parcels, VISITS, owner=parcel_database.owner)
    assert {(p.key, p.position) for p in parked(parcels, VISITS)} == visits == {('["Nowhere"]', 3)}
