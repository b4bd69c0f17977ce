"""Append: one winner, one copy, no gap, nothing half-done (test-list 1-4, 8-10, 12, 16)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import DataError, ProgrammingError

from domain.kernel import Event, Refused
from domain.store.casebook import Casebook, CommandReused, House
from domain.store.recorder import Busy, Recorded, StaleVersion
from tests.conftest import MASTER_KEY, Database
from tests.domain.store.tally import TALLY, Tally, TallyAdded, TallyOpened, added, opened, stamp


def positions(casebook: Casebook) -> list[int]:
    return [n.id for n in casebook.recorder.select_notifications(1, 100_000)]


def test_of_many_racers_on_one_version_exactly_one_wins(casebook: Casebook) -> None:
    """test-list 1."""
    id = uuid4()
    casebook.append(opened(id))

    def race(_: int) -> bool:
        try:
            casebook.append(added(id, 2))
        except StaleVersion:
            return False
        return True

    with ThreadPoolExecutor(8) as racers:
        assert sum(racers.map(race, range(16))) == 1
    assert positions(casebook) == [1, 2]


def test_no_update_is_lost_when_many_decide_at_once(casebook: Casebook) -> None:
    """test-list 2: as many successes as versions, though every decider read the same state."""
    id = uuid4()
    casebook.append(opened(id))

    def add(_: int) -> int:
        said = stamp()
        return casebook.act(TALLY, id, lambda tally: tally.add(said, 1), command_id=said.command_id).version

    with ThreadPoolExecutor(8) as deciders:
        versions = sorted(deciders.map(add, range(60)))
    assert versions == list(range(2, 62))
    tally = casebook.read(TALLY, id)
    assert tally is not None
    assert (tally.total, tally.version) == (60, 61)


def test_a_stream_is_begun_once_however_many_begin_it(casebook: Casebook) -> None:
    """test-list 3."""
    id = uuid4()

    def begin(_: int) -> int:
        said = stamp()

        def decide(tally: Tally | None) -> Event:
            return opened(id, said) if tally is None else tally.add(said, 1)

        return casebook.act(TALLY, id, decide, command_id=said.command_id).version

    with ThreadPoolExecutor(8) as beginners:
        assert sorted(beginners.map(begin, range(16))) == list(range(1, 17))
    topics = [r.topic for r, _ in casebook.history(id)]
    assert topics == ["test.tally_opened"] + ["test.tally_added"] * 15


def test_a_command_is_done_once_and_gives_its_first_answer(casebook: Casebook) -> None:
    """test-list 4."""
    id, said = uuid4(), stamp()
    first = casebook.append(opened(id, said), added(id, 2, said))
    again = casebook.append(opened(id, said), added(id, 2, said))
    assert (again.position, again.version, again.repeated) == (first.position, first.version, True)
    assert again.events == first.events

    def decide(_: Tally | None) -> Event:
        raise AssertionError("a known command is not decided again")

    assert casebook.act(TALLY, id, decide, command_id=said.command_id).position == first.position
    assert positions(casebook) == [1, 2]


def test_the_same_command_from_many_clients_at_once_is_stored_once(casebook: Casebook) -> None:
    """test-list 4."""
    id, said = uuid4(), stamp()

    def send(_: int) -> tuple[int, int]:
        receipt = casebook.act(TALLY, id, lambda _: opened(id, said), command_id=said.command_id)
        return receipt.position, receipt.version

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(send, range(24))) == {(1, 1)}
    assert positions(casebook) == [1]


def test_a_command_id_used_for_something_else_is_refused(casebook: Casebook) -> None:
    id, said = uuid4(), stamp()
    casebook.append(opened(id, said))
    with pytest.raises(CommandReused):
        casebook.append(opened(uuid4(), said))
    with pytest.raises(CommandReused):
        casebook.append(opened(id, said, owner="somebody else"))
    with pytest.raises(CommandReused):
        casebook.act(TALLY, uuid4(), lambda _: None, command_id=said.command_id)
    assert positions(casebook) == [1]


def test_a_version_that_leaves_a_gap_is_refused(casebook: Casebook) -> None:
    """test-list 16: versions of a stream are contiguous."""
    id = uuid4()
    casebook.append(opened(id))
    with pytest.raises(StaleVersion):
        casebook.append(added(id, 3))
    with pytest.raises(StaleVersion):
        casebook.append_many([[added(id, 3)]])
    assert casebook.head() == 1


def test_a_refused_append_leaves_no_gap_and_no_part(casebook: Casebook) -> None:
    """test-list 12: a transaction that rolls back gives its positions back."""
    id, other = uuid4(), uuid4()
    casebook.append(opened(id))
    said = stamp()
    with pytest.raises(StaleVersion):
        casebook.append(opened(other, said), added(id, 1, said))
    casebook.append(opened(other))
    assert positions(casebook) == [1, 2]


def test_commands_that_touch_two_streams_in_either_order_do_not_deadlock(casebook: Casebook) -> None:
    """test-list 8."""
    ids = (uuid4(), uuid4())
    for id in ids:
        casebook.append(opened(id))

    def both(n: int) -> None:
        first, second = ids if n % 2 else reversed(ids)
        said = stamp()

        def decide(a: Tally, b: Tally) -> list[Event]:
            return [a.add(said, 1), b.add(said, 1)]

        casebook.act(TALLY, first, decide, command_id=said.command_id, also=[(TALLY, second)])

    with ThreadPoolExecutor(8) as deciders:
        list(deciders.map(both, range(40)))
    totals = [state.total for id in ids if (state := casebook.read(TALLY, id)) is not None]
    assert totals == [40, 40]


@pytest.mark.parametrize("note", ["汉字 𠮷 🏥", "", '\u0001\u001f\u007f"\\/', "x" * 1_000_000, "e\u0301", "\u202e"])
def test_any_text_comes_back_as_it_was(casebook: Casebook, note: str) -> None:
    """test-list 9."""
    id = uuid4()
    casebook.append(
        opened(id, owner=note or "-"),
    )
    casebook.append(added(id, 2, note=note))
    (_, first), (_, second) = casebook.history(id)
    assert isinstance(first, TallyOpened)
    assert isinstance(second, TallyAdded)
    assert (first.owner, second.note) == (note or "-", note)


def test_a_thousand_events_are_one_command_and_more_are_a_programmers_mistake(casebook: Casebook) -> None:
    """test-list 9."""
    id, said = uuid4(), stamp()
    events = [opened(id, said), *(added(id, v, said) for v in range(2, 1001))]
    assert casebook.append(*events).position == 1000
    with pytest.raises(AssertionError):
        casebook.append(*(added(id, v, said) for v in range(1001, 2002)))


def test_a_time_the_database_cannot_hold_is_an_error_and_stores_nothing(casebook: Casebook) -> None:
    with pytest.raises(Refused, match=r"time\.no_zone"):
        stamp(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    id = uuid4()
    envelope = casebook.bodies.to_envelopes([opened(id)])[0]
    with pytest.raises(DataError):
        casebook.recorder.record([replace(envelope, topic="a\x00b")])
    assert casebook.head() == 0


def test_when_every_connection_is_in_use_the_caller_is_told_and_nothing_is_sent(house: House, institution: str) -> None:
    """test-list 10."""
    with House(house.conninfo, MASTER_KEY, pool_max=1, pool_timeout=0.1) as small:
        casebook = small.casebook(institution)
        with small.pool.connection(), pytest.raises(Busy):
            casebook.head()
        casebook.append(added(uuid4(), 1))
    assert house.casebook(institution).head() == 1


def test_recorded_at_never_goes_back_as_positions_go_on(casebook: Casebook) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(casebook.append, [opened(uuid4()) for _ in range(40)]))
    with casebook.house.everywhere.connection() as connection:
        rows = connection.execute(
            "SELECT recorded_at FROM event WHERE institution = %s ORDER BY position", (casebook.institution,)
        ).fetchall()
    assert rows == sorted(rows)
    assert len(rows) == 40


def test_recorded_at_does_not_follow_a_clock_that_was_set_back(casebook: Casebook) -> None:
    casebook.append(opened(uuid4()))
    ahead = datetime.now(UTC) + timedelta(days=1)
    with casebook.house.within(casebook.institution) as connection:
        connection.execute(
            "UPDATE institution_position SET recorded_at = %s WHERE institution = %s", (ahead, casebook.institution)
        )
    id, said = uuid4(), stamp()
    casebook.append(opened(id))
    casebook.append(added(id, 2, said), added(id, 3, said))
    casebook.append_many([[added(id, 4)]])
    assert [record.recorded_at for record, _ in casebook.history(id)] == [ahead] * 4


def test_what_the_actor_said_and_what_the_database_says_are_kept_apart(casebook: Casebook) -> None:
    long_ago = datetime(2019, 2, 3, 4, 5, 6, 789, UTC)
    id = uuid4()
    casebook.append(opened(id, stamp(long_ago)))
    [(record, event)] = casebook.history(id)
    assert record.occurred_at == event.stamp.at == long_ago
    assert datetime.now(UTC) - record.recorded_at < timedelta(minutes=5)


def test_history_up_to_a_bound(casebook: Casebook) -> None:
    id = uuid4()
    days = [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 5, 3)]
    casebook.append(opened(id, stamp(days[0])))
    casebook.append(opened(uuid4()))
    casebook.append(added(id, 2, stamp(days[1])))
    casebook.append(added(id, 3, stamp(days[2])))

    def versions(found: list[tuple[Recorded, Event]]) -> list[int]:
        return [record.originator_version for record, _ in found]

    assert versions(casebook.history(id, version_max=2)) == [1, 2]
    assert versions(casebook.history(id, position_max=2)) == [1]
    assert versions(casebook.history(id, position_max=3)) == [1, 2], "the bound is included"
    assert versions(casebook.history(id, occurred_max=days[2])) == [1, 3]
    assert versions(casebook.history(id, recorded_max=datetime(2020, 1, 1, tzinfo=UTC))) == []
    [_, (second, _), _] = casebook.history(id)
    assert versions(casebook.history(id, recorded_max=second.recorded_at))[:2] == [1, 2]


@pytest.mark.parametrize("statement", ["UPDATE event SET topic = ''", "DELETE FROM event", "TRUNCATE event"])
def test_nobody_changes_an_event_not_even_the_owner(
    casebook: Casebook, shared_database: Database, statement: str
) -> None:
    casebook.append(opened(uuid4()))
    with (
        psycopg.connect(shared_database.owner, options="-c search_path=anjuan") as owner,
        pytest.raises(psycopg.errors.RestrictViolation, match="record a new fact"),
    ):
        owner.execute(statement.encode())
    with (
        casebook.house.pool.connection() as application,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        application.execute(statement.encode())


def test_the_same_ids_in_two_institutions_are_two_streams(house: House, institution: str) -> None:
    """test-list 36."""
    here, there = house.casebook(institution), house.casebook(institution[::-1] + "Z")
    id, said = UUID(int=7), stamp()
    here.append(opened(id, said))
    assert there.read(TALLY, id) is None
    assert there.receipt(said.command_id) is None
    there.append(opened(id, said, owner="别人"))
    there.append(added(id, 2))
    for book in (here, there):
        known = book.receipt(said.command_id)
        assert known is not None
        assert (known.position, known.version, len(known.events)) == (1, 1, 1)
    assert [r.position for r, _ in here.history(id)] == [1]
    assert [getattr(e, "owner", None) for _, e in there.history(id)] == ["别人", None]
    assert here.recorder.events_of(id)[0].state != there.recorder.events_of(id)[0].state


def test_a_stream_of_another_institution_is_nothing_to_follow_on_from(house: House, institution: str) -> None:
    """test-list 36: by each of the three ways to append."""
    here, there = house.casebook(institution), house.casebook(institution[::-1] + "Y")
    id, said = uuid4(), stamp()
    here.append(opened(uuid4()))
    there.append(opened(id))
    with pytest.raises(StaleVersion):
        here.append(added(id, 2))
    with pytest.raises(StaleVersion):
        here.append(added(id, 2, said), added(id, 3, said))
    with pytest.raises(StaleVersion):
        here.append_many([[added(id, 2)]])
    assert here.append_many([[opened(id)]]) == 1
    assert (here.head(), there.head()) == (2, 1)


def test_a_command_of_another_institution_is_not_known_here(house: House, institution: str) -> None:
    """test-list 36"""
    here, there = house.casebook(institution), house.casebook(institution[::-1] + "X")
    command = [opened(uuid4(), stamp())]
    there.append_many([command])
    assert here.append_many([command]) == 1
    assert here.append_many([command]) == 0


def test_many_commands_in_one_copy_are_each_done_once(casebook: Casebook) -> None:
    batches = [[opened(id, said := stamp()), added(id, 2, said)] for id in (uuid4() for _ in range(50))]
    assert casebook.append_many(batches[:30]) == 30
    assert casebook.append_many(batches) == 20
    assert casebook.append_many(batches) == 0
    assert positions(casebook) == list(range(1, 101))
    assert casebook.receipt(batches[7][0].stamp.command_id) is not None


def test_one_event_is_stored_by_one_statement_that_needs_no_function(database: Database) -> None:
    """Both the first event of a stream and one that follows; what does not follow is left to the function to refuse."""
    id = uuid4()
    with House(database.app, MASTER_KEY) as house:
        casebook = house.casebook("ONE")
        casebook.append(opened(uuid4()))
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute("REVOKE EXECUTE ON FUNCTION append_events FROM PUBLIC")
        casebook.append(opened(id))
        casebook.append(added(id, 2))
        assert positions(casebook) == [1, 2, 3]
        with pytest.raises(ProgrammingError, match="append_events"):
            casebook.append(added(id, 4))
        assert positions(casebook) == [1, 2, 3]
