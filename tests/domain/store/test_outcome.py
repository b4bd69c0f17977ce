"""When the answer is lost: retry only what is proven rolled back, look everything else up (test-list 5, 7)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.store.casebook import Casebook, House
from domain.store.recorder import (
    CommandKnown,
    OutcomeUnknown,
    Rolledback,
    StaleVersion,
    said_clearly,
    unconfirmed,
)
from domain.store.statements import APPEND, appended
from tests.conftest import MASTER_KEY, Database
from tests.domain.store.proxy import Cut, Proxy
from tests.domain.store.tally import TALLY, Tally, TallyAdded, added, opened, stamp


@pytest.fixture
def wire(house: House) -> Iterator[Proxy]:
    server = conninfo_to_dict(house.conninfo)
    if not str(server.get("host", "")).startswith("/"):
        pytest.skip("the wire is cut on a Unix socket; this server is reached otherwise")
    with (
        tempfile.TemporaryDirectory(prefix="wire") as directory,
        Proxy(Path(directory), str(server["host"]), str(server.get("port", 5432))) as proxy,
    ):
        yield proxy


@pytest.fixture
def cut_casebook(wire: Proxy, house: House, institution: str) -> Iterator[Casebook]:
    host = Path(str(wire._listener.getsockname())).parent
    with House(make_conninfo(house.conninfo, host=str(host), port=5432), MASTER_KEY, pool_max=4) as cut:
        yield cut.casebook(institution)


@pytest.mark.parametrize("cut", Cut)
def test_a_lost_answer_leaves_one_copy(cut_casebook: Casebook, casebook: Casebook, wire: Proxy, cut: Cut) -> None:
    """test-list 5: the socket is cut between the commit and its acknowledgement, or before the request arrives."""
    id = uuid4()
    casebook.append(opened(id))
    said = stamp()

    def decide(tally: Tally) -> TallyAdded:
        wire.cut = cut
        return tally.add(said, 1)

    cut_casebook.read(TALLY, id)
    receipt = cut_casebook.act(TALLY, id, decide, command_id=said.command_id)
    assert wire.cut is None, "the wire was not cut"
    assert (receipt.position, receipt.version) == (2, 2)
    assert [r.position for r, _ in casebook.history(id)] == [1, 2]


def test_a_lost_answer_to_a_question_is_asked_again(cut_casebook: Casebook, wire: Proxy) -> None:
    id = uuid4()
    cut_casebook.append(opened(id))
    wire.cut = Cut.ANSWER
    assert cut_casebook.head() == 1
    assert wire.cut is None


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("40001", Rolledback),
        ("40P01", Rolledback),
        ("53100", Rolledback),
        ("53200", Rolledback),
        ("53300", Rolledback),
        ("55P03", Rolledback),
        ("57P03", Rolledback),
        ("57P01", OutcomeUnknown),
        ("57P02", OutcomeUnknown),
        ("08006", OutcomeUnknown),
        ("08003", OutcomeUnknown),
        ("AJ001", StaleVersion),
    ],
)
def test_what_an_sqlstate_proves(house: House, sqlstate: str, kind: type[Exception]) -> None:
    """test-list 7: only a proven rollback may be sent again."""
    with house.pool.connection() as connection, pytest.raises(kind) as said, said_clearly():
        connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$".encode())
    assert type(said.value) is kind


def test_a_proven_rollback_is_sent_again_by_itself(casebook: Casebook, shared_database: Database) -> None:
    """test-list 7: the first two attempts fail with a serialization failure, the third is stored."""
    id = uuid4()
    casebook.append(opened(id))
    with psycopg.connect(shared_database.owner, autocommit=True, options="-c search_path=anjuan") as owner:
        owner.execute(TWO_FAILURES.replace("TALLY", str(id)).encode())
        try:
            receipt = casebook.append(added(id, 2))
        finally:
            owner.execute("DROP TRIGGER flaky ON event; DROP FUNCTION flaky(); DROP SEQUENCE flaky_count")
    assert (receipt.position, receipt.repeated) == (2, False)


TWO_FAILURES = """
CREATE SEQUENCE flaky_count;
GRANT USAGE ON flaky_count TO anjuan_app;
CREATE FUNCTION flaky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.originator_id = 'TALLY' AND nextval('anjuan.flaky_count') <= 2 THEN
        RAISE EXCEPTION 'try again' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER flaky BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION flaky();
