"""When the log of reads cannot be written nothing personal leaves; and what it takes to write it (test-list 45)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.access.read_log import Asking, Entry, ReadLog, Shown
from api.cluster import OWNER
from api.embedded import Embedded
from domain.kernel import Refused, Role
from migrations.runner import migrate
from tests.api.reads import LIST, ONE, Alone, alone, refused, sent
from tests.conftest import Database, Server


def write_refused(the: Alone) -> Callable[[], Any]:
    the.owner("REVOKE INSERT ON read_log FROM anjuan_app")
    return lambda: the.owner("GRANT INSERT ON read_log TO anjuan_app")


def table_gone(the: Alone) -> Callable[[], Any]:
    the.owner("ALTER TABLE read_log_subject RENAME TO elsewhere")
    return lambda: the.owner("ALTER TABLE elsewhere RENAME TO read_log_subject")


def database_read_only(the: Alone) -> Callable[[], Any]:
    name = the.owner("SELECT current_database()")[0][0]
    kick = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    the.owner(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on', kick)
    writable, back = "SET default_transaction_read_only = off", f'ALTER DATABASE "{name}" RESET ALL'
    return lambda: the.owner(writable, back, kick)


@pytest.mark.parametrize("trouble", [write_refused, table_gone, database_read_only])
def test_an_answer_that_cannot_be_logged_does_not_leave(
    database: Database, trouble: Callable[[Alone], Callable[[], Any]]
) -> None:
    """test-list 45: closed while the log cannot be written, for what is personal only; open again by itself."""
    with alone(database) as the:
        agent, auditor = the.office[Role.CS_AGENT], the.office[Role.AUDITOR]
        repair = trouble(the)
        for _ in range(2):
            refused(sent(agent, ONE, variables={"id": the.case}))
            refused(sent(agent, LIST))
        assert agent.ask("{ complaints { edges { node { stage } } } }")["complaints"]["edges"]
        assert auditor.ask(ONE, id=the.case)["complaint"]["complainant"] == "王**"
        repair()
        assert agent.ask(ONE, id=the.case)["complaint"]["complainant"] == "王女士"
        assert [entry["fields"] for entry in the.log.entries()] == [["complainant", "phone", "statement"]]


def test_a_command_whose_answer_cannot_be_logged_is_done_and_answered_when_it_is_sent_again(database: Database) -> None:
    mutation = (
        'mutation ($c: UUID!, $id: UUID!) { complaintAccept(commandId: $c, id: $id, cause: "因", course: "过",'
        ' demand: "退费") { ... on ComplaintDecided { repeated complaint { demand } } ... on Refusal { code } } }'
    )
    with alone(database) as the:
        director = the.office[Role.CS_DIRECTOR]
        variables = {"c": str(uuid4()), "id": str(the.case)}
        before = the.office.casebook.head()
        repair = write_refused(the)
        refused(sent(director, mutation, variables=variables))
        assert the.office.casebook.head() == before + 2, "it was carried out"
        repair()
        said = sent(director, mutation, variables=variables).json()["data"]["complaintAccept"]
        assert said == {"repeated": True, "complaint": {"demand": "退费"}}
        assert the.office.casebook.head() == before + 2
        assert [entry["road"] for entry in the.log.entries()] == ["command"]


def test_a_connection_that_died_is_replaced(database: Database) -> None:
    with alone(database) as the:
        agent = the.office[Role.CS_AGENT]
        agent.ask(ONE, id=the.case)
        for _ in range(3):
            killed = the.owner(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'anjuan-read-log'"
            )
            assert killed
            assert agent.ask(ONE, id=the.case)["complaint"]["complainant"] == "王女士"
        assert len(the.log.entries()) == 4


def test_nothing_leaves_before_it_is_stored_and_all_that_wait_are_stored_together(database: Database) -> None:
    """While the log is held up nobody is answered; then one or two transactions serve all."""
    readers = 12
    with alone(database, read_log_seconds=60.0, request_seconds=60.0) as the, ThreadPoolExecutor(readers) as pool:
        agent = the.office[Role.CS_AGENT]
        agent.ask(ONE, id=the.case)
        with psycopg.connect(the.log.owner) as holding:
            holding.execute("LOCK TABLE read_log IN ACCESS EXCLUSIVE MODE")
            answers: list[Future[httpx.Response]] = [
                pool.submit(sent, agent, ONE, variables={"id": the.case}) for _ in range(readers)
            ]
            waiting(the, readers)
            assert not any(answer.done() for answer in answers)
        said = [answer.result(60).json() for answer in answers]
        assert all(one["data"]["complaint"]["complainant"] == "王女士" for one in said)
        rows = the.owner("SELECT set_config('anjuan.institution', 'TX', false)", "SELECT xmin::text FROM read_log")
        assert len(rows) == readers + 1
        assert len({xmin for (xmin,) in rows}) <= 3


def waiting(the: Alone, readers: int) -> None:
    """Until so many answers wait for the log."""
    log: ReadLog = the.office.edge.app.state.read_log

    async def count() -> int:
        return log.waiting

    while the.office.edge.portal.call(count) < readers:
        pass


def test_who_waits_too_long_is_refused(database: Database) -> None:
    with alone(database, read_log_seconds=0.3) as the:
        agent = the.office[Role.CS_AGENT]
        agent.ask(ONE, id=the.case)
        with psycopg.connect(the.log.owner) as holding:
            holding.execute("LOCK TABLE read_log IN ACCESS EXCLUSIVE MODE")
            refused(sent(agent, ONE, variables={"id": the.case}))
        assert agent.ask(ONE, id=the.case)["complaint"]["complainant"] == "王女士"


def test_one_entry_that_cannot_be_written_does_not_take_the_others_with_it(database: Database) -> None:
    with alone(database) as the:
        log: ReadLog = the.office.edge.app.state.read_log
        asking = Asking(bytes(32))
        good = Entry("TX", uuid4(), "t", "c", asking, Shown("complaint_case", ("phone",), (uuid4(),)))
        bad = Entry("TX", uuid4(), "t\x00", "c", asking, Shown("complaint_case", ("phone",), (uuid4(),)))

        async def both() -> tuple[Any, Any]:
            return await asyncio.gather(log.store([bad]), log.store([good]), return_exceptions=True)

        failed, stored = the.office.edge.portal.call(both)
        assert isinstance(failed, Refused)
        assert stored is None
        assert [entry["reader"] for entry in the.log.entries()] == [good.reader]


def test_after_the_end_nothing_is_stored_and_what_waits_is(database: Database) -> None:
    """A process that ends writes what waits; whoever comes later is refused."""
    with alone(database) as the:
        log: ReadLog = the.office.edge.app.state.read_log
        entry = Entry("TX", uuid4(), "t", "c", Asking(bytes(32)), Shown("complaint_case", ("phone",), (uuid4(),)))

        async def ends() -> tuple[Any, Any, Any]:
            first = asyncio.ensure_future(log.store([entry]))
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(log.close())
            await asyncio.sleep(0)
            return await asyncio.gather(first, log.store([entry]), closing, return_exceptions=True)

        first, late, closed = the.office.edge.portal.call(ends)
        assert (first, closed) == (None, None)
        assert isinstance(late, Refused)
        assert len(the.log.entries()) == 1


@pytest.mark.parametrize("flush", [True, False])
def test_what_waits_for_the_disk(database: Database, flush: bool) -> None:
    """Ordinary reads as the setting says; break-glass always, and whoever is stored with it."""
    with alone(database, read_log_flush=flush) as the:
        the.owner(
            "CREATE TABLE seen (way text, glass uuid); GRANT INSERT ON seen TO anjuan_app;"
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO seen VALUES (current_setting('synchronous_commit'), NEW.glass); RETURN NULL; END $$;"
            "CREATE TRIGGER see AFTER INSERT ON read_log FOR EACH ROW EXECUTE FUNCTION see()"
        )
        log: ReadLog = the.office.edge.app.state.read_log
        for glass in (None, uuid4()):
            shown = Shown("complaint_case", ("phone",), (uuid4(),), glass)
            the.office.edge.portal.call(log.store, [Entry("TX", uuid4(), "t", "c", Asking(bytes(32)), shown)])
        assert the.owner("SELECT way, glass IS NULL FROM seen ORDER BY 2 DESC") == [
            ("on" if flush else "off", True),
            ("on", False),
        ]


def test_what_was_answered_is_in_the_log_after_the_server_died(place: Path) -> None:
    """test-list 6, of reads: a backend killed at once after the answer, and PostgreSQL recovers from its log."""
    with Embedded(place / "server", durable=False) as embedded:
        server = Server(embedded.conninfo(OWNER, "postgres"), embedded)
        database = server.create()
        migrate(database.owner)
        with alone(database) as the:
            agent = the.office[Role.CS_AGENT]
            agent.ask(ONE, id=the.case)
            ((writer,),) = the.owner("SELECT pid FROM pg_stat_activity WHERE application_name = 'anjuan-read-log'")
            for _ in range(3):
                agent.ask(ONE, id=the.case)
            os.kill(writer, signal.SIGKILL)
            assert len(recovered(the)) == 4
            assert agent.ask(ONE, id=the.case)["complaint"]["complainant"] == "王女士"
            assert len(the.log.entries()) == 5


def recovered(the: Alone) -> list[dict[str, Any]]:
    """The entries, once the server takes connections again."""
    give_up = time.monotonic() + 60
    while True:
        try:
            return the.log.entries()
        except psycopg.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
