"""Trouble with the database is said once and alike on both roads: in time or not at all, and lost connections."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest

from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Edge, Office, running
from tests.api.statements import watched
from tests.conftest import Database

QUESTIONS = ("{ complaints { edges { node { number } } } }", '{ complaint(number: "2") { number } }')


@pytest.fixture(params=[True, False], ids=["planned", "resolved"])
def hurried(request: pytest.FixtureRequest, house: House) -> Generator[Edge]:
    """The application with little patience, on either road."""
    settings = SETTINGS.model_copy(update={"plan": request.param, "statement_seconds": 0.3, "answers_bytes": 0})
    with running(create_app(settings, house)) as edge:
        yield edge


@pytest.mark.parametrize("query", QUESTIONS)
def test_a_question_that_takes_too_long_is_asked_once_and_said_in_its_place(
    office: Office, hurried: Edge, shared_database: Database, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office.by(hurried)[Role.AUDITOR]
    desk.post(query)
    seen = watched(monkeypatch)
    with psycopg.connect(shared_database.owner) as locking:
        locking.execute("LOCK TABLE complaint_case IN ACCESS EXCLUSIVE MODE")
        answer = desk.post(query)
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "request.timeout"
    assert error["path"] == [query[2 : query.index("(") if "(" in query else query.index(" {", 2)]]
    assert error["locations"] == [{"line": 1, "column": 3}]
    assert answer["data"] == ({"complaint": None} if error["path"] == ["complaint"] else None)
    assert len([sent for sent in seen if "complaint_case" in sent.text]) == 1, "asked once"


def test_lost_connections_are_replaced_and_the_question_asked_again(office: Office, shared_database: Database) -> None:
    """A restart of the database between two questions is not seen by whoever asks."""
    settings = SETTINGS.model_copy(update={"connections_max": 1, "answers_bytes": 0})
    with running(create_app(settings, office.casebook.house)) as edge:
        desk = office.by(edge)[Role.AUDITOR]
        query = "{ lost: complaints { edges { node { number } } } }"
        desk.ask(query)

        async def backend() -> int:
            async with edge.app.state.doorkeeper._pool.connection() as connection:
                return connection.info.backend_pid

        with psycopg.connect(shared_database.owner, autocommit=True) as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 5000)", (edge.portal.call(backend),))
        before = edge.app.state.planner.tally.planned
        assert desk.ask(query) == {"lost": {"edges": []}}
        assert edge.app.state.planner.tally.planned == before + 1


def test_statements_somebody_else_had_forgotten_are_prepared_anew(office: Office) -> None:
    settings = SETTINGS.model_copy(update={"connections_max": 1, "answers_bytes": 0})
    with running(create_app(settings, office.casebook.house)) as edge:
        desk = office.by(edge)[Role.AUDITOR]
        query = "{ forgotten: complaints { edges { node { number } } } }"
        desk.ask(query)

        async def forget() -> None:
            async with edge.app.state.doorkeeper._pool.connection() as connection:
                await connection.execute("DEALLOCATE ALL")

        edge.portal.call(forget)
        before = edge.app.state.planner.tally.planned
        assert desk.ask(query) == {"forgotten": {"edges": []}}
        assert edge.app.state.planner.tally.planned == before + 1
