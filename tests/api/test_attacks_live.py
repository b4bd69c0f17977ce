"""Attacks on subscriptions: tokens that ended, other sites and institutions, floods, clients that do not read."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from api.access.roles import QUERIES
from api.access.token import issue_token, revoke_token
from api.app import create_app
from api.edge.documents import document_id
from api.live.guest import FRESH_SECONDS
from domain.credential import Scope
from domain.kernel import Role
from domain.staff import STAFF, enrol
from domain.store.casebook import Casebook, House
from projections.runner import catch_up
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Desk, Office, intake, open_office, stamp
from tests.api.served import served
from tests.api.subscribers import APPENDED, CHANGES, HISTORY, LAG, SECONDS, events, followed, listening, websocket
from tests.api.users import eventually
from tests.conftest import Database

ALL = {"complaintHistory": HISTORY, "complaintsChanged": CHANGES, "historyAppended": APPENDED, "viewLagChanged": LAG}
QUICK = SETTINGS.model_copy(
    update={
        "live_check_seconds": 0.2,
        "live_person_max": 2,
        "live_connections_max": 4,
        "origins": frozenset({"https://desk.example.org"}),
    }
)


@pytest.fixture(scope="module")
def address(house: House) -> Generator[str]:
    with followed(house) as wake, listening(create_app(QUICK, house, wake=wake.set)) as found:
        yield found


def refused_at_the_door(address: str, status: int, **more: Any) -> str:
    """The code a handshake is refused with."""
    with pytest.raises(InvalidStatus) as refused, websocket(address, **more):
        pass
    assert refused.value.response.status_code == status
    return json.loads(refused.value.response.body or b"")["errors"][0]["extensions"]["code"]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"authorization": None},
        {"authorization": ["Bearer"]},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer anjuan_" + "a" * 43},
        {"authorization": "Bearer " + "a" * 4000},
        {"authorization": "Bearer anjuan_' OR ''='"},
        {"token": "anjuan_"},
    ],
)
def test_nobody_comes_in_without_a_token_that_opens(address: str, payload: dict[str, Any] | None) -> None:
    with websocket(address) as client:
        client.say(type="connection_init", payload=payload)
        code, reason = client.closed()
        assert code == 4403
        assert reason.startswith("access.token: ")


def test_nobody_is_told_events_without_a_token_that_opens(address: str) -> None:
    for token in (None, "anjuan_" + "a" * 43):
        with events(address, token, APPENDED) as stream:
            assert stream.response.status_code == 401
            assert "WWW-Authenticate" in stream.response.headers


def test_a_token_in_the_handshake_s_header_opens_too(address: str, office: Office) -> None:
    token = office[Role.AUDITOR].token
    with websocket(address, headers={"Authorization": f"Bearer {token}"}) as client:
        client.init(None)
        client.subscribe(APPENDED, after=0)
        assert client.next()["lines"]


def test_a_token_in_the_address_opens_nothing(address: str, office: Office) -> None:
    """Addresses are in everybody's logs."""
    answer = httpx.get(
        f"http://{address}/graphql",
        params={"query": APPENDED, "access_token": office[Role.AUDITOR].token, "token": office[Role.AUDITOR].token},
        headers={"Accept": "text/event-stream"},
        trust_env=False,
        timeout=SECONDS,
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://desk.example.org.evil.example"]
)
def test_a_page_of_another_site_cannot_open_a_connection(address: str, origin: str) -> None:
    assert refused_at_the_door(address, 403, origin=origin) == "request.origin"


def test_our_own_pages_and_those_an_operator_allowed_can(address: str, office: Office) -> None:
    for origin in (f"http://{address}", "https://desk.example.org", "HTTPS://DESK.EXAMPLE.ORG"):
        with websocket(address, office[Role.AUDITOR].token, origin=origin) as client:
            client.subscribe(APPENDED, after=0)
            assert client.next()["lines"]


def ended_by(way: str, office: Office, desk: Desk) -> None:
    if way == "revoked":
        assert revoke_token(office.casebook.house, office.code, desk.token)
    else:
        said = stamp()
        office.casebook.act(STAFF, desk.id, lambda staff: staff.leave(said), command_id=said.command_id)