"""


def test_a_standby_that_did_not_confirm_is_not_a_success(house: House) -> None:
    with house.pool.connection() as connection:
        connection.execute("DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication'; END $$")
        with pytest.raises(OutcomeUnknown, match="standby"):
            unconfirmed(connection)
        unconfirmed(connection)  # said once


@pytest.mark.parametrize("events", [1, 2])
def test_an_append_its_standby_did_not_confirm_is_of_unknown_outcome(
    casebook: Casebook, shared_database: Database, events: int
) -> None:
    """By each of the ways to append, said at the commit; the casebook looks it up and answers with what is stored."""
    id, said = uuid4(), stamp()
    first = [opened(id), *(added(id, v) for v in range(2, events + 1))]
    sealed = casebook.bodies.to_envelopes([replace(e, stamp=said) for e in first])
    with psycopg.connect(shared_database.owner, autocommit=True, options="-c search_path=anjuan") as owner:
        owner.execute(UNCONFIRMED.replace("TALLY", str(id)).encode())
        try:
            with pytest.raises(OutcomeUnknown, match="standby"):
                casebook.recorder.record(sealed)
            with pytest.raises(OutcomeUnknown, match="standby"):
                casebook.append_many([[added(id, events + 1)]])
            with pytest.raises(OutcomeUnknown, match="standby"), casebook.recorder.turn() as held:
                held.record(casebook.bodies.to_envelopes([added(id, events + 2)]))
            receipt = casebook.append(added(id, events + 3))
        finally:
            owner.execute("DROP TRIGGER unconfirmed ON event; DROP FUNCTION unconfirmed()")
    assert (receipt.position, receipt.version) == (events + 3, events + 3)


UNCONFIRMED = """
CREATE FUNCTION unconfirmed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.originator_id = 'TALLY' THEN
        RAISE WARNING 'canceling wait for synchronous replication due to user request';
    END IF;
    RETURN new;
END $$;
CREATE CONSTRAINT TRIGGER unconfirmed AFTER INSERT ON event DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION unconfirmed();
"""


def test_a_command_is_looked_up_behind_the_append_that_is_under_way(
    casebook: Casebook, shared_database: Database
) -> None:
    """test-list 7: "not stored" is said only when it can no longer become stored."""
    casebook.append(opened(uuid4()))
    said = stamp()
    [sealed] = casebook.bodies.to_envelopes([opened(uuid4(), said)])
    with ThreadPoolExecutor(1) as asking:
        with psycopg.connect(casebook.house.conninfo) as under_way:
            under_way.execute(APPEND, appended(casebook.institution, [sealed]))
            assert casebook.recorder.command(said.command_id, sealed.event_id) == []
            answer = asking.submit(casebook.recorder.command, said.command_id, sealed.event_id, settled=True)
            with psycopg.connect(shared_database.owner, autocommit=True) as watching:
                while not answer.done() and not watching.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                    pass
            assert not answer.done()
            under_way.commit()
        assert [r.event_id for r in answer.result(30)] == [sealed.event_id]


def test_a_known_event_id_says_so(casebook: Casebook) -> None:
    said = stamp()
    casebook.append(opened(uuid4(), said))
    sealed = casebook.bodies.to_envelopes([opened(uuid4(), said)])
    with pytest.raises(CommandKnown):
        casebook.recorder.record(sealed)


def test_a_command_that_another_stored_while_it_waited_for_its_turn_gets_that_answer(casebook: Casebook) -> None:
    """test-list 6: after its lost races a command is decided behind the counter row, where its double is found."""
    id, said = uuid4(), stamp()
    casebook.append(opened(id))
    first = casebook.append(replace(added(id, 2), stamp=said))
    again = casebook._act_in_turn(lambda _: (replace(added(id, 3), stamp=said),), said.command_id)
    assert (again.position, again.version) == (first.position, first.version)
    assert casebook.head() == 2
