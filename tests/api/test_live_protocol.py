"""The protocols of subscriptions, word by word: `graphql-transport-ws` and `graphql-sse`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, intake
from tests.api.subscribers import APPENDED, CHANGES, HISTORY, SECONDS, events, followed, listening, websocket


@pytest.fixture(scope="module")
def address(house: House) -> Generator[str]:
    """Served with short patience, so that nobody waits long for what must happen."""
    patience = {"live_init_seconds": 1.0, "live_ping_seconds": 0.5, "live_pong_seconds": 1.0, "live_check_seconds": 0.2}
    settings = SETTINGS.model_copy(update={**patience, "live_message_bytes_max": 4096, "live_subscriptions_max": 3})
    with followed(house) as wake, listening(create_app(settings, house, wake=wake.set)) as found:
        yield found


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.CS_CHIEF]


def test_another_subprotocol_is_not_spoken(address: str) -> None:
    for protocol in ("graphql-ws", None):
        with websocket(address, protocol=protocol) as client:
            assert client.closed()[0] == 4406


def test_whoever_does_not_say_who_they_are_in_time_is_let_go(address: str) -> None:
    with websocket(address) as client:
        assert client.closed() == (4408, "Connection initialisation timeout")


def test_whoever_subscribes_before_coming_in_is_let_go(address: str) -> None:
    with websocket(address) as client:
        client.subscribe(APPENDED)
        assert client.closed() == (4401, "Unauthorized")


def test_whoever_comes_in_twice_is_let_go(address: str, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        client.say(type="connection_init")
        assert client.closed() == (4429, "Too many initialisation requests")


def test_two_subscriptions_cannot_have_one_id_at_a_time(address: str, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        client.subscribe(APPENDED, "mine")
        client.subscribe(APPENDED, "mine")
        assert client.closed() == (4409, "Subscriber for mine already exists")


def test_an_id_is_free_again_once_its_subscription_is_completed_or_refused(address: str, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        client.subscribe(APPENDED, "mine", after=0)
        first = client.next("mine")
        client.say(type="complete", id="mine")
        client.say(type="complete", id="nobody's")
        client.subscribe(APPENDED, "mine", after=10**9)
        assert client.error("mine")["code"] == "view.no_such_position"
        client.subscribe(APPENDED, "mine", after=0)
        assert client.next("mine") == first


def test_nothing_is_told_of_a_completed_subscription(address: str, office: Office, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        client.subscribe(APPENDED, "first", after=office.casebook.head())
        client.say(type="complete", id="first")
        client.subscribe(APPENDED, "second", after=office.casebook.head())
        desk.done("complaintReceive", **intake())
        client.next("second")
        assert "first" not in {said["id"] for said in client.ponged()}


def test_a_ping_is_answered_with_what_it_said(address: str) -> None:
    with websocket(address) as client:
        assert client.ponged(payload={"at": 1}) == []
        client.say(type="pong")
        assert client.ponged() == []


def test_a_silent_client_is_pinged_and_let_go_when_it_does_not_answer(address: str, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        assert client.hear() == {"type": "ping"}
        client.say(type="pong")
        assert client.hear() == {"type": "ping"}, "an answered ping is not the last"
        assert client.closed()[0] == 4499


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "[]",
        "null",
        "{}",
        '{"type": "start"}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ me { name } }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 1}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "", "variables": []}}',
        '{"type": "connection_init", "payload": "token"}',
        '{"type": "ping", "payload": ' + "[" * 1500 + "]" * 1500 + "}",
        '{"type": "ping", "payload": {"a": ' + "[" * 1500 + "]" * 1500 + "}}",
        '{"type": "complete"}',
        b'{"type": "ping"}',
    ],
)
def test_what_is_no_message_of_the_protocol_ends_the_connection(address: str, desk: Desk, said: str | bytes) -> None:
    with websocket(address, desk.token) as client:
        client.connection.send(said)
        code, reason = client.closed()
        assert code == 4400
        assert reason


def test_a_message_that_is_too_long_ends_the_connection(address: str, desk: Desk) -> None:
    for said in ("a" * 5000, "案" * 2000):
        with websocket(address, desk.token) as client:
            client.say(type="ping", payload={"said": said})
            assert client.closed()[0] == 1009


def test_one_subscription_more_than_a_connection_may_have_is_refused_alone(address: str, desk: Desk) -> None:
    with websocket(address, desk.token) as client:
        for name in "123":
            client.subscribe(APPENDED, name)
        client.subscribe(APPENDED, "4", after=0)
        refused = client.error("4")
        assert refused["code"] == "limit.subscriptions"
        assert refused["sentenceZh"]
        client.say(type="complete", id="1")
        client.subscribe(APPENDED, "4", after=0)
        assert client.next("4")["lines"]


def deep(levels: int, within: str) -> str:
    """From a line to its case and from there to its lines, so many times."""
    before, after = "complaint { history(first: 100) { edges { node { ", " } } } }"
    return (
        "subscription { historyAppended { lines { "
        + before * levels
        + "complaint { "
        + within
        + " }"
        + after * levels
        + " } } }"
    )


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "document.syntax"),
        ("subscription { nobody }", "document.invalid"),
        ("subscription { historyAppended { position } viewLagChanged { position } }", "document.invalid"),
        ("subscription { __typename }", "document.invalid"),
        ("subscription { historyAppended @skip(if: true) { position } }", "document.invalid"),
        ("subscription ($id: UUID!) { complaintHistory(id: $id) { position } }", "variable.invalid"),
        ("subscription { complaintHistory(id: 1) { position } }", "document.invalid"),
        (
            "subscription A { historyAppended { position } } subscription B { historyAppended { position } }",
            "request.operation",
        ),
        ("{ me { name } }", "live.subscription"),
        ("mutation { complaintDeclineTransfer { __typename } }", "live.subscription"),
        ("", "request.body"),
        (deep(8, "id"), "limit.depth"),
        (deep(2, "clocks(first: 100) { totalCount }"), "limit.cost"),
    ],
)  # fmt: skip
def test_what_cannot_be_subscribed_to_is_said_with_its_code_on_both_roads(
    address: str, desk: Desk, query: str, code: str
) -> None:
    with websocket(address, desk.token) as client:
        client.subscribe(query)
        refused = client.error()
        assert refused["code"] == code, refused
        client.subscribe(APPENDED, after=0)
        assert client.next()["lines"], "the connection goes on"
    with events(address, desk.token, query) as stream:
        assert stream.response.status_code == 200, "a client of the protocol cannot read another status"
        assert stream.error()["code"] == code


def test_errors_in_a_message_are_told_with_it_and_do_not_end_the_subscription(address: str, desk: Desk) -> None:
    """A page size that is too large is found out while the first message is made."""
    case = "complaint { history(first: 1000) { totalCount } }"
    query = f"subscription ($after: BigInt) {{ historyAppended(after: $after) {{ position lines {{ {case} }} }} }}"
    received = desk.done("complaintReceive", **intake())
    with websocket(address, desk.token) as client:
        client.subscribe(query, after=int(received["position"]) - 1)
        said = client.hear()
        assert (said["type"], said["payload"]["errors"][0]["extensions"]["code"]) == ("next", "page.size")
        assert all(one["type"] == "next" for one in client.ponged()), "it goes on"


def test_an_event_stream_lives_while_there_is_nothing_to_say(address: str, desk: Desk) -> None:
    with events(address, desk.token, CHANGES) as stream:
        seen = [next(stream.lines) for _ in range(6)]
        assert seen == [":", "", ":", "", ":", ""]


def test_a_subscription_as_an_ordinary_request_is_told_how_to_ask(address: str, desk: Desk) -> None:
    for accept in ("application/json", "application/graphql-response+json", "*/*"):
        headers = {"Authorization": f"Bearer {desk.token}", "Accept": accept}
        answer = httpx.post(
            f"http://{address}/graphql", headers=headers, json={"query": APPENDED}, trust_env=False, timeout=SECONDS
        )
        assert answer.status_code == 406
        assert answer.json()["errors"][0]["extensions"]["code"] == "live.accept"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "request.body"),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "request.content_type"),
        ({"json": {"query": "a" * (1024 * 1024)}}, 413, "request.too_large"),
    ],
)
def test_what_is_no_request_is_refused_before_there_is_a_stream(
    address: str, desk: Desk, body: dict[str, Any], status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {desk.token}", "Accept": "text/event-stream", **body.pop("headers", {})}
    answer = httpx.post(f"http://{address}/graphql", headers=headers, trust_env=False, timeout=SECONDS, **body)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["extensions"]["code"] == code


def test_messages_of_several_subscriptions_are_told_apart(address: str, desk: Desk) -> None:
    names = ['"', "数", "\u2028"]
    with websocket(address, desk.token) as client:
        for name in names:
            client.subscribe(APPENDED, name, after=0)
        told: set[str] = set()
        while told != set(names):
            said = client.hear()
            assert (said["type"], said["id"] in names) == ("next", True), said
            told.add(said["id"])


def test_a_subscription_that_is_left_ends_in_the_server(house: House, office: Office, desk: Desk) -> None:
    app = create_app(SETTINGS, house)
    with listening(app) as address:
        with ExitStack() as clients:
            one = clients.enter_context(websocket(address, desk.token))
            one.subscribe(APPENDED, after=0)
            one.next()
            stream = clients.enter_context(events(address, desk.token, APPENDED, after=0))
            stream.next()
            assert len(app.state.live.hall) == 2
            assert app.state.admission.open == 0, "a stream takes nobody's place"
            assert [lane.inside for lane in app.state.admission.lanes] == [0, 0]
        for _ in range(1000):
            if not app.state.live.hall and not app.state.live.watcher.followed:
                break
            httpx.get(f"http://{address}/livez", trust_env=False, timeout=SECONDS)
        assert len(app.state.live.hall) == 0
        assert app.state.live.watcher.followed == 0, "nobody is looked for any more"


def test_an_operation_is_chosen_by_its_name(address: str, desk: Desk) -> None:
    desk.done("complaintReceive", **intake())
    query = (
        "subscription A { historyAppended(after: 0) { position } }"
        " subscription B { complaintsChanged(after: 0) { position } }"
        " subscription C ($id: UUID!) { complaintHistory(id: $id) { position } }"
    )
    with websocket(address, desk.token) as client:
        for name, field in {"A": "historyAppended", "B": "complaintsChanged"}.items():
            client.say(type="subscribe", id=name, payload={"query": query, "operationName": name})
            while (said := client.hear())["id"] != name:
                pass  # the other one goes on
            assert list(said["payload"]["data"]) == [field]
        client.say(
            type="subscribe", id="C", payload={"query": HISTORY, "operationName": "", "variables": {"id": str(uuid4())}}
        )
        assert client.error("C", others=("A", "B"))["code"] == "complaint.unknown"
