"""Mistakes in a request: each with a stable code, where it is, and a sentence in both languages."""

from __future__ import annotations

from typing import Any

import pytest

from domain.kernel import Role
from tests.api.conftest import Desk, Edge, Office

ME = "{ me { roles } }"
FIRST = "query ($first: Int) { complaints(first: $first) { totalCount } }"
WHOLE = "query ($at: BigInt) { complaints(consistentWith: $at) { totalCount } }"
ID = "query ($id: UUID!) { complaint(id: $id) { stage } }"
FILTER = "query ($filter: ComplaintFilter) { complaints(filter: $filter) { totalCount } }"
CLOCKS = "query ($kinds: [ClockKind!]) { complaintClocks(kinds: $kinds) { totalCount } }"


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.CS_DIRECTOR]


def wrong(desk: Desk, query: str, variables: Any = None, **more: Any) -> tuple[int, list[dict[str, Any]]]:
    """The status and the errors of a request that must fail without data."""
    answer = desk.edge.send(
        "POST",
        "/graphql",
        json={"query": query, "variables": variables, **more},
        headers={"Authorization": f"Bearer {desk.token}"},
    )
    said = answer.json()
    assert said["errors"]
    assert "data" not in said
    for error in said["errors"]:
        assert any("一" <= c <= "鿿" for c in error["extensions"]["sentenceZh"])
    return answer.status_code, said["errors"]


@pytest.mark.parametrize(
    ("code", "query"),
    [
        ("document.syntax", "{ me {"),
        ("document.syntax", "query Q query"),
        ("document.syntax", "投诉"),
        ("document.invalid", "{ nobody }"),
        ("document.invalid", "{ me }"),
        ("document.invalid", "{ me { roles { x } } }"),
        ("document.invalid", "query ($a: Nobody) { me { roles } }"),
        ("document.invalid", "query ($a: Int) { me { roles } }"),
        ("document.invalid", "{ complaints(first: $n) { totalCount } }"),
        ("document.invalid", '{ complaints(first: "x") { totalCount } }'),
        ("document.invalid", "{ complaints(orderBy: NOBODY) { totalCount } }"),
        ("document.invalid", "query ($s: String) { complaints(first: $s) { totalCount } }"),
        ("document.invalid", 'query ($n: Int = "x") { complaints(first: $n) { totalCount } }'),
        ("document.invalid", "fragment F on Me { roles } { me { roles } }"),
        ("time.no_zone", '{ complaints(filter: {receivedFrom: "2026-01-01T00:00:00"}) { totalCount } }'),
        ("time.unreadable", '{ complaints(filter: {receivedFrom: "yesterday"}) { totalCount } }'),
    ],
)
def test_a_wrong_document_has_a_code_and_a_place(desk: Desk, code: str, query: str) -> None:
    status, errors = wrong(desk, query)
    assert status == 200
    assert errors[0]["extensions"]["code"] == code
    assert errors[0]["locations"]


@pytest.mark.parametrize(
    ("code", "field", "query", "variables"),
    [
        ("variable.invalid", "first", FIRST, {"first": "x"}),
        ("variable.invalid", "first", FIRST, {"first": 1.5}),
        ("variable.invalid", "first", FIRST, {"first": 2**31}),
        ("variable.invalid", "at", WHOLE, {"at": "x"}),
        ("variable.invalid", "at", WHOLE, {"at": 2**63}),
        ("variable.invalid", "id", ID, {}),
        ("variable.invalid", "id", ID, {"id": None}),
        ("variable.invalid", "id", ID, {"id": "x"}),
        ("variable.invalid", "filter", FILTER, {"filter": {"nothing": 1}}),
        ("variable.invalid", "filter", FILTER, {"filter": {"stages": ["NOBODY"]}}),
        ("variable.invalid", "kinds", CLOCKS, {"kinds": [None]}),
        ("time.no_zone", "filter", FILTER, {"filter": {"receivedFrom": "2026-01-01T00:00:00"}}),
        ("time.unreadable", "filter", FILTER, {"filter": {"receivedFrom": "yesterday"}}),
    ],
)
def test_a_wrong_variable_is_named(desk: Desk, code: str, field: str, query: str, variables: dict[str, Any]) -> None:
    status, (error,) = wrong(desk, query, variables)
    assert status == 200
    assert (error["extensions"]["code"], error["extensions"]["field"]) == (code, field)


