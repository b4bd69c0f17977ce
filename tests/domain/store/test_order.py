"""One order per institution, whatever else happens in the database (test-list 6, 11-16)."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import OperationalError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from psycopg_pool import PoolTimeout

from api.embedded import Embedded
from domain.kernel import Event
from domain.store.casebook import Casebook, House, application_conninfo
from domain.store.recorder import StaleVersion
from domain.store.tenant import SET_INSTITUTION
from migrations.runner import migrate
from tests.conftest import MASTER_KEY, Database
from tests.domain.store.tally import TALLY, Tally, added, opened, stamp


def delivered(casebook: Casebook) -> list[tuple[int, UUID, int]]:
    """What a follower that reads in small steps is given: position, stream, version."""
    seen: list[tuple[int, UUID, int]] = []
    while page := casebook.recorder.select_notifications(seen[-1][0] + 1 if seen else 1, 7):
        seen += [(n.id, UUID(str(n.originator_id)), n.originator_version) for n in page]
    return seen


def assert_in_order(casebook: Casebook) -> None:
    """Positions without a gap, versions of each stream contiguous and in order."""
    seen = delivered(casebook)
    assert [position for position, _, _ in seen] == list(range(1, len(seen) + 1))
    heads: dict[UUID, int] = {}
    for _, stream, version in seen:
        assert version == heads.get(stream, 0) + 1
        heads[stream] = version


def test_a_frozen_append_holds_up_its_own_institution_and_nobody_else(
    house: House, casebook: Casebook, institution: str
) -> None:
    """test-list 11, 12, 14: a transaction that sleeps on our lock hides nothing and burns no position."""
    other = house.casebook(institution + "X")
    casebook.append(opened(uuid4()))
    with ThreadPoolExecutor(3) as others:
        with psycopg.connect(application_conninfo(house.conninfo)) as frozen:
            frozen.execute(SET_INSTITUTION, (institution,))
            frozen.execute("SELECT * FROM take_positions(%s, 5)", (institution,))
            waiting: list[Future[object]] = [others.submit(casebook.append, opened(uuid4())) for _ in range(3)]
            other.append(opened(uuid4()))
            assert casebook.recorder.max_notification_id() == 1
            assert not any(w.done() for w in waiting)
            frozen.rollback()
        for w in waiting:
            w.result(30)
    assert_in_order(casebook)
    assert casebook.head() == 4


def test_somebody_idle_in_a_transaction_elsewhere_delays_nothing(house: House, casebook: Casebook) -> None:
    """test-list 14."""
    with psycopg.connect(application_conninfo(house.conninfo)) as idle:
        idle.execute("SELECT count(*) FROM event")
        for _ in range(5):
            casebook.append(opened(uuid4()))
        assert delivered(casebook)[-1][0] == 5


@pytest.mark.parametrize(
    "maintenance",
    ["VACUUM event", "VACUUM (FREEZE) event", "ANALYZE event", "REINDEX TABLE CONCURRENTLY event",
     "CREATE INDEX CONCURRENTLY frozen_index ON event (actor)"],
)  # fmt: skip
def test_maintenance_goes_on_beside_appends(database: Database, maintenance: str) -> None:
    """test-list 15: neither waits for the other, nothing fails, the order holds."""
    with House(database.app, MASTER_KEY, pool_max=4) as house:
        casebook = house.casebook("MAINT")
        stop = threading.Event()

        def write() -> int:
            count = 0
            while not stop.is_set():
                casebook.append(opened(uuid4()))
                count += 1
            return count

        with ThreadPoolExecutor(3) as writers, psycopg.connect(database.owner, autocommit=True) as owner:
            counts = [writers.submit(write) for _ in range(3)]
            owner.execute("SET lock_timeout = '20s'")
            for _ in range(2):
                owner.execute(maintenance.encode())
                owner.execute("DROP INDEX IF EXISTS anjuan.frozen_index")
            stop.set()
            stored = sum(c.result() for c in counts)
        assert casebook.head() == stored
        assert_in_order(casebook)


def test_kill_9_of_the_server_loses_no_acknowledged_command_and_leaves_none_half_done(place: Path) -> None:
    """test-list 6, 13: killed again and again while eight writers append commands of three events."""
    with Embedded(place / "server") as server:
        migrate(server.owner_conninfo)
        with House(server.app_conninfo, MASTER_KEY, pool_max=8, pool_timeout=30) as house:
            casebook = house.casebook("CRASH")
            casebook.append(opened(uuid4()))
            stop = threading.Event()
            acknowledged: list[UUID] = []

            def write() -> None:
                while not stop.is_set():
                    id, said = uuid4(), stamp()
                    try:
                        casebook.append(added(id, 1, said), added(id, 2, said), added(id, 3, said))
                    except (OperationalError, PoolTimeout):
                        continue
                    acknowledged.append(said.command_id)

            with ThreadPoolExecutor(8) as writers:
                working = [writers.submit(write) for _ in range(8)]
                for _ in range(2):
                    enough = len(acknowledged) + 40
                    while len(acknowledged) < enough:
                        time.sleep(0.01)
                    os.kill(postmaster(server), signal.SIGKILL)
                    server.ensure()
                enough = len(acknowledged) + 40
                while len(acknowledged) < enough:
                    time.sleep(0.01)
                stop.set()
                for w in working:
                    w.result(60)
            assert_in_order(casebook)
            with house.everywhere.connection() as connection:
                rows = connection.execute(
                    "SELECT command_id, count(*) FROM event WHERE institution = 'CRASH' AND position > 1 GROUP BY 1"
                ).fetchall()
            stored = dict(rows)
            assert set(stored.values()) == {3}
            assert set(acknowledged) <= stored.keys()


def postmaster(server: Embedded) -> int:
    """The process id of the server itself, asked of it."""
    with psycopg.connect(server.owner_conninfo) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(row[0].splitlines()[0])


class StoreMachine(RuleBasedStateMachine):
    """Commands, repeats, conflicts and rollbacks in any order against a model that is a plain list (test-list 16)."""

    casebook: Casebook
    streams = Bundle("streams")
    commands = Bundle("commands")

    def __init__(self) -> None:
        super().__init__()
        self.book = self.casebook.house.casebook("M" + uuid4().hex[:12].upper())
        self.log: list[Event] = []

    @rule(target=streams)
    def begin(self) -> UUID:
        id = uuid4()
        self.log += self.book.append(opened(id)).events
        return id

    @rule(target=commands, stream=streams, amount=st.integers(-5, 5))
    def add(self, stream: UUID, amount: int) -> Event:
        said = stamp()

        def decide(tally: Tally) -> Event:
            return tally.add(said, amount)

        receipt = self.book.act(TALLY, stream, decide, command_id=said.command_id)
        self.log += receipt.events
        assert receipt.position == len(self.log)
        return receipt.events[0]

    @rule(event=commands)
    def repeat(self, event: Event) -> None:
        receipt = self.book.append(event)
        assert receipt.repeated
        assert self.log[receipt.position - 1] == event

    @rule(stream=streams, back=st.integers(0, 3), ahead=st.integers(2, 4), gap=st.booleans())
    def conflict(self, stream: UUID, back: int, ahead: int, gap: bool) -> None:
        version = len([e for e in self.log if e.originator_id == stream])
        with pytest.raises(StaleVersion):
            self.book.append(added(stream, version + ahead if gap else max(1, version - back)))

    @rule(stream=streams)
    def half(self, stream: UUID) -> None:
        said = stamp()
        with pytest.raises(StaleVersion):
            self.book.append(added(uuid4(), 1, said), added(stream, 1, said))

    @rule(stream=streams, count=st.integers(1, 4))
    def copied(self, stream: UUID, count: int) -> None:
        version = len([e for e in self.log if e.originator_id == stream])
        batches = [[added(stream, version + n)] for n in range(1, count + 1)]
        assert self.book.append_many(batches) == count
        self.log += [e for batch in batches for e in batch]

    @invariant()
    def delivered_is_committed(self) -> None:
        assert [(s, v) for _, s, v in delivered(self.book)] == [
            (e.originator_id, e.originator_version) for e in self.log
        ]


def test_delivered_is_committed_in_order_whatever_is_done(casebook: Casebook) -> None:
    """test-list 16."""
    machine = type("Machine", (StoreMachine,), {"casebook": casebook})
    few = settings(
        max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=(HealthCheck.too_slow,)
    )
    machine.TestCase.settings = few  # pyright: ignore[reportAttributeAccessIssue] - made by hypothesis
    machine.TestCase("runTest").runTest()  # pyright: ignore[reportAttributeAccessIssue]