@pytest.mark.parametrize("way", ["revoked", "left"])
def test_a_connection_ends_when_its_token_does_even_if_nothing_happens(address: str, office: Office, way: str) -> None:
    desk = office[Role.CS_CHIEF]
    with websocket(address, desk.token) as client, events(address, desk.token, CHANGES) as stream:
        ended_by(way, office, desk)
        code, reason = client.closed()
        assert (code, reason.partition(":")[0]) == (4403, "access.token_revoked" if way == "revoked" else "access.left")
        assert stream.error()["code"] == reason.partition(":")[0]
    with websocket(address) as client:
        client.say(type="connection_init", payload={"authorization": f"Bearer {desk.token}"})
        assert client.closed()[0] == 4403


def test_nothing_that_happened_after_a_token_ended_is_told(house: House, office: Office) -> None:
    """Also when nobody looks at silent connections: the token is looked at before a message leaves."""
    settings = SETTINGS.model_copy(update={"live_check_seconds": 3600.0})
    desk, other = office[Role.CS_CHIEF], office[Role.CS_AGENT]
    with (
        followed(house) as wake,
        listening(create_app(settings, house, wake=wake.set)) as address,
        websocket(address, desk.token) as client,
        events(address, desk.token, CHANGES) as stream,
    ):
        client.subscribe(CHANGES, after=office.casebook.head())
        client.subscribe(APPENDED, "begun", after=0)
        client.next("begun")
        assert revoke_token(house, office.code, desk.token)
        forgotten()
        other.done("complaintReceive", **intake())
        assert client.closed()[0] == 4403
        assert not any("complaint." in said or "complaintId" in said for said in client.passed_over)
        assert stream.error()["code"] == "access.token_revoked"


def forgotten() -> None:
    """Wait until what was known of a token is too old to be believed."""
    time.sleep(FRESH_SECONDS + 0.1)


def test_a_post_that_was_lost_ends_its_subscriptions_and_no_others(address: str, office: Office) -> None:
    id = office.enrolled(Role.CS_CHIEF, Role.ADMIN)
    token = issue_token(office.casebook.house, office.code, id, "test", timedelta(days=1))
    with websocket(address, token) as client:
        client.subscribe(CHANGES, "cases", after=office.casebook.head())
        client.subscribe(LAG, "lag")
        client.next("lag")
        said = stamp()
        office.casebook.act(STAFF, id, lambda staff: staff.assign_roles(said, [Role.ADMIN]), command_id=said.command_id)
        forgotten()
        office[Role.CS_AGENT].done("complaintReceive", **intake())
        while (told := client.hear())["id"] != "cases":
            pass
        assert told["type"] == "error"
        assert told["payload"][0]["extensions"]["code"] == "access.role"
        assert client.next("lag")["views"]


@pytest.mark.parametrize("role", Role)
def test_each_post_may_follow_what_the_table_says_and_nothing_else(address: str, office: Office, role: Role) -> None:
    id = uuid4()
    office[Role.CS_AGENT].done("complaintReceive", id=id, **intake())
    with websocket(address, office[role].token) as client:
        for field, query in ALL.items():
            client.subscribe(query, field, id=id, after=0)
            if role in QUERIES[field]:
                client.next(field)
                client.say(type="complete", id=field)
            else:
                assert client.error(field)["code"] == "access.role"


def test_a_token_that_is_not_for_questions_follows_nothing(address: str, office: Office) -> None:
    id = office.enrolled(Role.AUDITOR)
    token = issue_token(office.casebook.house, office.code, id, "test", timedelta(days=1), scopes=[Scope.DECIDE])
    with websocket(address, token) as client:
        client.subscribe(APPENDED, after=0)
        assert client.error()["code"] == "access.scope"


def test_another_institution_s_cases_are_as_unknown_as_those_that_never_were(
    address: str, office: Office, elsewhere: Office
) -> None:
    id = uuid4()
    elsewhere[Role.CS_AGENT].done("complaintReceive", id=id, **intake())
    with websocket(address, office[Role.CS_AGENT].token) as client:
        said: list[str] = []
        for one in (id, uuid4()):
            client.subscribe(HISTORY, id=one, after=0)
            said.append(json.dumps(client.error()).replace(str(one), "…"))
        assert said[0] == said[1]


