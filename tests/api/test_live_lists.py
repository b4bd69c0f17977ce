"""Lists that are followed with filters: whoever keeps rows by what is told has the list, and is told little else."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import OperationDefinitionNode, parse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.live.lists import Absences
from api.live.operation import shown_variables
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Edge, Office, open_office
from tests.api.subscribers import CHANGES, Socket, followed, listening, websocket
from tests.api.test_live import accepted, enrolled, gather, received

FILTERS: dict[str, dict[str, Any] | None] = {
    "all": None,
    "received": {"stages": ["RECEIVED"]},
    "investigating": {"stages": ["INVESTIGATING"]},
    "closed": {"closed": True},
    "both": {"stages": ["RECEIVED", "INVESTIGATING"], "closed": False},
    "overdue": {"stages": ["RECEIVED"], "overdueOnly": True},
}
CASE = uuid4()


@pytest.fixture(scope="module")
def address(house: House) -> Generator[str]:
    """A served application whose views are kept up to date."""
    with followed(house) as wake, listening(create_app(SETTINGS, house, wake=wake.set)) as found:
        yield found


@pytest.fixture(scope="module")
def ward(edge: Edge, house: House) -> Office:
    """One institution for all examples of a property; each looks at what it appended itself."""
    return open_office(edge, house.casebook("LISTWARD"))


def accept(office: Office, id: UUID) -> int:
    """Accept a case; the position of its event, after which comes that of the number it was given."""
    done = office[Role.CS_DIRECTOR].done("complaintAccept", id=id, cause="等候", course="两小时", demand="退费")
    return int(done["position"]) - 1


def test_a_case_that_never_met_the_filter_is_not_told(address: str, office: Office) -> None:
    _, begin = received(office)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, filter={"stages": ["INVESTIGATING"]}, after=int(begin))
        received(office)
        received(office, owner=office[Role.CS_CHIEF].id)
        id, _ = received(office)
        accept(office, id)
        assert [change["complaintId"] for change in client.next()["changes"]] == [str(id)]


def test_a_case_that_was_there_before_is_told_once_although_it_may_never_have_met_the_filter(
    address: str, office: Office
) -> None:
    """What whoever resumes had on the list is not known."""
    id, begin = accepted(office)
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, filter={"stages": ["RECEIVED"]}, after=int(begin))
        gather(office, id)
        (change,) = client.next()["changes"]
        assert (change["complaintId"], change["meetsFilter"], change["complaint"]) == (str(id), False, None)
        client.subscribe(CHANGES, "all", after=int(change["position"]))
        for _ in range(3):
            position = gather(office, id)
            assert [one["position"] for one in client.next("all")["changes"]] == [position]
        other, _ = received(office)
        told = {said["id"]: said for said in (client.hear(), client.hear())}
        assert [one["complaintId"] for one in told["1"]["payload"]["data"]["complaintsChanged"]["changes"]] == [
            str(other)
        ]


def test_who_has_nothing_to_be_told_is_told_the_position_now_and_then(address: str, office: Office) -> None:
    begin = office.casebook.head()
    with websocket(address, office[Role.CS_AGENT].token) as client:
        client.subscribe(CHANGES, filter={"closed": True}, after=begin)
        enrolled(office.casebook, 1_500)
        said = client.next()
        assert said["changes"] == []
        assert begin + 1_000 <= int(said["position"]) <= office.casebook.head()


@settings(max_examples=8, deadline=timedelta(seconds=60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(["change", "open", "accept", "take", "leave"]), min_size=1, max_size=12))
@example(moves=["open", "accept", "take", "leave", "open", "open", "accept", "change", "leave", "accept"])
def test_lists_with_filters_kept_by_their_changes_are_the_lists(address: str, ward: Office, moves: list[str]) -> None:
    """Several followers at once, all leaving and resuming; each is told no change twice."""
    agent = ward[Role.CS_AGENT]
    begin = ward.casebook.head()
    cases: dict[UUID, str] = {}
    at = dict.fromkeys(FILTERS, begin)
    kept: dict[str, dict[str, str]] = {name: {} for name in FILTERS}
    told: dict[str, set[tuple[str, str]]] = {name: set() for name in FILTERS}

    def subscribe(client: Socket) -> None:
        for name, filter in FILTERS.items():
            client.subscribe(CHANGES, name, filter=filter, after=at[name])

    def hear(client: Socket) -> None:
        said = client.hear()
        if said["type"] == "ping":
            client.say(type="pong")
            return
        name, found = said["id"], said["payload"]["data"]["complaintsChanged"]
        for change in found["changes"]:
            id = change["complaintId"]
            assert (id, change["position"]) not in told[name]
            told[name].add((id, change["position"]))
            if change["meetsFilter"]:
                kept[name][id] = change["complaint"]["stage"]
            else:
                kept[name].pop(id, None)
        assert int(found["position"]) > at[name]
        at[name] = int(found["position"])

    client = websocket(address, agent.token)
    one = client.__enter__()
    subscribe(one)
    last = begin
    try:
        for n, move in enumerate([*moves, "open", "leave"]):
            id = list(cases)[n % len(cases)] if cases else None
            match move:
                case "open":
                    id, position = received(ward)
                    cases[id], last = "RECEIVED", int(position)
                case "accept" if id is not None and cases[id] == "RECEIVED":
                    last, cases[id] = accept(ward, id), "INVESTIGATING"
                case "change" if id is not None and cases[id] == "INVESTIGATING":
                    last = int(gather(ward, id))
                case "take" if at["all"] < last:
                    hear(one)
                case "leave":
                    client.__exit__(None, None, None)
                    client = websocket(address, agent.token)
                    one = client.__enter__()
                    subscribe(one)
                case _:
                    pass
        # the last move began a case, which these are told of when they have been told all before it
        while min(at["all"], at["received"], at["both"]) < last:
            hear(one)
        # what ends on one list and begins on another tells the rest
        last = accept(ward, id := next(id for id, stage in reversed(cases.items()) if stage == "RECEIVED"))
        cases[id] = "INVESTIGATING"
        while min(at["all"], at["received"], at["both"], at["investigating"]) < last:
            hear(one)
    finally:
        client.__exit__(None, None, None)
    stages = {str(id): stage for id, stage in cases.items()}
    assert kept["all"] == kept["both"] == stages
    for name in ("received", "investigating"):
        assert kept[name] == {id: stage for id, stage in stages.items() if stage == name.upper()}
    assert kept["closed"] == kept["overdue"] == {}


commands = st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=12)
"""How many events each appends to a case, whether it meets the filter then, and whether somebody looks."""


@given(commands, st.integers(0, 12), st.integers(1, 5))
@example([(1, False, True), (1, True, False), (1, False, True)], 1, 1)
def test_nobody_who_may_have_a_case_on_the_list_is_left_with_it(
    happened: Sequence[tuple[int, bool, bool]], told: int, most: int
) -> None:
    """Whatever was looked at and whatever was forgotten; and whoever looked each time is told nothing for nothing."""
    absences = Absences()
    states: list[bool] = [False]  # before it began it was on no list
    positions, version, position, every = [0], 0, 0, True
    for events, met, looked in happened:
        before, version, position = version, version + events, position + events
        states.append(met)
        positions.append(position)
        every = every and looked
        if not looked:
            continue
        if met:
            absences.forget(CASE)
            continue
        since = absences.seen(CASE, position, version, before)
        for after, place in enumerate(positions[:-1]):
            had = any(states[after:])
            assert since > place or not had, "it may be on the list"
            if every:
                assert since <= place or had, "it is not on the list"
        if told % 3 == 0:
            absences.seen(uuid4(), position + 1, 1, 0)
            absences.keep(most)
            every = False
            assert len(absences) <= most


def test_what_a_message_says_does_not_depend_on_which_there_are() -> None:
    def shown(query: str) -> frozenset[str]:
        document = parse(query)
        (operation,) = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        return shown_variables(document, operation)

    assert shown("subscription ($a: A, $b: B) { x(a: $a) { y(b: $b) } }") == {"b"}
    assert shown("subscription ($a: A) { x(a: $a) { y(b: {c: [$a]}) } }") == {"a"}
    assert shown("subscription ($a: A, $b: B) { x(a: $a) @skip(if: $b) { y } }") == {"b"}
    assert shown("subscription ($a: A, $b: B) { x(a: $a) { ...F } } fragment F on X { y @skip(if: $b) }") == {"b"}
    assert shown("subscription ($a: A) { ...F } fragment F on Subscription { x(a: $a) { y } }") == {"a"}
    assert shown("subscription ($a: A) { ... { x(a: $a) { y } } }") == {"a"}


def test_messages_shared_between_filters_are_as_each_asked_for_them(address: str, office: Office) -> None:
    """Equal messages are answered once, unless a variable makes their text another."""
    query = (
        "subscription ($filter: ComplaintFilter, $more: Boolean!) { complaintsChanged(filter: $filter)"
        " { position changes { complaint { stage complaintId @include(if: $more) } } } }"
    )
    begin = office.casebook.head()
    with websocket(address, office[Role.CS_AGENT].token) as client:
        for n, name in enumerate(("plain", "more", "plain too")):
            filter = {"receivedFrom": f"2020-01-0{n + 1}T00:00:00Z"}
            client.subscribe(
                query.replace("(filter: $filter)", f"(filter: $filter, after: {begin})"), name,
                filter=filter, more=name == "more",
            )  # fmt: skip
        id, position = received(office)
        said = {one["id"]: one["payload"]["data"]["complaintsChanged"] for one in [client.hear() for _ in range(3)]}
        plain = {"position": position, "changes": [{"complaint": {"stage": "RECEIVED"}}]}
        more = {"position": position, "changes": [{"complaint": {"stage": "RECEIVED", "complaintId": str(id)}}]}
        assert said == {"plain": plain, "plain too": plain, "more": more}
