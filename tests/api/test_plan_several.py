"""Several questions at once answer each for itself, on both roads: in time or not, with a database or without."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from api.app import create_app
from api.identity import of_view
from domain.kernel import Role
from domain.store.casebook import House
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.history import HISTORY
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, open_office, running
from tests.api.reads import sent
from tests.api.statements import watched
from tests.conftest import MASTER_KEY, Database, Server


@pytest.fixture(params=[True, False], ids=["planned", "resolved"])
def hurried(request: pytest.FixtureRequest, house: House) -> Generator[Edge]:
    """The application with little patience, on either road."""
    settings = SETTINGS.model_copy(update={"plan": request.param, "statement_seconds": 0.3, "answers_bytes": 0})
    with running(create_app(settings, house)) as edge:
        yield edge


SEVERAL = """{
  first: complaint(number: "2") { number }
  __typename
  history(first: 1) { totalCount }
  last: complaint(number: "3") { number }
  complaintClocks(first: 1) { totalCount }
}"""


def _locked(shared_database: Database, desk: Desk, table: str, query: str, **variables: Any) -> dict[str, Any]:
    """What is answered while nobody can read this table."""
    with psycopg.connect(shared_database.owner) as locking:
        locking.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        return desk.post(query, **variables)


def _problems(answer: dict[str, Any]) -> list[tuple[list[str | int], str]]:
    """Where there is an error, and its code: roots asked at once may fail in any order."""
    return sorted((error["path"], error["extensions"]["code"]) for error in answer.get("errors", ()))


def test_each_of_several_questions_answers_for_itself(office: Office, hurried: Edge, shared_database: Database) -> None:
    """Those that may be null are, and what is asked before, between and behind them is answered as ever."""
    desk = office.by(hurried)[Role.AUDITOR]
    usual = desk.post(SEVERAL)
    assert _problems(usual) == [(["first"], "complaint.unknown"), (["last"], "complaint.unknown")]
    answer = _locked(shared_database, desk, "complaint_case", SEVERAL)
    assert _problems(answer) == [(["first"], "request.timeout"), (["last"], "request.timeout")]
    assert answer["data"] == {**usual["data"], "first": None, "last": None}
    assert list(answer["data"]) == ["first", "__typename", "history", "last", "complaintClocks"]


@pytest.mark.parametrize(("table", "failed"), [(HISTORY.name, "history"), (CLOCKS.name, "complaintClocks")])
def test_one_that_may_not_be_null_leaves_nothing(
    office: Office, hurried: Edge, shared_database: Database, table: str, failed: str
) -> None:
    desk = office.by(hurried)[Role.AUDITOR]
    answer = _locked(shared_database, desk, table, SEVERAL)
    assert ([failed], "request.timeout") in _problems(answer)
    assert {code for path, code in _problems(answer) if path != [failed]} <= {"complaint.unknown"}
    assert answer["data"] is None


def test_what_cannot_be_answered_beside_what_may_not_be_null_is_asked_no_more(
    office: Office, shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"statement_seconds": 0.3, "answers_bytes": 0})
    with running(create_app(settings, office.casebook.house)) as hurried:
        desk = office.by(hurried)[Role.AUDITOR]
        desk.post(SEVERAL)
        seen = watched(monkeypatch)
        assert _locked(shared_database, desk, HISTORY.name, SEVERAL)["data"] is None
        assert sum("complaint_clock" in sent.text for sent in seen) == 1


def test_nodes_that_cannot_be_read_are_said_in_their_places(
    office: Office, hurried: Edge, shared_database: Database
) -> None:
    case = office[Role.CS_AGENT].done("complaintReceive", **intake())["complaintId"]
    office.follow()
    desk = office.by(hurried)[Role.AUDITOR]
    one = of_view(COMPLAINTS).write((UUID(case),))
    line, other = (of_view(HISTORY).write((UUID(case), version)) for version in (1, 999))
    query = "query ($ids: [ID!]!, $id: ID!) { node(id: $id) { id } nodes(ids: $ids) { id } }"
    answer = _locked(shared_database, desk, COMPLAINTS.name, query, ids=[line, one, other, one], id=one)
    assert answer["data"] == {"node": None, "nodes": [{"id": line}, None, None, None]}
    assert {code for _, code in _problems(answer)} == {"request.timeout"}
    paths = [error["path"] for error in answer["errors"]]
    assert sorted(map(str, paths)) == sorted(map(str, [["node"], ["nodes", 1], ["nodes", 3]]))


@pytest.mark.parametrize("plan", [True, False])
def test_a_database_that_is_gone_is_said_of_every_question(
    server: Server, template: Database, shared_database: Database, plan: bool
) -> None:
    """Or of the whole request, where the same round trip was to show that the token still holds."""
    database = server.create(template)
    settings = SETTINGS.model_copy(update={"plan": plan, "answers_bytes": 0, "connections_max": 1})
    with House(database.app, MASTER_KEY) as house, running(create_app(settings, house)) as edge:
        office = open_office(edge, house.casebook("TX"))
        desk = office[Role.AUDITOR]
        two = '{ a: complaint(number: "2") { number } b: complaint(number: "3") { number } }'
        assert desk.post(two)["data"] == {"a": None, "b": None}
        name = conninfo_to_dict(database.owner)["dbname"]
        with (
            psycopg.connect(shared_database.owner, autocommit=True) as asking,
            # before anything is read: whoever asks is remembered, so only the question itself goes to the database
            psycopg.connect(database.owner) as locking,
        ):
            locking.execute("LOCK TABLE complaint_case IN ACCESS EXCLUSIVE MODE")
            with ThreadPoolExecutor(1) as pool:
                answering = pool.submit(sent, desk, two)
                waiting = (
                    "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = pg_locks.database"
                    " WHERE d.datname = %s AND NOT granted"
                )
                while not (found := asking.execute(waiting, (name,)).fetchall()):
                    sleep(0.01)
                asking.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
                for (pid,) in found:
                    asking.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
                answer = answering.result()
        said = answer.json()
        if plan:
            assert answer.status_code == 503
            assert [error["extensions"]["code"] for error in said["errors"]] == ["store.away"]
        else:
            assert said["data"] == {"a": None, "b": None}
            assert _problems(said) == [(["a"], "store.away"), (["b"], "store.away")]
