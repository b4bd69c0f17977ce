"""The log of reads: what is shown of people unmasked is stored before it leaves, or does not leave (test-list 45)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from api.access.read_log import Asking, Entry, ReadLog, Reads, Shown
from api.app import create_app
from domain.kernel import Refused, Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, intake, open_office, running
from tests.conftest import MASTER_KEY, Database

PERSONAL = ("complainant", "phone", "statement", "demand", "reason", "result")
SECRETS = ("王女士", "13800138000", "等候时间过长，且无人解释。")
LIST = "query Worklist { complaints { edges { node { number complainant phone statement } } } }"
ONE = "query ($id: UUID!) { complaint(id: $id) { complainant phone statement demand reason result } }"


@dataclass
class Log:
    """The log of one institution, read by the owner of the database."""

    owner: str
    institution: str

    def entries(self) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner, row_factory=dict_row) as connection:
            connection.execute("SELECT set_config('anjuan.institution', %s, false)", (self.institution,))
            return connection.execute(
                "SELECT * FROM read_log WHERE institution = %s ORDER BY read_at, entry", (self.institution,)
            ).fetchall()

    def by_subject(self, subject: str | UUID) -> list[int]:
        with psycopg.connect(self.owner) as connection:
            connection.execute("SELECT set_config('anjuan.institution', %s, false)", (self.institution,))
            rows = connection.execute(
                "SELECT entry FROM read_log_subject WHERE institution = %s AND subject = %s ORDER BY read_at, entry",
                (self.institution, subject),
            )
            return [entry for (entry,) in rows]


@pytest.fixture
def log(office: Office, shared_database: Database) -> Log:
    return Log(shared_database.owner, office.code)


def received(office: Office, **more: Any) -> tuple[UUID, str]:
    """A case with all that a first record has, and its complainant's id."""
    case = uuid4()
    office[Role.CS_AGENT].done("complaintReceive", id=case, **intake(phone="13800138000", **more))
    office.follow()
    asked = "query ($id: UUID!) { complaint(id: $id) { complainantId } }"
    return case, office[Role.CS_AGENT].ask(asked, id=case)["complaint"]["complainantId"]


