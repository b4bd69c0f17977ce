"""The process that serves: how it ends, and whom it does not wait for."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from graphql import get_introspection_query

from api.access.token import issue_token
from domain.kernel import Role
from domain.store.casebook import Casebook, House
from tests.api.conftest import intake, open_office
from tests.api.served import SECONDS, Served, served
from tests.api.users import eventually
from tests.conftest import MASTER_KEY, Database, Server

RECEIVE = """
mutation ($commandId: UUID!, $receivedAt: DateTime!, $channel: Channel!, $complainant: String!, $statement: String!) {
  complaintReceive(commandId: $commandId, receivedAt: $receivedAt, channel: $channel, complainant: $complainant,
      statement: $statement) { __typename ... on ComplaintDecided { version } ... on Refusal { code } }
}
"""


class Ward:
    """An institution on a database of the test's own, and somebody who may receive complaints there."""

    def __init__(self, database: Database, house: House) -> None:
        self.database = database
        self.casebook: Casebook = house.casebook("WARD")
        unasked: Any = None
        office = open_office(unasked, self.casebook)
        self.token = issue_token(house, "WARD", office.enrolled(Role.CS_AGENT), "test", timedelta(days=1))
        self.overseer = issue_token(house, "WARD", office.enrolled(Role.AUDITOR), "test", timedelta(days=1))

    def ask(self, one: Served, query: str, **variables: Any) -> httpx.Response:
        body = json.loads(json.dumps({"query": query, "variables": variables}, default=str))
        return httpx.post(one.url, json=body, headers={"Authorization": f"Bearer {self.token}"}, timeout=SECONDS)

    def receive(self, one: Served, command_id: UUID) -> httpx.Response:
        return self.ask(one, RECEIVE, commandId=command_id, **intake())

    @contextmanager
    def turn_held(self) -> Generator[psycopg.Connection[Any]]:
        """Nobody can append to the institution while this lasts."""
        with psycopg.connect(self.database.owner) as owner:
            owner.execute("SELECT FROM anjuan.institution_position WHERE institution = 'WARD' FOR UPDATE")
            yield owner
            owner.rollback()

    def append_waits(self) -> bool:
        with psycopg.connect(self.database.owner) as owner:
            row = owner.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
        return row is not None and row[0] > 0


@pytest.fixture
def ward(database: Database) -> Generator[Ward]:
    with House(database.app, MASTER_KEY) as house:
        yield Ward(database, house)


@pytest.fixture
def pool() -> Generator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def in_vain(one: Served) -> list[str]:
    """What an orderly end must not say."""
    return [line for line in one.errors if "Traceback" in line or '"error"' in line]


def test_a_command_under_way_when_the_process_is_told_to_end_is_stored_and_answered(
    ward: Ward, pool: ThreadPoolExecutor
) -> None:
    command = uuid4()
    with served(ward.database) as one:
        with ward.turn_held():
            answer: Future[httpx.Response] = pool.submit(ward.receive, one, command)
            eventually(ward.append_waits)
            one.tell()
            assert one.wait_for("ending")["grace_seconds"] == 20
            eventually(lambda: _refuses(one.host))
            assert not answer.done()
        assert answer.result(SECONDS).json()["data"]["complaintReceive"]["version"] == "1"
        assert one.ended() == 0
        assert in_vain(one) == []
    assert ward.casebook.receipt(command) is not None


def test_a_command_that_does_not_end_in_time_is_rolled_back_and_told_so(ward: Ward, pool: ThreadPoolExecutor) -> None:
    command = uuid4()
    with served(ward.database, grace_seconds=0.3) as one, ward.turn_held() as held:
        answer = pool.submit(ward.receive, one, command)
        eventually(ward.append_waits)
        one.tell()
        assert answer.result(SECONDS).json()["data"]["complaintReceive"] == {
            "__typename": "Refusal",
            "code": "store.busy",
        }
        assert one.ended() == 0
        assert in_vain(one) == []
        held.rollback()
        assert not ward.append_waits()
    assert ward.casebook.receipt(command) is None


def test_while_it_drains_it_is_not_ready_and_still_answers(ward: Ward) -> None:
    with served(ward.database, drain_seconds=1.5) as one:
        assert one.get("/readyz").json()["ready"] is True
        one.tell(signal.SIGINT)
        one.wait_for("ending")
        answer = one.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "draining": True})
        assert one.get("/livez").status_code == 200
        assert ward.ask(one, "{ me { roles } }").json()["data"]["me"]["roles"] == ["CS_AGENT"]
        assert one.ended() == 0
        assert in_vain(one) == []


