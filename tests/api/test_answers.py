"""Answers that are kept: exact, of nobody else, of no moment, without personal data, in bounded memory; and 304."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from msgspec import structs

from api.access.roles import Principal
from api.app import create_app
from api.edge.answers import OVERHEAD, SHARE, Answers, Question, has
from api.edge.asked import Asked
from api.plan.lasting import lasting
from domain.credential import Scope
from domain.kernel import Role
from domain.store.casebook import House
from projections.complaint import COMPLAINTS
from projections.parked import retry
from projections.personal import personal_columns
from projections.rebuild import rebuild
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, open_office, running
from tests.api.statements import Sent, watched
from tests.conftest import MASTER_KEY, Database

NUMBERS = "query Numbers($n: Int = 5) { complaints(first: $n) { edges { cursor node { complaintId stage } } } }"
CLOCKS = "{ complaintClocks { totalCount edges { node { complaintId dueAt } } } }"
LASTING = {"Cache-Control": "private, no-cache"}


def asked(desk: Desk, query: str = NUMBERS, variables: Any = None, method: str = "POST", **more: str) -> httpx.Response:
    """One question, with these headers (`_` for `-`)."""
    headers = {"Authorization": f"Bearer {desk.token}", **{n.replace("_", "-"): v for n, v in more.items()}}
    if method == "GET":
        return desk.edge.send("GET", "/graphql", params={"query": query}, headers=headers)
    return desk.edge.send("POST", "/graphql", json={"query": query, "variables": variables or {}}, headers=headers)


def tables(seen: list[Sent]) -> int:
    """How many statements read a view."""
    return sum('FROM "' in one.text for one in seen)


def kept(edge: Edge) -> Answers:
    return edge.app.state.answers


@pytest.fixture
def desk(office: Office) -> Desk:
    """Somebody who may see cases, where there are two."""
    agent = office[Role.CS_AGENT]
    for _ in range(2):
        agent.done("complaintReceive", **intake())
    office.follow()
    return office[Role.CS_DIRECTOR]


def test_a_question_asked_again_reads_no_view(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    first = asked(desk)
    assert tables(seen) == 1
    seen.clear()
    again = asked(desk)
    assert tables(seen) == 0
    assert any("FROM tracking" in one.text for one in seen)
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == first.headers["cache-control"] == "private, no-cache"
    assert again.headers["content-type"] == first.headers["content-type"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "query", ["{ complaints { edges { node { stage } } } }", CLOCKS, "{ complaints { totalCount } }"]
)
def test_whoever_has_the_answer_is_told_so_until_a_view_moves(
    office: Office, desk: Desk, method: str, query: str
) -> None:
    first = asked(desk, query, method=method)
    tag = first.headers["etag"]
    has_it = {"If_None_Match": f'"other", W/{tag}'}
    told = asked(desk, query, method=method, **has_it)
    assert (told.status_code, told.content, told.headers["etag"]) == (304, b"", tag)
    assert told.headers["cache-control"] == "private, no-cache"
    assert told.headers["x-correlation-id"]

    office[Role.CS_AGENT].done("complaintReceive", **intake())
    assert asked(desk, query, method=method, **has_it).status_code == 304, "no view has read it yet"
    office.follow()
    moved = asked(desk, query, method=method, **has_it)
    assert moved.status_code == 200
    assert moved.headers["etag"] != tag
    assert moved.json() != first.json()


def test_one_case_is_kept_like_a_list(office: Office, desk: Desk) -> None:
    case = office[Role.CS_AGENT].done("complaintReceive", **intake())
    office.follow()
    query = "query ($id: UUID!) { complaint(id: $id) { stage version clocks { edges { node { dueAt } } } } }"
    first = asked(desk, query, {"id": case["complaintId"]})
    assert asked(desk, query, {"id": case["complaintId"]}, If_None_Match=first.headers["etag"]).status_code == 304
    other = asked(desk, query, {"id": str(UUID(int=1))}, If_None_Match=first.headers["etag"])
    assert other.json()["errors"][0]["extensions"]["code"] == "complaint.unknown"
    assert other.headers["cache-control"] == "no-store"


def test_a_case_folded_again_makes_answers_new(office: Office, desk: Desk, shared_database: Database) -> None:
    """Its position does not move; what was kept is as it was kept until then, which shows that it was."""
    query = "{ complaints { edges { node { complaintId source } } } }"
    first = asked(desk, query)
    case = first.json()["data"]["complaints"]["edges"][0]["node"]["complaintId"]
    with psycopg.connect(shared_database.owner, autocommit=True) as owner:
        owner.execute("UPDATE anjuan.complaint_case SET source = 'nobody' WHERE complaint_id = %s", (case,))
    assert asked(desk, query).content == first.content
    assert retry(office.casebook.house, COMPLAINTS, office.code, UUID(case))
    again = asked(desk, query, If_None_Match=first.headers["etag"])
    assert again.status_code == 200
    assert again.headers["etag"] != first.headers["etag"]
    assert again.json()["data"] == first.json()["data"]


def test_a_rebuilt_view_makes_answers_new(database: Database) -> None:
    with House(database.app, MASTER_KEY) as house, running(create_app(SETTINGS, house)) as edge:
        office = open_office(edge, house.casebook("REB"))
        office[Role.CS_AGENT].done("complaintReceive", **intake())
        office.follow()
        desk = office[Role.CS_DIRECTOR]
        first = asked(desk)
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute("UPDATE anjuan.complaint_case SET stage = 'closed'")
        assert asked(desk).content == first.content
        assert rebuild(house, COMPLAINTS, owner=database.owner).switched
        again = asked(desk, If_None_Match=first.headers["etag"])
        assert (again.status_code, again.json()) == (200, first.json())
        assert again.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    "query",
    [
        "{ complaints { edges { node { overdue } } } }",
        "{ complaints { edges { node { clocks { edges { node { overdue } } } } } } }",
        "{ complaints(filter: {overdueOnly: true}) { totalCount } }",
        "{ complaintClocks(overdueOnly: true) { totalCount } }",
        "{ complaints { totalCount } complaintClocks(overdueOnly: true) { totalCount } }",
    ],
)
def test_what_is_of_the_moment_is_not_kept(database: Database, query: str) -> None:
    now = datetime.now(UTC)
    with House(database.app, MASTER_KEY) as house, running(create_app(SETTINGS, house, clock=lambda: now)) as edge:
        office = open_office(edge, house.casebook("NOW"))
        office[Role.CS_AGENT].done("complaintReceive", **intake())
        office.follow()
        said: list[Any] = []
        for days in (0, 0, 100):
            now += timedelta(days=days)
            answer = asked(office[Role.CS_DIRECTOR], query, If_None_Match="*")
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
            said.append(answer.json()["data"])
        assert said[0] == said[1] != said[2]
        assert len(kept(edge)) == 0


def _personal() -> list[str]:
    return sorted(personal_columns(COMPLAINTS.row))


@pytest.mark.parametrize("role", [Role.CS_DIRECTOR, Role.CASHIER])
@pytest.mark.parametrize("column", _personal())
def test_what_is_personal_is_kept_nowhere_masked_or_not(office: Office, desk: Desk, column: str, role: Role) -> None:
    """test-list 37: no copy outlives the key of its subject, and each answer that shows it is made and logged anew."""
    before = len(kept(desk.edge))
    for query in (
        f"{{ complaints {{ edges {{ node {{ stage {column} }} }} }} }}",
        f"{{ a: complaints {{ edges {{ node {{ ...F }} }} }} }} fragment F on Complaint {{ stage b: {column} }}",
        f"{{ complaintClocks {{ totalCount }} c: complaints {{ edges {{ node {{ {column} }} }} }} }}",
    ):
        for _ in range(2):
            answer = asked(office[role], query, If_None_Match="*")
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
            assert "etag" not in answer.headers
            assert answer.json()["data"]
    assert len(kept(desk.edge)) == before


def test_a_statement_that_names_what_passes_does_not_last() -> None:
    assert lasting(b'SELECT t0."stage" FROM "complaint_case" AS t0 WHERE institution = $1 LIMIT $20')
    assert not lasting(b"SELECT to_char($2, 'HH24')")
    for column in _personal():
        for written in (b'SELECT t0."%b"', b"SELECT mask(t0.%b, 4)", b"WHERE strpos(%b, $3) > 0"):
            assert not lasting(written % column.encode())


def test_an_answer_is_kept_for_these_posts_and_this_institution_alone(
    office: Office, elsewhere: Office, desk: Desk
) -> None:
    tag = asked(desk).headers["etag"]
    elsewhere[Role.CS_DIRECTOR].command("complaintReceive", **intake())
    elsewhere.follow()
    for other in (office[Role.DEAN], elsewhere[Role.CS_DIRECTOR]):
        answer = asked(other, If_None_Match=tag)
        assert answer.status_code == 200
        assert answer.headers["etag"] != tag
    refused = asked(office[Role.ADMIN], If_None_Match=tag)
    assert refused.json()["errors"][0]["extensions"]["code"] == "access.role"
    assert refused.headers["cache-control"] == "no-store"


def test_all_that_decides_what_is_shown_is_in_the_key_and_nothing_else() -> None:
    """Two people with the same posts and scopes at one institution share answers; anything else keeps them apart."""
    li = Principal("BJ", uuid4(), frozenset({Role.DEAN}), frozenset(Scope), "one")

    def key(asked: Asked, who: Principal, media_type: str = "application/json") -> bytes:
        return Question(asked, who, media_type).key

    asked = Asked(query="query A { me { roles } }", variables={"a": 1, "b": {"c": [1, 2]}})
    others = [
        key(asked, replace(li, institution="CD")),
        key(asked, replace(li, roles=frozenset({Role.DEAN, Role.AUDITOR}))),
        key(asked, replace(li, roles=frozenset({Role.AUDITOR}))),
        key(asked, replace(li, scopes=frozenset({Scope.DECIDE}))),
        key(asked, li, "application/graphql-response+json"),
        key(structs.replace(asked, query="query A { me { roles } } "), li),
        key(structs.replace(asked, operation_name="A"), li),
        key(structs.replace(asked, variables=None), li),
        key(structs.replace(asked, variables={"a": "1", "b": {"c": [1, 2]}}), li),
        key(structs.replace(asked, variables={"a": 1, "b": {"c": [2, 1]}}), li),
        key(structs.replace(asked, variables={"a": 1.0, "b": {"c": [1, 2]}}), li),
        key(structs.replace(asked, variables={"a": True, "b": {"c": [1, 2]}}), li),
    ]
    assert len({key(asked, li), *others}) == len(others) + 1
    wang = replace(li, staff_id=uuid4(), token_id="two")
    assert key(asked, wang) == key(asked, li)
    assert key(structs.replace(asked, variables={"b": {"c": [1, 2]}, "a": 1}, extensions={"x": 1}), li) == key(
        asked, li
    )


def test_what_differs_in_the_question_is_another_answer(desk: Desk) -> None:
    questions: list[tuple[str, Any]] = [
        (NUMBERS, {}),
        (NUMBERS, {"n": 1}),
        (NUMBERS, {"n": 2}),
        (NUMBERS + " ", {}),
        (NUMBERS.replace("stage", "channel"), {}),
    ]
    tags = [asked(desk, query, variables).headers["etag"] for query, variables in questions]
    assert len(set(tags)) == len(questions)
    modern = asked(desk, Accept="application/graphql-response+json")
    assert modern.headers["etag"] not in tags
    assert modern.headers["content-type"].startswith("application/graphql-response+json")


def test_operations_of_one_document_are_kept_apart(desk: Desk) -> None:
    document = "query A { complaints { totalCount } } query B { complaintClocks { totalCount } }"
    answers = [
        desk.edge.send(
            "POST",
            "/graphql",
            json={"query": document, "operationName": name},
            headers={"Authorization": f"Bearer {desk.token}"},
        )
        for name in ("A", "B", "A")
    ]
    assert [list(a.json()["data"]) for a in answers] == [["complaints"], ["complaintClocks"], ["complaints"]]


def test_what_was_refused_is_not_kept(desk: Desk) -> None:
    before = len(kept(desk.edge))
    for query in (
        "{ complaints(first: 0) { totalCount } }",
        '{ complaints(after: "bm8") { totalCount } }',
        "{ nobody }",
    ):
        for _ in range(2):
            answer = asked(desk, query, If_None_Match="*")
            assert answer.json()["errors"]
            assert answer.headers["cache-control"] == "no-store"
    assert len(kept(desk.edge)) == before


def test_a_tag_holds_for_one_coding(desk: Desk) -> None:
    """RFC 9110, 8.8.3.3: representations that differ in their coding have tags of their own."""
    query = "{ complaints { edges { node { " + " ".join(f"a{n}: complaintId" for n in range(30)) + " } } } }"
    plain = asked(desk, query, Accept_Encoding="identity")
    packed = asked(desk, query, Accept_Encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    tags = plain.headers["etag"], packed.headers["etag"]
    assert tags[0] != tags[1]
    for coding, own, other in (("identity", 0, 1), ("gzip", 1, 0)):
        assert asked(desk, query, Accept_Encoding=coding, If_None_Match=tags[own]).status_code == 304
        assert asked(desk, query, Accept_Encoding=coding, If_None_Match=tags[other]).status_code == 200
    for answer in (plain, packed, asked(desk, query, If_None_Match=tags[1], Accept_Encoding="gzip")):
        assert "Accept-Encoding" in answer.headers["vary"]


def test_memory_is_bounded_and_the_oldest_goes(house: House, casebook: Any) -> None:
    most = 40_000
    small = SETTINGS.model_copy(update={"answers_bytes": most, "cost_per_minute": 10**9})
    with running(create_app(small, house)) as edge:
        office = open_office(edge, casebook)
        agent = office[Role.CS_AGENT]
        for _ in range(12):
            agent.done("complaintReceive", **intake())
        office.follow()
        desk, answers = office[Role.CS_DIRECTOR], kept(edge)
        for n in range(1, 101):
            asked(desk, NUMBERS, {"n": n}, Accept_Encoding="gzip" if n % 2 else "identity")
            assert answers.bytes <= most
            assert answers.bytes == sum(one.size for one in answers._kept.values())
        assert most // 2 < answers.bytes
        assert len(answers) < most // OVERHEAD
        large = "{ complaints { edges { node { " + " ".join(f"a{n}: complaintId" for n in range(30)) + " } } } }"
        held = len(answers)
        first = asked(desk, large)
        assert len(first.content) * SHARE > most
        assert len(answers) == held, "what is too large is not kept"
        assert asked(desk, large, If_None_Match=first.headers["etag"]).status_code == 304, "but known by its tag"


def test_nothing_is_kept_where_nothing_may_be(house: House, casebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(create_app(SETTINGS.model_copy(update={"answers_bytes": 0}), house)) as edge:
        office = open_office(edge, casebook)
        seen = watched(monkeypatch)
        for _ in range(2):
            answer = asked(office[Role.CS_DIRECTOR])
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
        assert tables(seen) == 2
        assert not any("FROM tracking" in one.text for one in seen)


def test_how_views_stand_is_not_asked_for_a_document_whose_answers_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    for _ in range(10):
        asked(desk, "{ complaints { edges { node { overdue stage } } } }")
    assert sum("FROM tracking" in one.text for one in seen) == 1


@pytest.mark.parametrize(
    ("said", "holds"),
    [(None, False), ("", False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ("a", False),
     ('"b"', False), ('"a-gzip"', False), ('"A"', False)],
)  # fmt: skip
def test_tags_are_compared_as_the_standard_says(said: str | None, holds: bool) -> None:
    assert has(said, "a") is holds


def test_what_is_kept_is_measured(desk: Desk, office: Office) -> None:
    asked(desk)
    page = desk.edge.send("GET", "/metrics", headers={"Authorization": f"Bearer {office[Role.AUDITOR].token}"}).text
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(values['anjuan_cache_entries{cache="answers"}']) == len(kept(desk.edge)) > 0
    assert float(values["anjuan_answers_bytes"]) == kept(desk.edge).bytes > 0
