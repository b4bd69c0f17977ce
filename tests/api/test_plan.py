"""The planner answers what the resolvers answer, byte for byte, and declines what it does not know."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission, PermissionExtension

from api.access.mask import sees
from api.access.proof import STATEMENT
from api.access.roles import CASE_READERS, QUERIES
from api.access.token import issue_token
from api.app import create_app
from api.complaint import Complaint
from api.demo import demo
from api.demo.group import HOSPITALS
from api.identity import of_view
from api.node import NODES_OF_VIEWS, chooses
from api.plan import wire
from api.plan.fields import CHOSEN, QUESTIONS
from api.plan.planner import PLANS_KEPT, Planner
from api.plan.road import SETTING
from api.plan.wire import Statement
from api.schema import build
from domain.kernel import Role
from domain.staff import STAFF, enrol
from domain.store.casebook import House
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.glass import GLASSES
from projections.history import HISTORY
from projections.personal import personal_columns
from projections.runner import catch_up
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Edge, running, stamp
from tests.api.documents import Known, Written
from tests.api.statements import watched
from tests.conftest import MASTER_KEY, Database, Server

# graphql-core (pyutils/gather_with_cancel.py) cancels the tasks of the fields beside one that failed; a task that had
# not begun never awaits the resolver it was given, and Python says so when it collects that one, in whichever test
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <coroutine object GraphQLCoreConverter.from_resolver.<locals>._async_resolver"
    ":pytest.PytestUnraisableExceptionWarning"
)
NOW = datetime(2026, 5, 20, 3, 4, 5, 678901, tzinfo=UTC)
"""In the midst of the demonstration, so that some deadlines have passed."""
WIDE = {
    "answers_bytes": 0,
    "cost_per_minute": 10**12,
    "cost_max": 10**9,
    "aliases_max": 1000,
    "selections_max": 5000,
    "tokens_max": 20000,
}
DOCUMENTS = 540
ROLES = (Role.CS_DIRECTOR, Role.AUDITOR, Role.GM_OFFICE, Role.DEAN, Role.CASHIER)
"""Between them, every set of personal columns that somebody sees, and both who may and may not ask for the history."""
VIEWS_OF_A_CASE = ((COMPLAINTS, "complaint_id"), (CLOCKS, "complaint_id"), (HISTORY, "stream_id"))
ODD = 'A"\\/\b\f\n\r\t\x01\x1f\x7f\x80\u2028投诉\uffff😀𐀀'


@dataclass
class Roads:
    """The same application with the planner and without, on the same database at the same moment."""

    planned: Edge
    resolved: Edge
    tokens: dict[tuple[str, Role], str]
    house: House
    owner: str
    log: psycopg.Connection[Any]

    @property
    def planner(self) -> Planner:
        return self.planned.app.state.planner

    def both(
        self, query: str, variables: dict[str, Any] | None = None, *, of: str = "BJ", role: Role = ROLES[0]
    ) -> Any:
        """The answer, equal on both roads."""
        answers = [_settled(*self.send(e, query, variables, of, role)) for e in (self.planned, self.resolved)]
        assert self.logged(answers[0][3]) == self.logged(answers[1][3]), f"the log of reads, of {query} by {role}"
        if answers[0][:3] != answers[1][:3]:
            one, two = (answer[2] for answer in answers)
            place = next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
            near = slice(max(0, place - 80), place + 80)
            pytest.fail(f"planned:\n{one[near]}\nresolved:\n{two[near]}\nof {query} with {variables}")
        return json.loads(answers[0][2])

    def logged(self, correlation: str) -> set[tuple[str, str, UUID]]:
        """Whose data one request showed unmasked: view, field, subject."""
        found = self.log.execute(
            "SELECT view, field, subject FROM read_log, unnest(fields) AS field, unnest(subjects) AS subject"
            " WHERE correlation = %s",
            (correlation,),
        )
        return set(found.fetchall())

    def send(self, edge: Edge, query: str, variables: Any, of: str, role: Role) -> tuple[int, str, bytes, str]:
        answer = edge.send(
            "POST",
            "/graphql",
            json={"query": query, "variables": variables or {}},
            headers={"Authorization": f"Bearer {self.tokens[of, role]}"},
        )
        headers = answer.headers
        return answer.status_code, headers["content-type"], answer.content, headers["x-correlation-id"]

    def is_planned(self, query: str, variables: dict[str, Any] | None = None, **who: Any) -> bool:
        """Whether a plan answers it; equal on both roads in any case."""
        before = self.planner.tally.planned
        self.both(query, variables, **who)
        return self.planner.tally.planned > before


def _settled(status: int, kind: str, body: bytes, correlation: str) -> tuple[int, str, bytes, str]:
    """An answer whose errors, if there are several, are in the order of the document.

    Resolvers run at once, and say what went wrong in the order in which it did; GraphQL gives that order no meaning.
    """
    said = json.loads(body)
    if len(said.get("errors", ())) > 1:
        said["errors"].sort(key=_place)
        body = json.dumps(said, ensure_ascii=False).encode()
    return status, kind, body, correlation


def _place(error: dict[str, Any]) -> list[list[int]]:
    return [[place["line"], place["column"]] for place in error.get("locations", ())]


@dataclass(frozen=True)
class Enrolled:
    """Somebody the demonstration lacks."""

    institution: str
    id: UUID
    roles: frozenset[Role]


def _enrolled(house: House, role: Role) -> Any:
    said, id = stamp(), uuid4()
    house.casebook("BJ").act(
        STAFF,
        id,
        lambda known: enrol(known, said, id=id, name="某人", number=str(id)[:8], roles=[role], department="客服部"),
        command_id=said.command_id,
    )
    return Enrolled("BJ", id, frozenset({role}))


@pytest.fixture(scope="module")
def roads(server: Server, template: Database) -> Generator[Roads]:
    database = server.create(template)
    with House(database.app, MASTER_KEY) as house:
        hospitals = tuple(h for h in HOSPITALS if h.code != "SH")
        staff = demo(house, hospitals=hospitals).staff
        for hospital in hospitals:
            catch_up(house, VIEWS.values(), hospital.code)
        for role in Role:
            if not any(person.institution == "BJ" and role in person.roles for person in staff):
                staff = (*staff, _enrolled(house, role))
        tokens = {
            (person.institution, role): issue_token(house, person.institution, person.id, "test", timedelta(days=1))
            for person in staff
            for role in person.roles
        }
        with psycopg.connect(database.owner, autocommit=True) as connection:
            connection.execute(
                "UPDATE complaint_case SET number = %s || number, statement = %s,"
                " departments = departments || %s::text[]"
                " WHERE institution = 'BJ' AND get_byte(uuid_send(complaint_id), 0) %% 5 = 0",
                (ODD, ODD, [ODD, ""]),
            )
        on = SETTINGS.model_copy(update={**WIDE, "plan": True})
        off = SETTINGS.model_copy(update={**WIDE, "plan": False})
        with (
            running(create_app(on, house, clock=lambda: NOW)) as planned,
            running(create_app(off, house, clock=lambda: NOW)) as resolved,
            psycopg.connect(database.owner, autocommit=True) as log,
        ):
            yield Roads(planned, resolved, tokens, house, database.owner, log)
    server.drop(database)


@pytest.fixture(scope="module")
def known(roads: Roads, ids: list[str]) -> Known:
    """Names of what there is, by the resolvers."""
    cursors: dict[str, list[str]] = {}

    def ask(query: str) -> list[Any]:
        said = json.loads(roads.send(roads.resolved, query, None, "BJ", Role.GM_OFFICE)[2])
        (page,) = said["data"].values()
        return page["edges"]

    for order in ("RECEIVED", "DUE", "NUMBER"):
        for down in ("True", "False"):
            query = (
                f"{{ complaints(first: 100, orderBy: {order}, descending: {down.lower()}) {{ edges {{ cursor }} }} }}"
            )
            cursors[f"{order} {down}"] = [edge["cursor"] for edge in ask(query)]
    for down in ("True", "False"):
        edges = ask(f"{{ history(first: 100, descending: {down.lower()}) {{ edges {{ cursor }} }} }}")
        cursors[f"history {down}"] = [edge["cursor"] for edge in edges]
    cursors["complaintClocks"] = [edge["cursor"] for edge in ask("{ complaintClocks { edges { cursor } } }")]
    cases = ask(
        "{ complaints(first: 60) { edges { node { complaintId number owner"
        " clocks { edges { cursor } } history { edges { cursor } } } } } }"
    )
    for name in ("clocks", "history"):
        cursors[name] = [edge["cursor"] for case in cases for edge in case["node"][name]["edges"]]
    return Known(
        cursors=cursors,
        cases=[case["node"]["complaintId"] for case in cases],
        numbers=[case["node"]["number"] for case in cases],
        people=[case["node"]["owner"] for case in cases],
        ids=ids,
    )


def _classes() -> list[list[Role]]:
    """Posts by all a plan or a resolver can tell of them: what they may ask, and which personal columns they see."""
    found: dict[Any, list[Role]] = {}
    for role in Role:
        asks = [role in QUERIES[name] for name in (*QUESTIONS, "node", "nodes")]
        masks = [
            sees(frozenset({role}), view.name, name) for view in VIEWS.values() for name in personal_columns(view.row)
        ]
        found.setdefault((*asks, *masks), []).append(role)
    return [*found.values()]


def test_posts_of_one_class_send_the_same_statements(
    roads: Roads, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = build(SETTINGS)._schema
    seen, compared = watched(monkeypatch), 0
    for seed in range(30):
        written = Written(schema, Random(seed), known)
        document = written.document()
        for several in _classes():
            sent: list[list[tuple[str, str]]] = []
            for role in several:
                seen.clear()
                roads.send(roads.planned, document, written.variables, "BJ", role)
                sent.append([(one.text, one.values) for one in seen if "institution = $1" in one.text])
            assert all(each == sent[0] for each in sent), document
            compared += len(sent[0])
    assert compared > 100


def _same_view(document: str, role: Role) -> tuple[bool, bool | None]:
    """What of a post matters for an answer to a document without personal columns."""
    lines = "history" in document.lower() or "node" in document
    return role in QUERIES["complaints"], role in QUERIES["history"] if lines else None


@pytest.mark.timeout(900)  # a minute of computing; a busy machine has less to give
def test_planned_and_resolved_answers_are_the_same_bytes(roads: Roads, known: Known) -> None:
    """Every document, for every class of posts: those of one class may ask the same and see the same columns.

    Proven of each of the documents and each class: what its plan answers, in turn to each of its posts, equals byte for
    byte what the resolvers answer, and the log of reads is the same. The resolvers are asked once for all classes that
    may ask the same of a document, which names no personal column (those are `test_attacks_masks.py`'s), and for each
    document again by another post, in turn all of them. All of it goes the whole way of a request but the network.
    """
    schema = build(SETTINGS)._schema
    tally, everybody = roads.planner.tally, list(Role)
    before, failed, answered, planned = tally.planned, tally.failed, 0, Counter[Role]()
    for seed in range(DOCUMENTS):
        written = Written(schema, Random(seed), known)
        document = written.document()
        roads.both(document, written.variables, role=everybody[seed % len(everybody)])
        resolved: dict[Any, tuple[int, str, bytes, str]] = {}
        for several in _classes():
            role = several[seed % len(several)]
            view = _same_view(document, role)
            if view not in resolved:
                resolved[view] = _settled(*roads.send(roads.resolved, document, written.variables, "BJ", role))
            mine = tally.planned
            said = _settled(*roads.send(roads.planned, document, written.variables, "BJ", role))
            assert said[:3] == resolved[view][:3], f"{document} with {written.variables} by {role}"
            assert roads.logged(said[3]) == roads.logged(resolved[view][3])
            planned[role] += tally.planned > mine
            answered += b'"errors"' not in said[2]
    assert tally.failed == failed
    # what is answered and not planned: an argument that would be refused in rows that are not there
    assert tally.planned - before >= answered * 0.98
    for several in _classes():
        if set(several) <= CASE_READERS:
            assert sum(planned[role] for role in several) > DOCUMENTS / 2


PLANNED = "{ complaints(first: 3) { edges { cursor node { number overdue } } } }"
DECLINED = (
    "{ me { roles } }",
    "{ me { roles } complaints(first: 1) { totalCount } }",
    "{ institution { code } }",
    "{ complaintPolicy { values { key } } }",
    "{ __schema { queryType { name } } }",
    '{ complaints(first: 1) { totalCount } __type(name: "Complaint") { name } }',
    "{ complaints(first: 0) { totalCount } }",
    "{ complaints(first: 1, last: 1) { totalCount } }",
    '{ complaints(after: "bm8") { totalCount } }',
    "{ complaint { number } }",
    '{ node(id: "none") { id } }',
    '{ nodes(ids: ["none"]) { id } }',
    "{ complaints(first: 1) { edges { node { history(first: 0) { totalCount } } } } }",
    "{ complaints(first: 1) { nothing } }",
    "query ($first: Int!) { complaints(first: $first) { totalCount } }",
    "query ($on: Boolean!) { complaints(first: 1) { totalCount @include(if: $on) } }",
)


def test_what_is_known_is_planned(roads: Roads) -> None:
    assert roads.is_planned(PLANNED)
    assert roads.is_planned("{ __typename complaintClocks(overdueOnly: true) { totalCount } }")


@pytest.mark.parametrize("fragment", ["... on Node { id }", "...N", "... { id }", "... on Complaint { id }"])
def test_a_fragment_on_an_interface_is_planned(roads: Roads, fragment: str) -> None:
    spread = " fragment N on Node { id __typename }" if fragment == "...N" else ""
    query = "{ complaints(first: 2) { edges { node { number " + fragment + " } } } }" + spread
    assert roads.is_planned(query)
    for edge in roads.both(query)["data"]["complaints"]["edges"]:
        assert edge["node"].keys() >= {"number", "id"}


@pytest.mark.parametrize("query", DECLINED)
def test_what_is_not_known_is_resolved(roads: Roads, query: str) -> None:
    assert not roads.is_planned(query)


def test_a_case_there_is_none_of_is_said_to_be_none_at_once(roads: Roads) -> None:
    """Each in its place, and what is asked beside it is answered."""
    query = (
        '{ a: complaint(number: "none") { number } complaints(first: 1) { totalCount }'
        ' b: complaint(id: "00000000-0000-4000-8000-000000000000") { number } }'
    )
    said = roads.both(query)
    assert roads.is_planned(query)
    assert said["data"].keys() == {"a", "b", "complaints"}
    assert (said["data"]["a"], said["data"]["b"]) == (None, None)
    assert [(error["path"], error["extensions"]["field"]) for error in said["errors"]] == [
        (["a"], "number"),
        (["b"], "id"),
    ]


NODES = """query ($ids: [ID!]!, $id: ID!) {
  node(id: $id) { ...Shown }
  nodes(ids: $ids) { __typename ... on Node { again: id } ...Shown }
}
fragment Shown on Node {
  id
  ... on Complaint { number complainant overdue history(first: 2) { totalCount edges { cursor node { topic } } } }
  ... on ComplaintClock { kind overdue complaint { number phone } }
  ... on HistoryLine { topic changes { field } complaint { statement } }
}"""


@pytest.fixture(scope="module")
def ids(roads: Roads) -> list[str]:
    """Cases, clocks and lines, in no order, one twice, and one that there is none of; lines of other streams too."""
    found: list[str] = []
    for page in ("complaints(first: 4)", "complaintClocks(first: 4)", "history(first: 30)"):
        query = f"{{ {page} {{ edges {{ node {{ id }} }} }} }}"
        said = json.loads(roads.send(roads.resolved, query, None, "BJ", Role.GM_OFFICE)[2])
        (edges,) = (page["edges"] for page in said["data"].values())
        found += [edge["node"]["id"] for edge in edges]
    nobody = of_view(COMPLAINTS).write((uuid4(),))
    return Random(1).sample([*found, found[0], nobody], len(found) + 2)


@pytest.mark.parametrize("role", [Role.GM_OFFICE, Role.CASHIER, Role.CS_DIRECTOR])
def test_nodes_are_planned_in_the_order_asked_for(
    roads: Roads, ids: list[str], role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement for each view; who may not ask for the history has the lines of cases and no others."""
    assert roads.is_planned(NODES, {"ids": ids, "id": ids[0]}, role=role)
    nodes = roads.both(NODES, {"ids": ids, "id": ids[0]}, role=role)["data"]["nodes"]
    assert [node["id"] for node in nodes if node] == [id for id, node in zip(ids, nodes, strict=True) if node]
    hidden = len(ids) - sum(node is not None for node in nodes)
    assert hidden == 1 if role == Role.GM_OFFICE else hidden > 1
    for chosen in (ids, ids[:1], []):
        assert roads.is_planned(
            "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", {"ids": chosen}, role=role
        )
    seen = watched(monkeypatch)
    roads.send(roads.planned, NODES, {"ids": ids, "id": ids[0]}, "BJ", role)
    trips = [sent.trip for sent in seen if ") IN (SELECT " in sent.text]
    assert (len(trips), len(set(trips))) == (4, 1)


def test_a_node_is_declined_only_for_what_is_asked_of_its_kind(roads: Roads, ids: list[str]) -> None:
    """A field the planner does not know, of a kind no id is of, is nobody's trouble."""
    query = "query ($id: ID!) { node(id: $id) { id ... on BrokenGlass { open } ... on Me { number } } }"
    assert roads.is_planned(query, {"id": ids[0]})
    me = roads.both("{ me { id } }")["data"]["me"]["id"]
    assert not roads.is_planned(query, {"id": me})
    assert not roads.is_planned(query, {"id": of_view(GLASSES).write((uuid4(), uuid4()))}, role=Role.AUDITOR)
    was = of_view(COMPLAINTS, dated=True).write((uuid4(),), {"version": 1})
    assert not roads.is_planned(query, {"id": was})
    assert not roads.is_planned("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids[:1] * 101})


def test_a_node_nobody_may_ask_for_is_refused_alike(roads: Roads, ids: list[str]) -> None:
    said = roads.both("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids[:2]}, role=Role.ADMIN)
    assert said["data"] == {"nodes": [None, None]}
    assert {error["extensions"]["code"] for error in said["errors"]} == {"access.role"}
    linked = "query ($id: ID!) { node(id: $id) { ... on HistoryLine { complaint { number } } } }"
    for id in ids:
        roads.both(linked, {"id": id}, role=Role.CASHIER)


def test_a_node_of_another_institution_is_none(roads: Roads, ids: list[str]) -> None:
    said = roads.both("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids}, of="CD", role=Role.GM_OFFICE)
    assert said == {"data": {"nodes": [None] * len(ids)}}


def test_whoever_sees_not_all_of_a_view_is_known_to_the_planner() -> None:
    assert {view.name for view in NODES_OF_VIEWS.values() if chooses(view)} == CHOSEN.keys()


def test_a_case_as_it_was_is_resolved(roads: Roads, known: Known) -> None:
    query = "query ($id: UUID!, $at: BigInt!) { complaintAsOf(id: $id, asOf: {version: $at}) { stage overdue } }"
    assert not roads.is_planned(query, {"id": known.cases[0], "at": 1})


def test_who_may_not_ask_is_refused_by_the_resolver(roads: Roads) -> None:
    assert roads.is_planned(PLANNED)
    assert not roads.is_planned(PLANNED, role=Role.ADMIN)
    assert roads.both(PLANNED, role=Role.ADMIN)["errors"][0]["extensions"]["code"] == "access.role"
    assert not roads.is_planned("{ history { totalCount } }", role=Role.CASHIER)
    assert roads.is_planned("{ history { totalCount } }", role=Role.AUDITOR)


class Nobody(BasePermission):
    """Lets nobody see."""

    message = "nobody sees this"

    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        return False


class Stars(FieldExtension):
    """Hides what a field says."""

    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        return "***" if next_(source, info, **kwargs) else None


@pytest.mark.parametrize("of", ["a permission", "an extension"])
def test_a_guarded_field_is_resolved(roads: Roads, of: str) -> None:
    """A column whose field is given a permission or an extension is never read around it."""
    field: Any = next(f for f in vars(Complaint)["__strawberry_definition__"].fields if f.python_name == "source")
    query = f"{{ complaints(first: 3) {{ edges {{ node {{ source }} }} }} }} # {of}"
    assert roads.is_planned(query)
    if of == "a permission":
        # as `strawberry.field(permission_classes=[Nobody])` does
        field.permission_classes.append(Nobody)
        field.extensions.append(PermissionExtension([Nobody()]))
    else:
        field.extensions.append(Stars())
    try:
        settings = SETTINGS.model_copy(update={"plan": True})
        with running(create_app(settings, roads.house, clock=lambda: NOW)) as edge:
            said = json.loads(roads.send(edge, query, None, "BJ", Role.CS_DIRECTOR)[2])
            tally = edge.app.state.planner.tally
    finally:
        # a permission adds a directive
        for several in (field.permission_classes, field.extensions, field.directives):
            several.clear()
    assert (tally.planned, tally.declined, tally.failed) == (0, 1, 0)
    if of == "a permission":
        assert "nobody sees this" in json.dumps(said)
    else:
        assert {edge["node"]["source"] for edge in said["data"]["complaints"]["edges"]} <= {"***", None}


def test_one_institution_never_sees_another(roads: Roads, known: Known) -> None:
    """The institution is the principal's in every statement, within pages too: one plan serves both institutions."""
    of_both = {
        code: roads.both(
            "{ complaints(first: 40) { edges { cursor node { institution complaintId"
            " history { totalCount edges { node { institution streamId } } }"
            " clocks { totalCount edges { node { institution complaintId } } } } } } }",
            of=code,
        )["data"]["complaints"]["edges"]
        for code in ("BJ", "CD")
    }
    for code, edges in of_both.items():
        assert edges
        for edge in edges:
            case = edge["node"]
            below = [one["node"] for name in ("history", "clocks") for one in case[name]["edges"]]
            assert {case["institution"], *(one["institution"] for one in below)} == {code}
    for id in known.cases[:5]:
        said = roads.both("query ($id: UUID!) { complaint(id: $id) { number } }", {"id": id}, of="CD")
        assert said["errors"][0]["extensions"]["code"] == "complaint.unknown"


def test_rows_of_another_institution_under_the_same_ids_stay_apart(roads: Roads, known: Known) -> None:
    """Even a stream of the same id elsewhere, its lines, clocks and counts, is not seen (test-list 35)."""
    id = known.cases[0]
    query = (
        "query ($id: UUID!) { complaint(id: $id) { institution"
        " history { totalCount pageInfo { endCursor } edges { node { institution } } }"
        " clocks { totalCount edges { node { institution } } } } }"
    )
    with psycopg.connect(roads.owner, autocommit=True) as connection:
        try:
            for view, column in VIEWS_OF_A_CASE:
                names = ", ".join(f'"{c.name}"' for c in view.columns if c.name != "institution")
                connection.execute(
                    f"INSERT INTO {view.name} (institution, {names}) SELECT 'CD', {names} FROM {view.name}"  # pyright: ignore[reportArgumentType]
                    f" WHERE institution = 'BJ' AND {column} = %s",
                    (id,),
                )
            for code in ("BJ", "CD"):
                assert roads.is_planned(query, {"id": id}, of=code)
                case = roads.both(query, {"id": id}, of=code)["data"]["complaint"]
                assert case["institution"] == code
                for name in ("history", "clocks"):
                    assert str(len(case[name]["edges"])) == case[name]["totalCount"]
                    assert {one["node"]["institution"] for one in case[name]["edges"]} == {code}
        finally:
            for view, column in VIEWS_OF_A_CASE:
                connection.execute(f"DELETE FROM {view.name} WHERE institution = 'CD' AND {column} = %s", (id,))  # pyright: ignore[reportArgumentType]


def test_every_table_of_a_statement_is_narrowed_to_the_institution(
    roads: Roads, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test-list 35: wherever a planned statement reads a table, it names the institution, which is the principal's."""
    seen: list[tuple[str, Sequence[bytes | None]]] = []
    sent = wire.ask

    async def watched(connection: Any, statements: Sequence[Statement]) -> Any:
        about = [one for one in statements if one.text == STATEMENT]
        setting, *questions = [one for one in statements if one not in about]
        assert (setting.text, setting.values) == (SETTING, [b"CD"])
        seen.extend((one.text.decode(), one.values) for one in questions if b"tracking" not in one.text)
        return await sent(connection, statements)

    monkeypatch.setattr(wire, "ask", watched)
    schema = build(SETTINGS)._schema
    for seed in range(150):
        written = Written(schema, Random(seed), known)
        roads.send(roads.planned, written.document(), written.variables, "CD", Role.GM_OFFICE)
    assert len(seen) > 100
    for text, values in seen:
        tables = sum(text.count(f'FROM "{view.name}" WHERE') for view in VIEWS.values())
        assert tables > 0
        assert text.count("FROM (SELECT FROM ") + text.count("SELECT * FROM ") == tables
        assert text.count("institution = $1") == tables
        assert values[0] == b"CD"


@pytest.mark.parametrize(
    "harm", ["'; DROP TABLE event; --", "' OR '1'='1", "$1", "%s", "%(x)s", "\\'; --", "{0}", "*/ ", "投诉\u0000"]
)
def test_sql_in_a_text_is_a_text(roads: Roads, harm: str) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps([["number", True], harm, harm]).encode()).decode().rstrip("=")
    for name, type_, by in (
        ("text", "String", "complaints(filter: {text: $v}) { totalCount edges { node { number } } }"),
        ("department", "String", "complaints(filter: {department: $v}) { totalCount }"),
        ("source", "String", "complaints(filter: {source: $v}) { totalCount }"),
        ("number", "String", "complaint(number: $v) { number }"),
        ("aggregate", "String", "history(aggregate: $v) { totalCount }"),
        ("cursor", "String", "complaints(orderBy: NUMBER, after: $v) { totalCount }"),
    ):
        value = cursor if name == "cursor" else harm
        said = roads.both(f"query ($v: {type_}) {{ {by} }}", {"v": value}, role=Role.GM_OFFICE)
        assert all(error["extensions"]["code"] != "internal" for error in said.get("errors", ()))
        if name in ("text", "department", "source", "aggregate") and "errors" not in said:
            (page,) = said["data"].values()
            assert page["totalCount"] == "0"
    assert roads.both(PLANNED)["data"]["complaints"]["edges"]
    assert roads.planner.tally.failed == 0


def test_plans_are_bounded(roads: Roads) -> None:
    """However many documents come, so many plans are kept, those last used."""
    for number in range(PLANS_KEPT + 20):
        roads.send(roads.planned, f"{{ k{number}: complaints(first: 1) {{ totalCount }} }}", None, "BJ", ROLES[0])
    assert len(roads.planner.plans) == PLANS_KEPT


def test_flags_and_posts_are_in_the_key_of_a_plan(roads: Roads) -> None:
    query = "query ($on: Boolean!) { complaints(first: 2) { edges { node { number stage @include(if: $on) } } } }"
    for on in (True, False, True):
        node = roads.both(query, {"on": on})["data"]["complaints"]["edges"][0]["node"]
        assert ("stage" in node) is on


def test_a_position_is_waited_for_and_refused_alike(roads: Roads) -> None:
    query = "query ($p: BigInt) { complaints(first: 1, consistentWith: $p) { totalCount } }"
    assert roads.is_planned(query, {"p": "1"})
    assert roads.both(query, {"p": "999999"})["errors"][0]["extensions"]["code"] == "view.no_such_position"
    single = 'query ($p: BigInt) { complaint(number: "x", consistentWith: $p) { number } }'
    assert roads.both(single, {"p": "999999"})["data"] == {"complaint": None}
    both = query.replace("{ complaints", "{ __typename complaints")
    assert roads.both(both, {"p": "999999"})["data"] is None


def test_without_the_setting_everything_is_resolved(roads: Roads) -> None:
    assert roads.resolved.app.state.planner is None