def test_an_objects_id_sent_where_a_uuid_belongs_is_told_its_place(desk: Desk) -> None:
    _, (error,) = wrong(desk, ID, {"id": "Y29tcGxhaW50X2Nhc2UAO6OE9xViTdGoMd58q370Vw"})
    assert "for `node` alone" in error["message"]
    assert "`complaintId`" in error["message"]


def test_each_wrong_variable_is_named(desk: Desk) -> None:
    query = "query ($a: Int, $b: UUID) { complaints(first: $a) { totalCount } complaint(id: $b) { stage } }"
    _, errors = wrong(desk, query, {"a": "x", "b": "y"})
    assert {error["extensions"]["field"] for error in errors} == {"a", "b"}


def test_a_variable_deeper_than_can_be_read_is_a_mistake_in_a_variable(desk: Desk) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    _, (error,) = wrong(desk, CLOCKS, {"kinds": deep})
    assert error["extensions"]["code"] == "variable.invalid"


@pytest.mark.parametrize(
    ("field", "query", "variables"),
    [
        ("orderBy", "query ($by: CaseOrder = DUE) { complaints(orderBy: $by) { totalCount } }", {"by": None}),
        (
            "descending",
            "query ($down: Boolean = true) { complaints(descending: $down) { totalCount } }",
            {"down": None},
        ),
    ],
)
def test_null_by_a_variable_where_there_must_be_a_value_names_the_argument(
    office: Office, road: Edge, field: str, query: str, variables: dict[str, Any]
) -> None:
    """A variable with a default may stand where a value must be; only the one that is sent shows that it is none."""
    said = office.by(road)[Role.CS_DIRECTOR].post(query, **variables)
    (error,) = said["errors"]
    assert (error["extensions"]["code"], error["extensions"]["field"]) == ("argument.invalid", field)
    assert (error["path"], said["data"]) == (["complaints"], None)
    assert error["extensions"]["sentenceZh"]
    assert error["locations"]


TWO = "query A { me { roles } } query B { complaints { totalCount } }"


def test_of_several_operations_one_is_named(desk: Desk) -> None:
    """None is run otherwise, not even the first: the specification's GetOperation."""
    for name in (None, "", "C", "a"):
        status, (error,) = wrong(desk, TWO, operationName=name)
        assert (status, error["extensions"]["code"]) == (400, "request.operation")
    assert wrong(desk, ME, operationName="A")[0] == 400
    for query, name in ((TWO, "A"), (ME, None), (ME, ""), ("query A " + ME, None)):
        answer = desk.edge.send(
            "POST",
            "/graphql",
            json={"query": query, "operationName": name},
            headers={"Authorization": f"Bearer {desk.token}"},
        )
        assert answer.json() == {"data": {"me": {"roles": ["CS_DIRECTOR"]}}}


def test_of_a_question_and_a_command_none_is_done_unless_it_is_named(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    before = office.casebook.head()
    command = (
        'mutation M { complaintReceive(commandId: "0e8f6c1e-6a0c-4b7e-9b53-0d8f6a6a3f10", channel: LETTER,'
        ' receivedAt: "2026-01-01T00:00:00Z", complainant: "某", statement: "某事") { __typename } }'
    )
    for document in (f"{command} query Q {ME}", f"query Q {ME} {command}"):
        status, (error,) = wrong(agent, document)
        assert (status, error["extensions"]["code"]) == (400, "request.operation")
    assert office.casebook.head() == before
