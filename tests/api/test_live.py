"""What subscriptions tell: everything after a position, once, as the views have it."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from domain.kernel import Role
from domain.staff import enrol
from domain.store.casebook import Casebook, House
from projections.complaint import COMPLAINTS
from projections.rebuild import rebuild
from tests.api.conftest import SETTINGS, Edge, Office, intake, open_office, stamp
from tests.api.subscribers import APPENDED, CHANGES, HISTORY, LAG, Socket, events, followed, listening, websocket
from tests.api.users import eventually
from tests.conftest import Database


@pytest.fixture(scope="module")
def address(house: House) -> Generator[str]:
    """A served application whose views are kept up to date."""
    with followed(house) as wake, listening(create_app(SETTINGS, house, wake=wake.set)) as found:
        yield found


def received(office: Office, **more: Any) -> tuple[UUID, str]:
    """A new case, and the position its receipt answered."""
    id = uuid4()
    return id, office[Role.CS_AGENT].done("complaintReceive", id=id, **intake(**more))["position"]


def accepted(office: Office) -> tuple[UUID, str]:
    """A case of which evidence can be gathered as often as one likes."""
    id, _ = received(office)
    done = office[Role.CS_DIRECTOR].done("complaintAccept", id=id, cause="等候", course="两小时", demand="退费")
    return id, done["position"]


def gather(office: Office, id: UUID) -> str:
    return office[Role.CS_AGENT].done("complaintGatherEvidence", id=id, source="监控", content=str(uuid4()))["position"]


def shown(office: Office, position: int | str) -> None:
    """Wait until the views show this much."""
    query = "query ($at: BigInt) { complaints(consistentWith: $at) { edges { cursor } } }"
    eventually(lambda: "errors" not in office[Role.CS_AGENT].post(query, at=position))


def test_a_case_s_history_is_told_as_it_happens_and_no_other_case_s(address: str, office: Office) -> None:
    id, _ = accepted(office)
    other, before = accepted(office)
    shown(office, before)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(HISTORY, id=id)
        client.subscribe(HISTORY, "settled", id=id, after=0)
        first = client.next("settled")
        assert [line["topic"] for line in first["lines"]][:2] == ["complaint.received", "complaint.accepted"]
        settled(client)
        gather(office, other)
        position = gather(office, id)
        told = {said["id"]: said["payload"]["data"]["complaintHistory"] for said in (client.hear(), client.hear())}
        for said in (told["1"], told["settled"]):
            (line,) = said["lines"]
            assert (line["position"], line["topic"], line["streamId"]) == (
                position, "complaint.evidence_gathered", str(id),
            )  # fmt: skip
            assert int(said["position"]) >= int(position)


def test_a_list_s_changes_are_the_rows_as_they_are_now_each_case_once(address: str, office: Office) -> None:
    _, before = received(office)
    id, _ = accepted(office)
    last = [gather(office, id) for _ in range(3)][-1]
    shown(office, last)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, after=before)
        said = client.next()
        mine = [change for change in said["changes"] if change["complaintId"] == str(id)]
        assert mine == [
            {
                "position": last,
                "complaintId": str(id),
                "meetsFilter": True,
                "complaint": {"stage": "INVESTIGATING", "position": last},
            }
        ]
        assert int(said["position"]) >= int(last)


def test_a_case_that_no_longer_meets_the_filter_is_told_without_its_row(address: str, office: Office) -> None:
    id, position = received(office)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, filter={"stages": ["RECEIVED"]}, after=int(position) - 1)
        (change,) = client.next()["changes"]
        assert (change["meetsFilter"], change["complaint"]["stage"]) == (True, "RECEIVED")
        office[Role.CS_DIRECTOR].done("complaintAccept", id=id, cause="等候", course="两小时", demand="退费")
        (change,) = client.next()["changes"]
        assert (change["complaintId"], change["meetsFilter"], change["complaint"]) == (str(id), False, None)


def test_the_institution_s_history_is_narrowed_as_the_question_narrows_it(address: str, office: Office) -> None:
    id, _ = accepted(office)
    agent, auditor = office[Role.CS_AGENT].id, office[Role.AUDITOR]
    with websocket(address, auditor.token) as client:
        for name, which in {
            "stream": {"stream": id},
            "actor": {"actor": agent},
            "kind": {"aggregate": "staff"},
        }.items():
            client.subscribe(APPENDED, name, after=0, **which)
        said = {
            one["id"]: one["payload"]["data"]["historyAppended"]["lines"]
            for one in (client.hear(), client.hear(), client.hear())
        }
        assert {line["streamId"] for line in said["stream"]} == {str(id)}
        assert [line["topic"] for line in said["actor"]] == ["complaint.received"]
        assert {line["topic"].partition(".")[0] for line in said["kind"]} == {"staff"}


def test_without_a_position_a_subscription_begins_now(address: str, office: Office) -> None:
    id, _ = accepted(office)
    office.follow()
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES)
        assert client.ponged() == []
        settled(client)
        position = gather(office, id)
        assert [change["position"] for change in client.next()["changes"]] == [position]


def settled(client: Socket) -> None:
    """Wait until a subscription sent before has begun: one that fails is answered after it."""
    client.subscribe(HISTORY, "later", id=uuid4())
    assert client.error("later")["code"] == "complaint.unknown"


@pytest.mark.parametrize("after", [-1, 10**6])
def test_a_position_the_history_does_not_have_is_refused(address: str, office: Office, after: int) -> None:
    with websocket(address, office[Role.CS_CHIEF].token) as client:
        client.subscribe(APPENDED, after=after)
        refused = client.error()
        assert (refused["code"], refused["field"]) == ("view.no_such_position", "after")
        assert refused["sentenceZh"]
        client.subscribe(APPENDED, after=0)
        assert client.next()["lines"], "the connection goes on"


def test_a_case_can_be_followed_from_the_position_its_receipt_answered_on(address: str, office: Office) -> None:
    id, position = received(office)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(HISTORY, id=id, after=int(position) - 1)
        assert [line["position"] for line in client.next()["lines"]] == [position]


def test_the_lag_of_the_views_is_told_now_and_when_it_changes(address: str, office: Office) -> None:
    id, _ = accepted(office)
    with websocket(address, office[Role.AUDITOR].token) as client:
        client.subscribe(LAG)
        first = client.next()
        assert {one["view"] for one in first["views"]} >= {"complaint_case", "complaint_clock", "history"}
        position = gather(office, id)
        while (said := client.next())["position"] != position:
            pass
        while any(one["behind"] != "0" for one in said["views"]):
            said = client.next()
        assert {one["position"] for one in said["views"]} == {position}


def test_more_than_a_message_holds_comes_in_several_each_with_its_own_position(address: str, office: Office) -> None:
    enrolled(office.casebook, 250)
    auditor = office[Role.AUDITOR]
    shown(office, office.casebook.head())
    with websocket(address, auditor.token) as client:
        client.subscribe(APPENDED, after=0)
        first = client.next()
        second = client.next()
        assert [len(first["lines"]), len(second["lines"])] == [100, 100]
        assert first["position"] == first["lines"][-1]["position"] == "100"
        client.subscribe(APPENDED, "resumed", after=100)
        while (said := client.hear())["id"] != "resumed":
            pass
        assert said["payload"]["data"]["historyAppended"] == second


def test_a_rebuild_of_the_views_does_not_end_a_subscription(
    address: str, office: Office, house: House, shared_database: Database
) -> None:
    id, position = accepted(office)
    shown(office, position)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, after=0)
        client.next()
        rebuild(house, COMPLAINTS, owner=shared_database.owner)
        position = gather(office, id)
        assert [change["position"] for change in client.next()["changes"]] == [position]


def test_events_are_told_by_post_and_by_get(address: str, office: Office) -> None:
    id, position = received(office)
    for method in ("POST", "GET"):
        with events(address, office[Role.CS_AGENT].token, HISTORY, method=method, id=id, after=0) as stream:
            assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert stream.response.headers["cache-control"] == "no-store, no-transform"
            assert [line["position"] for line in stream.next()["lines"]] == [position]


def enrolled(casebook: Casebook, count: int) -> None:
    """Append so many events in one command after the other."""
    said = [stamp() for _ in range(count)]
    casebook.append_many(
        [enrol(None, one, id=uuid4(), name="某人", number=str(n), roles=[Role.CS_AGENT], department="客服部")]  # pyright: ignore[reportArgumentType]
        for n, one in enumerate(said)
    )


@pytest.fixture(scope="module")
def ward(edge: Edge, house: House) -> Office:
    """One institution for all examples of a property; each looks at what it appended itself."""
    return open_office(edge, house.casebook("LIVEWARD"))


moves = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 120)), st.sampled_from([("take", 0), ("leave", 0), ("follow", 0)])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=timedelta(seconds=60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves)
def test_whoever_resumes_misses_nothing_and_is_told_nothing_twice(
    address: str, ward: Office, moves: list[tuple[str, int]]
) -> None:
    """Random appends, disconnections at random moments, resumed at the last message: together they are the history."""
    auditor = ward[Role.AUDITOR]
    position = begin = ward.casebook.head()
    told: list[int] = []
    client = websocket(address, auditor.token)
    one = client.__enter__()
    one.subscribe(APPENDED, after=position)
    try:
        for move, count in moves:
            match move:
                case "append":
                    enrolled(ward.casebook, count)
                case "take" if position < ward.casebook.head():
                    position = take(one, told)
                case "leave":
                    client.__exit__(None, None, None)
                    client = websocket(address, auditor.token)
                    one = client.__enter__()
                    one.subscribe(APPENDED, after=position)
                case _:
                    ward.follow()
        while position < ward.casebook.head():
            position = take(one, told)
    finally:
        client.__exit__(None, None, None)
    assert told == list(range(begin + 1, ward.casebook.head() + 1))


def take(client: Socket, told: list[int]) -> int:
    said = client.next()
    told += [int(line["position"]) for line in said["lines"]]
    return int(said["position"])


@settings(max_examples=10, deadline=timedelta(seconds=60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(["change", "open", "take", "leave"]), min_size=1, max_size=15))
def test_a_list_kept_by_its_changes_is_the_list(address: str, ward: Office, moves: list[str]) -> None:
    """Whoever keeps rows by what they are told, resuming now and then, has what the view has; no change comes twice."""
    agent = ward[Role.CS_AGENT]
    cases = [accepted(ward)[0] for _ in range(2)]
    position = ward.casebook.head()
    kept: dict[str, str] = {}
    told: set[tuple[str, str]] = set()

    def listen(client: Socket, position: int) -> int:
        said = client.next()
        for change in said["changes"]:
            assert (change["complaintId"], change["position"]) not in told
            told.add((change["complaintId"], change["position"]))
            kept[change["complaintId"]] = change["complaint"]["position"]
        assert int(said["position"]) > position
        return int(said["position"])

    expected: dict[str, str] = {}
    client = websocket(address, agent.token)
    one = client.__enter__()
    one.subscribe(CHANGES, after=position)
    try:
        for n, move in enumerate(moves):
            match move:
                case "change":
                    id = cases[n % len(cases)]
                    expected[str(id)] = gather(ward, id)
                case "open":
                    id, _ = accepted(ward)
                    cases.append(id)
                    expected[str(id)] = gather(ward, id)
                case "take" if any(int(at) > position for at in expected.values()):
                    position = listen(one, position)
                case "leave":
                    client.__exit__(None, None, None)
                    client = websocket(address, agent.token)
                    one = client.__enter__()
                    one.subscribe(CHANGES, after=position)
                case _:
                    pass
        while any(int(at) > position for at in expected.values()):
            position = listen(one, position)
    finally:
        client.__exit__(None, None, None)
    assert kept == expected