def test_nothing_is_told_of_another_institution(address: str, office: Office, elsewhere: Office) -> None:
    with websocket(address, office[Role.AUDITOR].token) as client:
        client.subscribe(APPENDED, "lines", after=0)
        client.subscribe(CHANGES, "cases", after=0)
        told = client.next("lines")
        theirs = UUID(elsewhere[Role.CS_AGENT].done("complaintReceive", **intake())["complaintId"])
        mine = office[Role.CS_AGENT].done("complaintReceive", **intake())
        seen = [told]
        while (
            not (lines := [x for one in seen for x in one.get("lines", [])])
            or lines[-1]["position"] != mine["position"]
        ):
            seen.append(client.hear()["payload"]["data"].popitem()[1])
        assert str(theirs) not in json.dumps(seen)
        assert mine["complaintId"] in json.dumps(seen)


def test_sql_in_every_argument_is_a_value(address: str, office: Office) -> None:
    attack = "'; DROP TABLE event; --"
    with websocket(address, office[Role.AUDITOR].token) as client:
        client.subscribe(APPENDED, aggregate=attack, after=0)
        client.subscribe(CHANGES, "2", filter={"department": attack, "text": attack, "source": attack}, after=0)
        client.say(type="subscribe", id=attack, payload={"query": APPENDED, "variables": {"after": 0}})
        assert client.next(attack)["lines"]


def test_one_connection_more_than_a_person_may_have_is_refused_and_room_is_made_again(
    address: str, office: Office
) -> None:
    desk, other = office[Role.CS_CHIEF], office[Role.DEAN]
    with ExitStack() as open_:
        open_.enter_context(websocket(address, desk.token))
        stream = open_.enter_context(events(address, desk.token, APPENDED, after=0))
        stream.next()
        with websocket(address) as client:
            client.say(type="connection_init", payload={"authorization": f"Bearer {desk.token}"})
            code, reason = client.closed()
            assert (code, reason.partition(":")[0]) == (4429, "limit.connections")
        with events(address, desk.token, APPENDED) as stream:
            assert stream.response.status_code == 429
            assert "Retry-After" in stream.response.headers
        open_.enter_context(websocket(address, other.token))
    with websocket(address, desk.token) as client:
        client.subscribe(APPENDED, after=0)
        assert client.next()["lines"]


def test_a_full_house_lets_nobody_in_and_answers_questions_all_the_same(address: str, office: Office) -> None:
    with ExitStack() as open_:
        for role in (Role.AUDITOR, Role.DEAN) * 2:
            open_.enter_context(websocket(address, office[role].token))
        assert refused_at_the_door(address, 503) == "limit.live"
        with events(address, office[Role.AUDITOR].token, APPENDED) as stream:
            assert stream.response.status_code == 503
        answer = httpx.post(
            f"http://{address}/graphql",
            json={"query": "{ me { name } }"},
            headers={"Authorization": f"Bearer {office[Role.AUDITOR].token}"},
            trust_env=False,
            timeout=SECONDS,
        )
        assert answer.status_code == 200


def test_subscriptions_are_paid_for_like_questions(house: House, office: Office) -> None:
    app = create_app(SETTINGS.model_copy(update={"cost_per_minute": 250}), house)
    with listening(app) as address, websocket(address, office[Role.AUDITOR].token) as client:
        client.subscribe(APPENDED, "1", after=0)
        client.next("1")
        client.subscribe(APPENDED, "2", after=0)
        client.next("2")
        client.subscribe(APPENDED, "3", after=0)
        assert client.error("3")["code"] == "limit.rate"


def test_browsers_may_send_only_trusted_documents_here_too(house: House, office: Office, tmp_path: Path) -> None:
    manifest = tmp_path / "documents.json"
    manifest.write_text(json.dumps({document_id(APPENDED): APPENDED}), "utf-8")
    app = create_app(SETTINGS.model_copy(update={"documents": manifest}), house)
    id = office.enrolled(Role.AUDITOR)
    token = issue_token(house, office.code, id, "test", timedelta(days=1), scopes=[Scope.ASK])
    with followed(house), listening(app) as address, websocket(address, token) as client:
        client.subscribe(LAG, "untrusted")
        assert client.error("untrusted")["code"] == "document.untrusted"
        variables = {"after": 0}
        client.say(type="subscribe", id="id", payload={"documentId": document_id(APPENDED), "variables": variables})
        assert client.next("id")["lines"]