def sent(desk: Desk, query: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """A request as it is, whatever becomes of it."""
    return desk.edge.send(
        "POST",
        "/graphql",
        content=json.dumps({"query": query, **body}, default=str),
        headers={"Authorization": f"Bearer {desk.token}", "Content-Type": "application/json", **(headers or {})},
    )


def test_what_is_shown_unmasked_is_in_the_log(office: Office, log: Log) -> None:
    case, subject = received(office)
    agent = office[Role.CS_AGENT]
    answer = sent(agent, LIST, {"X-Purpose": "follow-up"}, operationName="Worklist")
    node = answer.json()["data"]["complaints"]["edges"][0]["node"]
    assert (node["complainant"], node["phone"], node["statement"]) == SECRETS
    (entry,) = log.entries()
    assert {k: v for k, v in entry.items() if k not in ("read_at", "entry")} == {
        "institution": office.code,
        "reader": agent.id,
        "token_id": hashlib.sha256(agent.token.encode()).hexdigest()[:12],
        "road": "question",
        "purpose": "follow-up",
        "document": hashlib.sha256(LIST.encode()).digest(),
        "operation": "Worklist",
        "correlation": answer.headers["x-correlation-id"],
        "view": "complaint_case",
        "fields": ["complainant", "phone", "statement"],
        "subjects": [UUID(subject)],
        "glass": None,
        "position": office.casebook.head(),
    }
    assert log.by_subject(subject) == [entry["entry"]]
    assert log.by_subject(case) == []


def test_only_fields_that_were_asked_for_and_have_a_value_are_in_it(office: Office, log: Log) -> None:
    case, _ = received(office)
    office[Role.CS_AGENT].ask("query ($id: UUID!) { complaint(id: $id) { phone demand result } }", id=case)
    assert [entry["fields"] for entry in log.entries()] == [["phone"]]


def test_what_is_masked_or_not_personal_is_not_in_it(office: Office, log: Log) -> None:
    case, _ = received(office)
    for role in (Role.AUDITOR, Role.ACCOUNTANT, Role.GUIDE, Role.CONSULTANT):
        shown = office[role].ask(ONE, id=case)["complaint"]
        assert shown["complainant"] == "王**"
        assert shown["phone"] == "138****8000"
        assert shown["statement"] == "***"
        assert shown["demand"] is None
    office[Role.CS_AGENT].ask("{ complaints { edges { node { number stage owner } } } }")
    assert log.entries() == []


def test_each_field_names_just_the_people_it_was_shown_of(office: Office, log: Log) -> None:
    _, first = received(office)
    second_case = uuid4()
    agent = office[Role.CS_AGENT]
    agent.done("complaintReceive", id=second_case, **intake())
    office.follow()
    asked = "query ($id: UUID!) { complaint(id: $id) { complainantId } }"
    second = agent.ask(asked, id=second_case)["complaint"]["complainantId"]
    agent.ask("{ complaints { edges { node { complainant phone result } } } }")
    said = {tuple(entry["fields"]): {str(s) for s in entry["subjects"]} for entry in log.entries()}
    # the second case was received without a number
    assert said in (
        {("complainant",): {first, second}, ("phone",): {first}},
        {("complainant", "phone"): {first, second}},
    )
    assert all(log.by_subject(one) for one in (first, second))


ROADS: dict[str, str] = {
    "one": "query ($id: UUID!) { of: complaint(id: $id) { complainant } }",
    "the list": 'query ($id: UUID) { of: complaints(filter: {text: ""}) { edges { node { complainant } } } }',
    "as it was": 'query ($id: UUID!) { of: complaintAsOf(id: $id, asOf: {version: "1"}) { complainant } }',
    "who set it": "query ($id: UUID!) { of: complaintBlame(id: $id) { field value } }",
}


@pytest.mark.parametrize("road", ROADS)
def test_every_road_masks_and_logs(office: Office, log: Log, road: str) -> None:
    case, subject = received(office)
    query = ROADS[road].replace("($id: UUID)", "") if road == "the list" else ROADS[road]
    variables = {} if road == "the list" else {"id": case}
    masked = json.dumps(office[Role.AUDITOR].ask(query, **variables), ensure_ascii=False)
    assert not any(secret in masked for secret in SECRETS)
    assert "王**" in masked
    assert log.entries() == []
    assert "王女士" in json.dumps(office[Role.CS_AGENT].ask(query, **variables), ensure_ascii=False)
    (entry, *_) = log.entries()
    assert "complainant" in entry["fields"]
    assert [str(s) for s in entry["subjects"]] == [subject]


def test_a_receipt_masks_and_logs_too(office: Office, log: Log) -> None:
    receive = (
        "mutation ($c: UUID!, $at: DateTime!) { complaintReceive(commandId: $c, receivedAt: $at, channel: TELEPHONE,"
        ' complainant: "王女士", phone: "13800138000", statement: "等候") {'
        " ... on ComplaintDecided { complaint { complainant phone statement } } ... on Refusal { code } } }"
    )
    at = "2026-03-02T09:00:00+08:00"
    shown = office[Role.GUIDE].ask(receive, c=uuid4(), at=at)["complaintReceive"]["complaint"]
    assert shown == {"complainant": "王**", "phone": "138****8000", "statement": "***"}
    assert log.entries() == []
    shown = office[Role.CS_AGENT].ask(receive, c=uuid4(), at=at)["complaintReceive"]["complaint"]
    assert shown["complainant"] == "王女士"
    (entry,) = log.entries()
    assert entry["road"] == "command"
    assert entry["fields"] == ["complainant", "phone", "statement"]


def test_no_value_is_ever_in_the_log(office: Office, log: Log) -> None:
    case, _ = received(office)
    office[Role.CS_DIRECTOR].ask(ONE, id=case)
    with psycopg.connect(log.owner) as connection:
        connection.execute("SELECT set_config('anjuan.institution', %s, false)", (office.code,))
        said = str(connection.execute("SELECT l::text FROM read_log AS l").fetchall())
        said += str(connection.execute("SELECT l::text FROM read_log_subject AS l").fetchall())
    assert "complaint_case" in said
    assert not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize(
    ("header", "extension", "stored"),
    [
        (None, None, None),
        ("audit 2026", None, "audit 2026"),
        (quote("回访"), None, "回访"),
        ("回访".encode().decode("latin-1"), None, "回访"),
        ("header", "回访", "回访"),
        (None, "  ", None),
        (None, "目" * 200, "目" * 200),
    ],
)
def test_a_purpose_is_said_by_header_or_extension(
    office: Office, log: Log, header: str | None, extension: str | None, stored: str | None
) -> None:
    case, _ = received(office)
    headers = {} if header is None else {"X-Purpose": header.encode("latin-1")}
    extensions = {} if extension is None else {"extensions": {"purpose": extension}}
    answer = sent(office[Role.CS_AGENT], ONE, headers, variables={"id": case}, **extensions)  # pyright: ignore[reportArgumentType]
    assert answer.json()["data"]["complaint"]["complainant"] == "王女士"
    (entry,) = {entry["purpose"] for entry in log.entries()}
    assert entry == stored


@pytest.mark.parametrize("said", ["目" * 201, 7, ["x"], "a\u0000b", "\ud800"])
def test_what_is_no_purpose_is_refused(office: Office, log: Log, said: Any) -> None:
    case, _ = received(office)
    answer = sent(office[Role.CS_AGENT], ONE, variables={"id": case}, extensions={"purpose": said})
    assert "王女士" not in answer.text
    assert answer.json()["errors"][0]["extensions"]["code"] in ("request.purpose", "request.body")
    assert log.entries() == []


@pytest.mark.parametrize("header", ["%FF", "%E5%9B", "x" * 201])
def test_a_header_that_is_no_purpose_is_refused(office: Office, log: Log, header: str) -> None:
    case, _ = received(office)
    answer = sent(office[Role.CS_AGENT], ONE, {"X-Purpose": header}, variables={"id": case})
    assert answer.json()["errors"][0]["extensions"]["code"] == "request.purpose"
    assert "data" not in answer.json()
    assert log.entries() == []


@pytest.mark.parametrize("table", ["read_log", "read_log_subject"])
@pytest.mark.parametrize("change", ["UPDATE {} SET entry = 0", "DELETE FROM {}", "TRUNCATE {}"])
def test_what_was_read_stays_read(database: Database, table: str, change: str) -> None:
    """By trigger for the owner, by privilege for the application."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(change.format(table).encode())
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(f"SET session_replication_role = replica; {change.format(table)}".encode())
    with (
        psycopg.connect(database.app, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(change.format(table).encode())


# a database of the test's own, whose log can be taken away


@dataclass
class Alone:
    """An office on a database nobody else uses, and its owner."""

    office: Office
    log: Log
    case: UUID

    def owner(self, *statements: str) -> list[tuple[Any, ...]]:
        """Say something as the owner; the rows of the last statement."""
        with psycopg.connect(self.log.owner, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []  # pyright: ignore[reportPossiblyUnboundVariable]


@contextmanager
def alone(database: Database, **settings: Any) -> Generator[Alone]:
    with House(database.app, MASTER_KEY) as house:
        app = create_app(SETTINGS.model_copy(update=settings), house)
        with running(app) as edge:
            office = open_office(edge, house.casebook("TX"))
            case, _ = received(office)
            yield Alone(office, Log(database.owner, "TX"), case)


def refused(answer: httpx.Response) -> None:
    """Nothing left but the refusal."""
    assert answer.status_code == 503, answer.text
    said = answer.json()
    assert said["errors"][0]["extensions"]["code"] == "read_log.away"
    assert said["errors"][0]["extensions"]["sentenceZh"]
    assert "data" not in said
    assert answer.headers["retry-after"]
    assert not any(secret in answer.text for secret in SECRETS)


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


def test_columns_shown_of_the_same_people_are_one_entry() -> None:
    one, two, glass = uuid4(), uuid4(), uuid4()
    reads = Reads()
    assert not reads
    reads.add("v", ["b", "a"], [one, two])
    reads.add("v", "c", [one])
    reads.add("v", "c", [one], glass)
    reads.add("w", "a", [])
    other = Reads()
    other.include(reads)
    both = tuple(sorted((one, two)))
    expected = [Shown("v", ("a", "b"), both), Shown("v", ("c",), (one,)), Shown("v", ("c",), (one,), glass)]
    assert reads.taken() == expected
    assert not reads
    assert reads.taken() == []
    assert other.taken() == expected, "what one reader was told is still to be logged for the next"
