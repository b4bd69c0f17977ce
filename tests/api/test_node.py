"""Nodes by global id: found again by it alone, by those who may ask for them, in one's own institution."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import GraphQLInterfaceType, GraphQLNamedType, GraphQLObjectType, OperationDefinitionNode, parse
from psycopg import AsyncConnection
from strawberry.schema.schema_converter import GraphQLCoreConverter

from api.access.roles import QUERIES
from api.cost import WEIGHTS, Cost, said
from api.identity import NODES_MAX, of_view
from api.node import NODES_OF_VIEWS
from api.schema import build
from domain.kernel import Role
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.history import HISTORY
from projections.runner import catch_up
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake

SCHEMA = build(SETTINGS)._schema
NODE = """
query ($id: ID!) { node(id: $id) {
  __typename id
  ... on Complaint { complaintId stage version overdue }
  ... on ComplaintClock { complaintId step interval outcome overdue }
  ... on HistoryLine { streamId version topic }
  ... on Institution { code }
  ... on Me { staffId }
} }
"""
NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
CASE = """
query ($id: UUID!) { complaint(id: $id) {
  __typename id complaintId stage version overdue
  clocks { edges { cursor node { __typename id complaintId step interval outcome overdue complaint { id number } } } }
  history { edges { cursor node { __typename id streamId version topic complaint { id number } } } }
} }
"""


def received(office: Office, times: int = 1) -> list[str]:
    """New cases in the views."""
    agent = office[Role.CS_AGENT]
    found = [agent.done("complaintReceive", **intake())["complaintId"] for _ in range(times)]
    office.follow()
    return found


def shown(case: dict[str, Any]) -> list[dict[str, Any]]:
    """A case and all its clocks and lines, each as `NODE` shows it."""
    within = [edge["node"] for name in ("clocks", "history") for edge in case.pop(name)["edges"]]
    assert {one.pop("complaint")["id"] for one in within} == {case["id"]}
    return [case, *within]


def test_every_object_is_found_again_by_its_id(office: Office) -> None:
    """test-list 42"""
    (case,) = received(office)
    director = office[Role.CS_DIRECTOR]
    director.done("complaintAccept", id=case, cause="因", course="过", demand="求")
    office.follow()
    said = shown(office[Role.AUDITOR].ask(CASE, id=case)["complaint"])
    said += list(director.ask("{ me { __typename id staffId } institution { __typename id code } }").values())
    assert {one["__typename"] for one in said} == {"Complaint", "ComplaintClock", "HistoryLine", "Me", "Institution"}
    assert len({one["id"] for one in said}) == len(said) > 6
    for one in said:
        again = director.ask(NODE, id=one["id"])["node"]
        assert {**again, "overdue": None} == {**one, "overdue": None} if "overdue" in one else again == one


def origin(type_: GraphQLNamedType) -> type[Any]:
    """The class a type of the schema is made from."""
    definition: Any = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    made_from = getattr(definition, "origin", None)
    return made_from if isinstance(made_from, type) else object


def test_what_can_be_found_again_says_so_in_the_schema() -> None:
    """Relay: the interface, and its two questions with the one argument each that the specification allows."""
    node = SCHEMA.type_map["Node"]
    assert isinstance(node, GraphQLInterfaceType)
    assert [(name, str(field.type)) for name, field in node.fields.items()] == [("id", "ID!")]
    assert {t.name for t in SCHEMA.get_possible_types(node)} == {*NODES_OF_VIEWS, "Me", "Institution"}
    of_views = tuple(view.row for view in VIEWS.values())
    rows = {t.name for t in SCHEMA.type_map.values() if issubclass(origin(t), of_views)}
    assert rows == set(NODES_OF_VIEWS), "whatever shows a view's rows is a node"
    query = SCHEMA.query_type
    assert query is not None
    said = {n: [(a, str(of.type)) for a, of in query.fields[n].args.items()] for n in ("node", "nodes")}
    assert said == {"node": [("id", "ID!")], "nodes": [("ids", "[ID!]!")]}
    assert [str(query.fields[n].type) for n in said] == ["Node", "[Node]!"]
    for type_ in SCHEMA.type_map.values():
        if isinstance(type_, GraphQLObjectType) and type_.name.endswith("Edge"):
            assert str(type_.fields["cursor"].type) == "String!"


def test_nodes_are_in_the_order_asked_for_and_null_where_there_is_none(office: Office) -> None:
    cases = received(office, 3)
    auditor = office[Role.AUDITOR]
    ids = [auditor.ask(CASE, id=case)["complaint"]["id"] for case in cases]
    nobody = of_view(COMPLAINTS).write((uuid4(),))
    line = of_view(HISTORY).write((UUID(cases[0]), 1))
    for asked in permutations([ids[0], nobody, line, ids[2]]):
        assert [n and n["id"] for n in auditor.ask(NODES, ids=asked)["nodes"]] == [
            id if id != nobody else None for id in asked
        ]
    assert [n["id"] for n in auditor.ask(NODES, ids=[ids[1], ids[1]])["nodes"]] == [ids[1], ids[1]]
    assert auditor.ask(NODES, ids=[])["nodes"] == []
    assert auditor.ask(NODE, id=nobody)["node"] is None


def test_many_nodes_are_loaded_by_one_statement_for_each_view(
    office: Office, resolving: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test-list 34. By the resolvers; what plans send is in `test_plan.py`."""
    cases = received(office, 6)
    auditor = office[Role.AUDITOR]
    ids: list[str] = []
    for case in cases:
        ids += [one["id"] for one in shown(auditor.ask(CASE, id=case)["complaint"])]
    asked: list[str] = []
    sent: Callable[..., Any] = AsyncConnection.execute

    async def watched(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string()
        asked.append(text)
        return await sent(self, query, params, **more)

    monkeypatch.setattr(AsyncConnection, "execute", watched)
    auditor = office.by(resolving)[Role.AUDITOR]
    linked = "... on ComplaintClock { complaint { number } } ... on HistoryLine { complaint { number } }"
    said = auditor.ask(f"query ($ids: [ID!]!) {{ nodes(ids: $ids) {{ id {linked} }} }}", ids=ids)
    assert [one["id"] for one in said["nodes"]] == ids
    read = [re.findall(r"FROM \"(\w+)\" WHERE institution = %", text) for text in asked]
    assert sorted(name for names in read for name in names) == [
        "complaint_case", "complaint_clock", "history",
    ], "the cases the others lead to are those asked for already"  # fmt: skip
    asked.clear()
    auditor.ask("query ($a: ID!, $b: ID!) { a: node(id: $a) { id } b: node(id: $b) { id } }", a=ids[0], b=ids[0])
    assert len([text for text in asked if 'FROM "complaint_case"' in text]) == 1


def test_a_node_as_it_was_is_found_as_it_was(office: Office) -> None:
    """Two states of a case are two objects to whoever keeps what they got by its id."""
    (case,) = received(office)
    agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
    between, head = datetime.now(UTC), office.casebook.head()
    director.done("complaintAccept", id=case, cause="因", course="过", demand="求")
    office.follow()
    (now,) = director.ask(CASE, id=case).values()
    for bound in (
        {"version": "1"},
        {"position": str(head)},
        {"occurredAt": between.isoformat()},
        {"recordedAt": between.isoformat()},
    ):
        query = CASE.replace(
            "($id: UUID!) { complaint(id: $id)", "($id: UUID!, $at: AsOf!) { was: complaintAsOf(id: $id, asOf: $at)"
        )
        (was,) = agent.ask(query, id=case, at=bound).values()
        assert was["stage"] == "RECEIVED" != now["stage"]
        lines = [edge["node"]["id"] for edge in was["history"]["edges"]]
        was["history"]["edges"] = []
        said = shown(was)
        assert len(said) > 1
        for one in said:
            assert agent.ask(NODE, id=one["id"])["node"] == one
        assert not {one["id"] for one in said} & {one["id"] for one in shown(json.loads(json.dumps(now)))}
        # a line of the history is what it is, whenever it is looked at
        assert lines == [edge["node"]["id"] for edge in now["history"]["edges"]][:1]
    earlier = of_view(COMPLAINTS, dated=True).write((UUID(case),), {"occurred_at": between - timedelta(days=9)})
    assert agent.ask(NODE, id=earlier)["node"] is None
    step = of_view(CLOCKS, dated=True).write((UUID(case), "form", 1), {"version": 0})
    assert agent.ask(NODE, id=step)["node"] is None


def test_a_decision_answers_the_case_under_the_id_it_has(office: Office) -> None:
    """So whoever holds the case has it anew; the answer to a command sent again is of then, and says so."""
    agent = office[Role.CS_AGENT]
    query = """mutation ($command: UUID!, $at: DateTime!) { complaintReceive(commandId: $command, receivedAt: $at,
        channel: LETTER, complainant: "某", statement: "某事") { ... on ComplaintDecided { complaint { id } } } }"""
    given = {"command": uuid4(), "at": intake()["receivedAt"]}
    new, again = (agent.ask(query, **given)["complaintReceive"]["complaint"] for _ in range(2))
    office.follow()
    assert agent.ask(NODE, id=new["id"])["node"]["id"] == new["id"]
    assert new["id"] != again["id"]
    assert agent.ask(NODE, id=again["id"])["node"]["version"] == "1"


# who may


def test_who_may_not_ask_for_cases_may_not_have_them_as_nodes(office: Office) -> None:
    (case,) = received(office)
    clock = of_view(CLOCKS).write((UUID(case), "form", 1))
    found = {
        "complaint": of_view(COMPLAINTS).write((UUID(case),)),
        "complaintClocks": clock,
        "complaintAsOf": of_view(COMPLAINTS, dated=True).write((UUID(case),), {"version": 1}),
        "history": of_view(HISTORY).write((UUID(case), 1)),
    }
    for role in Role:
        for question, id in found.items():
            cases = role in QUERIES["complaint"]
            if cases or role in QUERIES[question]:
                assert office[role].ask(NODE, id=id)["node"]["id"] == id
            else:
                there = office[role].error(NODE, id=id)
                assert there["code"] == "access.role"
                other = of_view(COMPLAINTS).write((uuid4(),)) if question == "complaint" else id
                assert office[role].error(NODE, id=other) == there, "the same whether there is one or not"


def test_a_line_of_another_kind_of_stream_is_for_those_who_see_the_whole_history(office: Office) -> None:
    guide, auditor = office[Role.GUIDE], office[Role.AUDITOR]
    office.follow()
    line = of_view(HISTORY).write((guide.id, 1))
    assert guide.ask(NODE, id=line)["node"] is None
    found = auditor.ask("query ($id: ID!) { node(id: $id) { ... on HistoryLine { topic complaint { id } } } }", id=line)
    assert found["node"] == {"topic": "staff.enrolled", "complaint": None}


def test_what_one_may_not_have_is_an_error_in_its_place_and_the_rest_is_answered(office: Office) -> None:
    (case,) = received(office)
    admin = office[Role.ADMIN]
    me = admin.ask("{ me { id } }")["me"]["id"]
    said = admin.post(NODES, ids=[me, of_view(COMPLAINTS).write((UUID(case),)), "nothing"])
    assert [n and n["id"] for n in said["data"]["nodes"]] == [me, None, None]
    assert [(e["path"], e["extensions"]["code"]) for e in said["errors"]] == [
        (["nodes", 1], "access.role"), (["nodes", 2], "node.id"),
    ]  # fmt: skip


def test_nodes_of_another_institution_are_as_unknown_as_any(office: Office, elsewhere: Office) -> None:
    """test-list 36: an id from elsewhere, as it was given there or made up, finds nothing of theirs."""
    (theirs,) = received(elsewhere)
    office.follow()
    stranger, auditor = elsewhere[Role.AUDITOR], office[Role.AUDITOR]
    ids = [one["id"] for one in shown(stranger.ask(CASE, id=theirs)["complaint"])]
    ids += [found["id"] for found in stranger.ask("{ me { id } institution { id } }").values()]
    ids.append(of_view(COMPLAINTS, dated=True).write((UUID(theirs),), {"version": 1}))
    assert all(stranger.ask(NODES, ids=ids)["nodes"])
    assert auditor.post(NODES, ids=ids) == {"data": {"nodes": [None] * len(ids)}}
    for id in ids:
        assert auditor.post(NODE, id=id) == {"data": {"node": None}}


def test_the_same_id_in_two_institutions_is_each_ones_own(office: Office, elsewhere: Office) -> None:
    """test-list 36"""
    case = uuid4()
    for where, text in ((office, "甲"), (elsewhere, "乙")):
        where[Role.CS_AGENT].done("complaintReceive", id=case, **intake(statement=text))
        where.follow()
    query = "query ($id: ID!) { node(id: $id) { ... on Complaint { statement } } }"
    id = of_view(COMPLAINTS).write((case,))
    assert office[Role.CS_AGENT].ask(query, id=id)["node"] == {"statement": "甲"}
    assert elsewhere[Role.CS_AGENT].ask(query, id=id)["node"] == {"statement": "乙"}


# how many, and at what price


def test_there_is_a_most_of_ids(office: Office) -> None:
    guide = office[Role.GUIDE]
    ids = [of_view(COMPLAINTS).write((uuid4(),)) for _ in range(NODES_MAX + 1)]
    assert guide.ask(NODES, ids=ids[1:])["nodes"] == [None] * NODES_MAX
    said = guide.error(NODES, ids=ids)
    assert (said["code"], said["field"]) == ("node.too_many", "ids")


def test_each_id_costs_and_what_was_costs_as_much_as_asking_so(office: Office) -> None:
    case = of_view(COMPLAINTS, dated=True).write((UUID(int=1),))
    was = of_view(COMPLAINTS, dated=True).write((UUID(int=1),), {"version": 1})
    page = "{ ... on Complaint { history(first: 10) { edges { cursor } } } }"

    def cost(query: str, **variables: Any) -> int:
        (operation,) = parse(query).definitions
        assert isinstance(operation, OperationDefinitionNode)
        return Cost(SCHEMA, {}, operation, {n: said(v) for n, v in variables.items()}).of_operation()

    one = cost("query ($id: ID!) { node(id: $id) { id } }", id=case)
    assert one == 1
    assert cost(f'{{ nodes(ids: ["{case}", "{was}"]) {{ id }} }}') == 1 + WEIGHTS["complaintAsOf"]
    assert cost(f'query ($ids: [ID!]! = ["{case}", "{case}"]) {{ nodes(ids: $ids) {{ id }} }}') == 2
    assert cost('query ($a: ID!) { nodes(ids: [$a, "x"]) { id } }', a=was) == 1 + WEIGHTS["complaintAsOf"]
    each = cost(f"query ($id: ID!) {{ node(id: $id) {page} }}", id=case)
    assert each > 10
    assert cost(f"query ($ids: [ID!]!) {{ nodes(ids: $ids) {page} }}", ids=[case] * 7) == 7 * each
    assert cost("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[case] * 10_000) == NODES_MAX
    assert cost("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }") == 1


# links


def test_a_clock_and_a_line_lead_to_their_case(office: Office) -> None:
    cases = received(office, 3)
    auditor = office[Role.AUDITOR]
    board = auditor.ask("{ complaintClocks { edges { node { complaintId complaint { complaintId } } } } }")
    found = [edge["node"] for edge in board["complaintClocks"]["edges"]]
    assert {node["complaintId"] for node in found} == set(cases)
    assert all(node["complaint"]["complaintId"] == node["complaintId"] for node in found)
    lines = auditor.ask("{ history { edges { node { streamId aggregate complaint { complaintId } } } } }")
    kinds: set[str] = set()
    for edge in lines["history"]["edges"]:
        line = edge["node"]
        kinds.add(line["aggregate"])
        case = {"complaintId": line["streamId"]} if line["aggregate"] == "complaint" else None
        assert line["complaint"] == case
    assert kinds == {"complaint", "staff", "institution"}


def test_a_link_leads_nowhere_until_the_other_view_shows_it(office: Office) -> None:
    office[Role.CS_AGENT].done("complaintReceive", **intake())
    catch_up(office.casebook.house, [CLOCKS, HISTORY], office.code)
    auditor: Desk = office[Role.AUDITOR]
    found = auditor.ask("{ complaintClocks { edges { node { complaint { id } } } } }")["complaintClocks"]["edges"]
    assert {edge["node"]["complaint"] for edge in found} == {None}