def flood(casebook: Casebook, count: int) -> None:
    """Append so many events at once that say six thousand characters each."""
    said = [stamp() for _ in range(count)]
    first = [
        enrol(None, one, id=uuid4(), name="某人", number=str(n), roles=[Role.CS_AGENT], department="客服部")
        for n, one in enumerate(said)
    ]
    casebook.append_many([replace(one, department="a" * 6000)] for one in first if one is not None)


WHOLE = "subscription { historyAppended(after: 0) { position lines { id changes { field values } } } }"


@pytest.mark.parametrize("road", ["websocket", "events"])
def test_whoever_reads_nothing_is_dropped_while_memory_stays_flat_and_others_go_on(
    database: Database, road: str
) -> None:
    """What a client does not read is nowhere but in the log: of the 12 MB that wait, a few messages are made."""
    with House(database.app, bytes(range(32))) as house:
        unasked: Any = None
        office = open_office(unasked, house.casebook("FLOOD"))
        token = issue_token(house, "FLOOD", office.enrolled(Role.AUDITOR), "test", timedelta(days=1))
        flood(office.casebook, 2000)
        catch_up(house, VIEWS.values())
        with served(database, live_stall_seconds=1.0, live_person_max=50) as one:
            host, port = one.host
            address = f"{host}:{port}"
            with ExitStack() as open_, ThreadPoolExecutor(1) as beside:
                before = memory(one.process.pid)
                deaf = [open_.enter_context(not_reading(host, port, token, road)) for _ in range(5)]
                read = beside.submit(read_all, address, token, office.casebook.head())
                assert read.result() == list(range(1, office.casebook.head() + 1))
                for _ in deaf:
                    one.wait_for("slow client dropped")
                assert memory(one.process.pid) - before < 64 * 1024 * 1024
                # what was still to be sent to them is forgotten, too
                ports = {client.getsockname()[1] for client in deaf}
                eventually(lambda: not ports & one.peers())


def memory(pid: int) -> int:
    """Bytes of memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def not_reading(host: str, port: int, token: str, road: str) -> socket.socket:
    """A client that asks for everything, with a small buffer, and reads nothing of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, port))
    if road == "events":
        body = json.dumps({"query": WHOLE}).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        return client
    client.sendall(
        f"GET /graphql HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: graphql-transport-ws\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    assert client.recv(12) == b"HTTP/1.1 101"
    for said in (
        {"type": "connection_init"},
        *({"type": "subscribe", "id": str(n), "payload": {"query": WHOLE}} for n in range(3)),
    ):
        text = json.dumps(said).encode()
        size = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
        client.sendall(b"\x81" + size + bytes(4) + text)  # masked with zeros
    return client


def read_all(address: str, token: str, upto: int) -> list[int]:
    told: list[int] = []
    with websocket(address, token) as client:
        client.subscribe(APPENDED, after=0)
        while not told or told[-1] < upto:
            told += [int(line["position"]) for line in client.next()["lines"]]
    return told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_its_subscribers_and_then_itself(database: Database, number: signal.Signals) -> None:
    with House(database.app, bytes(range(32))) as house:
        unasked: Any = None
        office = open_office(unasked, house.casebook("WARD"))
        token = issue_token(house, "WARD", office.enrolled(Role.AUDITOR), "test", timedelta(days=1))
        catch_up(house, VIEWS.values())
    with served(database, grace_seconds=120) as one:
        address = "{}:{}".format(*one.host)
        with websocket(address, token) as client, events(address, token, APPENDED, after=0) as stream:
            client.subscribe(APPENDED, after=0)
            client.next()
            stream.next()
            one.tell(number)
            code, reason = client.closed()
            assert (code, reason.partition(":")[0]) == (1012, "server.ending")
            assert stream.error()["code"] == "server.ending"
        assert one.ended() == 0