def test_a_second_signal_ends_it_at_once(ward: Ward, pool: ThreadPoolExecutor) -> None:
    with served(ward.database) as one, ward.turn_held():
        answer = pool.submit(ward.receive, one, uuid4())
        eventually(ward.append_waits)
        one.tell()
        one.wait_for("ending")
        one.tell()
        assert one.ended() == 128 + signal.SIGTERM
        assert "Ended at once" in one.errors[-1]
        with pytest.raises(httpx.TransportError):
            answer.result(SECONDS)


def _refuses(host: tuple[str, int]) -> bool:
    try:
        socket.create_connection(host, timeout=SECONDS).close()
    except OSError:
        return True
    return False


HEAD = b"POST /graphql HTTP/1.1\r\nHost: anjuan\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"


@pytest.fixture(scope="module")
def impatient(server: Server, template: Database) -> Generator[tuple[Served, Ward]]:
    """A process that waits for nobody for long."""
    database = server.create(template)
    limits: dict[str, Any] = {"head_seconds": 0.3, "body_seconds": 0.3, "questions_at_once": 2, "queue_max": 0}
    with House(database.app, MASTER_KEY) as house, served(database, **limits) as one:
        yield one, Ward(database, house)
    server.drop(database)


def slow_client(one: Served) -> socket.socket:
    return socket.create_connection(one.host, timeout=SECONDS)


@pytest.mark.parametrize(
    "sent",
    [b"", HEAD, b"GET /livez HTTP/1.1\r\nHost: anjuan\r\nX-Slow: ", b"\r\n"],
    ids=["nothing", "half a head", "half a line", "an empty line"],
)
def test_a_client_that_does_not_finish_its_head_is_cut_off(impatient: tuple[Served, Ward], sent: bytes) -> None:
    one, _ = impatient
    with slow_client(one) as slow:
        slow.sendall(sent)
        assert _until_closed(slow) == b""
    assert one.get("/livez").status_code == 200


def test_a_connection_kept_alive_by_empty_lines_is_cut_off(impatient: tuple[Served, Ward]) -> None:
    one, _ = impatient
    with slow_client(one) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: anjuan\r\n\r\n")
        said = b""
        while not said.endswith(b'{"live":true}'):
            said += slow.recv(1000)
        slow.sendall(b"\r\n")
        assert _until_closed(slow) == b""


def test_a_client_that_does_not_finish_its_body_is_told_and_cut_off(impatient: tuple[Served, Ward]) -> None:
    one, ward = impatient
    with slow_client(one) as slow:
        slow.sendall(HEAD + f"Authorization: Bearer {ward.token}\r\n\r\n".encode() + b'{"query": "')
        said = _until_closed(slow)
    assert said.startswith(b"HTTP/1.1 408")
    assert b"request.slow" in said
    assert one.wait_for("refused")["code"] == "request.slow"


@pytest.mark.parametrize("last", ["keep-alive", "close"])
def test_a_client_that_does_not_read_its_answers_is_cut_off_and_keeps_no_place(
    impatient: tuple[Served, Ward], last: str
) -> None:
    one, ward = impatient
    query = json.dumps({"query": get_introspection_query()})
    head = f"Content-Type: application/json\r\nAuthorization: Bearer {ward.overseer}\r\nContent-Length: {len(query)}"

    def request(connection: str) -> bytes:
        return f"POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n{head}\r\n\r\n{query}".encode()

    deaf: list[socket.socket] = []
    for _ in range(2):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(SECONDS)
        client.connect(one.host)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(10)
        with contextlib.suppress(ConnectionError):  # cut off while it still asks
            for _ in range(40):  # more than the kernel keeps for a client that does not read
                client.sendall(request("keep-alive"))
            client.sendall(request(last))
        deaf.append(client)
    ports = {client.getsockname()[1] for client in deaf}
    eventually(lambda: not ports & one.peers())
    eventually(lambda: ward.ask(one, "{ me { roles } }").status_code == 200)
    for client in deaf:
        client.close()


def _until_closed(connection: socket.socket) -> bytes:
    said = b""
    try:
        while chunk := connection.recv(4096):
            said += chunk
    except ConnectionResetError:
        pass
    return said
