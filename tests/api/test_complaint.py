"""Questions about cases: pages, filters, one's own writes, and at what price."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import Desk, Edge, Office, intake, open_office
from tests.api.statements import watched
from tests.rules import rule

BEGUN = datetime(2026, 3, 1, 8, tzinfo=UTC)
CATEGORIES = ("FEES", "MEDICAL", "SERVICE_ATTITUDE")


@dataclasses.dataclass
class Archive:
    """An institution with many cases, some received at the same moment, some accepted, and its auditor."""

    office: Office
    auditor: Desk
    cases: list[dict[str, Any]]


@pytest.fixture(scope="module")
def archive(edge: Edge, house: House) -> Archive:
    office = open_office(edge, house.casebook("YARCHIVE"))
    agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
    for n in range(31):
        at = BEGUN + timedelta(hours=n // 4)
        said = intake(receivedAt=at, category=CATEGORIES[n % 3], departments=["外科"] if n % 2 else [])
        case = agent.done("complaintReceive", occurredAt=at + timedelta(minutes=5), **said)["complaintId"]
        if n % 3 == 0:
            accepted = {"id": case, "cause": "因", "course": "过", "demand": "求"}
            director.done("complaintAccept", occurredAt=at + timedelta(minutes=n + 10), **accepted)
    office.follow()
    auditor = office[Role.AUDITOR]
    fields = "complaintId receivedAt nextDueAt number category stage departments"
    found = auditor.ask(f"{{ complaints(first: 100) {{ edges {{ node {{ {fields} }} }} }} }}")
    return Archive(office, auditor, [edge["node"] for edge in found["complaints"]["edges"]])


PAGE = """
query ($by: CaseOrder!, $down: Boolean!, $filter: ComplaintFilter,
       $first: Int, $after: String, $last: Int, $before: String) {
  complaints(orderBy: $by, descending: $down, filter: $filter,
             first: $first, after: $after, last: $last, before: $before) {
    totalCount
    edges { cursor node { complaintId } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
KEYS = {"RECEIVED": "receivedAt", "DUE": "nextDueAt", "NUMBER": "number"}


def oracle(archive: Archive, by: str, down: bool, categories: list[str] | None) -> list[str]:
    """The list as Python orders it."""
    chosen = [c for c in archive.cases if categories is None or c["category"] in categories]
    ordered = sorted(chosen, key=lambda c: (c[KEYS[by]] or "9", c["complaintId"]), reverse=down)
    return [c["complaintId"] for c in ordered]


def ids(page: dict[str, Any]) -> list[str]:
    return [edge["node"]["complaintId"] for edge in page["edges"]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    by=st.sampled_from(sorted(KEYS)),
    down=st.booleans(),
    size=st.integers(1, 40),
    backwards=st.booleans(),
    categories=st.none() | st.lists(st.sampled_from(CATEGORIES), min_size=1, unique=True),
)
def test_pages_joined_are_the_list_in_both_directions(
    archive: Archive, by: str, down: bool, size: int, backwards: bool, categories: list[str] | None
) -> None:
    """test-list 33, against an oracle that sorts a list."""
    expected = oracle(archive, by, down, categories)
    found: list[str] = []
    cursor = None
    while True:
        where = {"last": size, "before": cursor} if backwards else {"first": size, "after": cursor}
        page = archive.auditor.ask(PAGE, by=by, down=down, filter={"categories": categories}, **where)["complaints"]
        info = page["pageInfo"]
        assert len(page["edges"]) <= size
        assert page["totalCount"] == str(len(expected))
        found = ids(page) + found if backwards else found + ids(page)
        assert info["startCursor"] == (page["edges"][0]["cursor"] if page["edges"] else None)
        assert info["hasNextPage" if backwards else "hasPreviousPage"] == (cursor is not None)
        cursor = info["startCursor" if backwards else "endCursor"]
        if not info["hasPreviousPage" if backwards else "hasNextPage"]:
            break
    assert found == expected


def test_a_page_stays_where_it_is_while_cases_come(office: Office) -> None:
    """test-list 33"""
    agent, auditor = office[Role.CS_AGENT], office[Role.AUDITOR]

    def receive(hours: int) -> str:
        at = BEGUN + timedelta(hours=hours)
        return agent.done("complaintReceive", occurredAt=at, **intake(receivedAt=at))["complaintId"]

    old = [receive(hours) for hours in (2, 4, 6, 8)]
    office.follow()
    said = {"by": "RECEIVED", "down": False, "first": 2}
    first = auditor.ask(PAGE, **said)["complaints"]
    early, late = receive(1), receive(5)
    office.follow()
    second = auditor.ask(PAGE, **said, after=first["pageInfo"]["endCursor"])["complaints"]
    assert ids(first) + ids(second) == [old[0], old[1], late, old[2]]
    assert early not in ids(first) + ids(second)


def forged(*words: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%%%",
        "é",
        "A" * 5000,
        base64.b64encode(b"[[[[").decode(),
        base64.b64encode(b"[" * 4000).decode(),
        forged("received_at"),
        forged(["received_at", True]),
        forged(["received_at", True], "2026-01-01", None),
        forged(["received_at", True], "gestern", str(uuid4())),
        forged(["received_at", True], "2026-01-01T00:00:00+00:00", "'; DROP TABLE event; --"),
        forged(["received_at", True], "2026-01-01T00:00:00+00:00", str(uuid4()), "more"),
        forged(["received_at", False], "2026-01-01T00:00:00+00:00", str(uuid4())),
        forged(["number", True], "BJ20260101", str(uuid4())),
        forged({"received_at": True}),
        forged(["received_at", True], "\x00", str(uuid4())),
    ],
)
def test_a_cursor_nobody_gave_is_refused(archive: Archive, cursor: str) -> None:
    refused = archive.auditor.error(PAGE, by="RECEIVED", down=True, first=2, after=cursor)
    assert refused["code"] == "page.cursor"
    assert refused["field"] == "after"
    assert refused["sentenceZh"]


@pytest.mark.parametrize(
    ("where", "code", "field"),
    [
        ({"first": 0}, "page.size", "first"),
        ({"first": 101}, "page.size", "first"),
        ({"last": -1}, "page.size", "last"),
        ({"first": 1, "last": 1}, "page.both_ends", "last"),
    ],
)
def test_a_page_has_bounds(archive: Archive, where: dict[str, int], code: str, field: str) -> None:
    refused = archive.auditor.error(PAGE, by="RECEIVED", down=True, **where)
    assert (refused["code"], refused["field"]) == (code, field)


Chosen = Callable[[dict[str, Any]], bool]
FILTERS: list[tuple[dict[str, Any], Chosen]] = [
    ({"stages": ["INVESTIGATING"]}, lambda c: c["stage"] == "INVESTIGATING"),
    ({"stages": ["INVESTIGATING", "RECEIVED"], "categories": ["FEES"]}, lambda c: c["category"] == "FEES"),
    ({"department": "外科"}, lambda c: "外科" in c["departments"]),
    (
        {"receivedFrom": BEGUN, "receivedBefore": BEGUN + timedelta(hours=1)},
        lambda c: c["receivedAt"][11:13] == "08",
    ),
    ({"text": "yarchive202603"}, lambda c: c["number"] != ""),
    ({"closed": True}, lambda c: False),
    ({"overdueOnly": True}, lambda c: True),
    ({"owner": str(uuid4())}, lambda c: False),
    ({"severities": ["ORDINARY"], "channels": ["TELEPHONE"], "source": None}, lambda c: True),
]


@pytest.mark.parametrize(("filter", "chosen"), FILTERS)
def test_the_list_is_filtered(archive: Archive, filter: dict[str, Any], chosen: Chosen) -> None:
    page = archive.auditor.ask(PAGE, by="NUMBER", down=False, first=100, filter=filter)["complaints"]
    assert set(ids(page)) == {c["complaintId"] for c in archive.cases if chosen(c)}


def test_text_to_look_for_is_text(archive: Archive) -> None:
    assert archive.auditor.error(PAGE, by="DUE", down=True, filter={"text": "a\x00"})["code"] == "text.nul"
    assert archive.auditor.ask(PAGE, by="DUE", down=True, filter={"text": "%_\\"})["complaints"]["edges"] == []


@rule("CC-24", "CC-36")
def test_the_board_shows_what_is_due_first_and_how_late_it_is(archive: Archive) -> None:
    query = """{ complaintClocks(kinds: [STEP], overdueOnly: true, first: 100) { totalCount edges { node {
        complaintId step dueAt overdue responsible stoppedAt } } } }"""
    before = datetime.now(UTC)
    board = archive.auditor.ask(query)["complaintClocks"]
    after = datetime.now(UTC)
    shown = [edge["node"] for edge in board["edges"]]
    assert board["totalCount"] == "31", "one running step clock each, all long overdue"
    assert [s["dueAt"] for s in shown] == sorted(s["dueAt"] for s in shown)
    for clock in shown:
        due = datetime.fromisoformat(clock["dueAt"])
        assert int((before - due).total_seconds()) <= int(clock["overdue"]) <= int((after - due).total_seconds())


# one case


def test_a_case_is_found_by_its_number(archive: Archive) -> None:
    one = next(c for c in archive.cases if c["number"])
    query = "query ($n: String!) { complaint(number: $n) { complaintId } }"
    assert archive.auditor.ask(query, n=f" {one['number']} ")["complaint"]["complaintId"] == one["complaintId"]
    unknown = archive.auditor.error(query, n="YARCHIVE20260399")
    assert (unknown["code"], unknown["field"]) == ("complaint.unknown", "number")
    assert archive.auditor.error(query, n="")["code"] == "text.empty"
    assert archive.auditor.error(query, n="\x00")["code"] == "text.nul"
    assert archive.auditor.error("{ complaint { number } }")["code"] == "query.which"


OWN = "query ($id: UUID!, $p: BigInt) { complaint(id: $id, consistentWith: $p) { version position stage } }"


def test_ones_own_write_is_read_or_the_view_says_how_far_behind_it_is(office: Office) -> None:
    """test-list 31"""
    agent = office[Role.CS_AGENT]
    said = agent.done("complaintReceive", **intake())
    behind = agent.error(OWN, id=said["complaintId"], p=said["position"])
    assert (behind["code"], behind["field"]) == ("view.behind", "consistentWith")
    assert f"position {said['position']}" in behind["message"]
    assert agent.error(OWN, id=said["complaintId"])["code"] == "complaint.unknown", "not asked to wait: what is known"
    office.follow()
    for _ in range(3):
        assert agent.ask(OWN, id=said["complaintId"], p=said["position"])["complaint"]["version"] == said["version"]
    ahead = agent.error(OWN, id=said["complaintId"], p=str(int(said["position"]) + 1))
    assert ahead["code"] == "view.no_such_position"


def test_nested_pages_cost_the_same_number_of_statements_for_one_case_as_for_many(
    archive: Archive, road: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test-list 34, on both roads"""
    auditor = replace(archive.auditor, edge=road)
    query = """query ($n: Int!) { complaints(first: $n) { edges { node { number
        clocks(first: 3) { edges { node { step } } } more: clocks(first: 3) { edges { node { dueAt } } }
        history(first: 10) { edges { node { topic } } } } } } }"""
    seen = watched(monkeypatch)
    counts: list[int] = []
    for size in (1, 31):
        seen.clear()
        page = auditor.ask(query, n=size)["complaints"]["edges"]
        assert len(page) == size
        assert all(edge["node"]["clocks"]["edges"] and edge["node"]["history"]["edges"] for edge in page)
        counts.append(len([sent for sent in seen if "complaint_" in sent.text or "history" in sent.text]))
    planned = road.app.state.planner is not None
    assert counts == ([1, 1] if planned else [3, 3]), "one plan, or the list, the clocks, the history"


def test_counting_stops(archive: Archive, road: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.page.COUNT_MAX", 7)
    auditor = replace(archive.auditor, edge=road)
    # a document of its own: plans are compiled once
    assert auditor.ask("{ stops: complaints { totalCount } }")["stops"]["totalCount"] == "7"
