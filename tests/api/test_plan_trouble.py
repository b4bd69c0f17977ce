"""Trouble with the database is said once and alike on both roads: in time or not at all, and lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import waiting

from api.access.token import digest
from api.app import create_app
from api.plan import wire
from domain.kernel import Role
from domain.store.casebook import House
from domain.store.tenant import begin_reading
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


WAYS = ("a token is looked up", "a question is read", "a question is planned")


@pytest.mark.parametrize("way", WAYS)
def test_a_request_cut_short_at_any_moment_leaves_no_connection_that_fails_the_next(
    office: Office, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the driver lets others run before it waits, as it does when the event loop is busy."""
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", 0.0)
    settings = SETTINGS.model_copy(update={"connections_max": 1, "answers_bytes": 0})
    with running(create_app(settings, office.casebook.house)) as edge:
        desk = office.by(edge)[Role.AUDITOR]
        doorkeeper = edge.app.state.doorkeeper

        async def looked_up() -> Any:
            return await doorkeeper._of_ours(digest(desk.token))

        async def read() -> Any:
            async with doorkeeper._pool.connection() as connection:
                await begin_reading(connection, office.code)
                return await (await connection.execute("SELECT count(*) FROM complaint_case")).fetchone()

        async def planned() -> Any:
            connection = await doorkeeper._pool.getconn()
            try:
                return await wire.ask(connection, [wire.bound(b"SELECT count(*) FROM complaint_case", [])])
            finally:
                await doorkeeper._pool.putconn(connection)

        works: tuple[Callable[[], Awaitable[Any]], ...] = (looked_up, read, planned)

        async def all_of_them() -> None:
            for work in works:
                assert await work()

        moments = edge.portal.call(cut_short, works[WAYS.index(way)], all_of_them)
        assert moments > 3, "it was cut short at several moments"


async def cut_short(work: Callable[[], Awaitable[Any]], then: Callable[[], Awaitable[None]]) -> int:
    """Cancel the work at its first moment, its second and so on, until it ends by itself; how many there were."""
    moments = 0
    while True:
        task = asyncio.ensure_future(work())
        for _ in range(moments):
            await asyncio.sleep(0)
        over = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await then()
        if over:
            return moments
        moments += 1
