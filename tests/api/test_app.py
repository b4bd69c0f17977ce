"""The HTTP edge: what it takes, what it turns away and how, and that faults of ours leave no trace outside."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import structlog

from api.app import create_app
from api.plan import wire
from api.settings import Environment
from domain.kernel import Role
from domain.store.casebook import House
from projections.page import Pager
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, open_office, running
from tests.conftest import MASTER_KEY, Database

ME = "{ me { roles } }"


def raw(desk: Desk, method: str = "POST", **parts: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    """One request with the desk's token: status, body, headers."""
    headers = {"Authorization": f"Bearer {desk.token}", **parts.pop("headers", {})}
    answer = desk.edge.send(method, "/graphql", headers=headers, **parts)
    return answer.status_code, answer.json() if answer.content else {}, dict(answer.headers)


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.AUDITOR]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "code", "parts"),
    [
        (400, "request.body", {"content": b"{", "headers": JSON}),
        (400, "request.body", {"content": b"\xff\xfe", "headers": JSON}),
        (400, "request.body", {"content": b"", "headers": JSON}),
        (400, "request.body", {"content": b"[]", "headers": JSON}),
        (400, "request.body", {"json": [{"query": ME}, {"query": ME}]}),
        (400, "request.body", {"json": {}}),
        (400, "request.body", {"json": {"query": 1}}),
        (400, "request.body", {"json": {"query": ME, "variables": "x"}}),
        (400, "request.body", {"content": b'{"query": "\\ud800"}', "headers": JSON}),
        (415, "request.content_type", {"content": json.dumps({"query": ME}).encode()}),
        (415, "request.content_type", {"data": {"query": ME}}),
        (415, "request.content_type", {"content": ME.encode(), "headers": {"Content-Type": "application/graphql"}}),
    ],
)
def test_what_is_no_request_is_turned_away_as_json(desk: Desk, status: int, code: str, parts: dict[str, Any]) -> None:
    found, said, headers = raw(desk, **parts)
    assert (found, said["errors"][0]["extensions"]["code"]) == (status, code)
    assert headers["content-type"].startswith("application/json")


def test_a_text_of_ten_megabytes_is_turned_away_before_it_is_read(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    head = office.casebook.head()
    query = "mutation ($s: String!) { complaintReceive(statement: $s) { __typename } }"
    body = {"query": query, "variables": {"s": "长" * 3_500_000}}
    status, said, _ = raw(agent, json=body)
    assert status == 413
    assert said["errors"][0]["extensions"]["code"] == "request.too_large"
    assert "1048576" in said["errors"][0]["message"]
    assert office.casebook.head() == head


def test_questions_may_be_asked_by_get_and_commands_may_not(desk: Desk) -> None:
    params = {"query": "query A($n: Int) { complaints(first: $n) { totalCount } } query B { me { roles } }"}
    status, said, headers = raw(desk, "GET", params={**params, "operationName": "A", "variables": '{"n": 3}'})
    assert (status, said) == (200, {"data": {"complaints": {"totalCount": "0"}}})
    assert headers["cache-control"] == "no-store"
    mutation = f'mutation {{ complaintApprovePlan(commandId: "{uuid4()}", id: "{uuid4()}") {{ __typename }} }}'
    status, said, headers = raw(desk, "GET", params={"query": mutation})
    assert (status, headers["allow"]) == (405, "POST")
    assert raw(desk, "GET", params={**params, "variables": "{"})[0] == 400
    assert raw(desk, "GET")[0] == 400
    assert raw(desk, params=params, json={"query": params["query"], "operationName": "C"})[0] in (200, 400)
    assert raw(desk, "PUT")[0] == 405


def test_a_request_that_never_ran_has_no_data(desk: Desk) -> None:
    modern = {"Accept": "application/graphql-response+json"}
    for query in ("{ me {", "{ nobody }", "query ($n: Int!) { complaints(first: $n) { totalCount } }"):
        status, said, headers = raw(desk, json={"query": query}, headers=modern)
        assert status == 400
        assert "data" not in said
        assert headers["content-type"].startswith("application/graphql-response+json")
        assert raw(desk, json={"query": query})[0] == 200
    assert raw(desk, json={"query": ME}, headers=modern)[0] == 200


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("{ " + " ".join(f"a{n}: me {{ roles }}" for n in range(31)) + " }", "aliases"),
        ("{ " + " ".join("me { roles }" for _ in range(11)) + " }", "questions"),
        ("{ ...F } fragment F on Query { " + " ".join("me { roles }" for _ in range(11)) + " }", "questions"),
        ("{ " + "me { roles } " * 700 + "}", "tokens"),
        ("{ a " * 20 + "{ b }" + " }" * 20, "depth"),
        ("{ ...F } fragment F on Query { ...F }", "itself"),
    ],
)
def test_a_document_has_limits(desk: Desk, query: str, says: str) -> None:
    _, said, _ = raw(desk, json={"query": query})
    assert "data" not in said
    assert any(says in error["message"].lower() for error in said["errors"]), said


def test_a_fault_of_ours_is_masked_and_logged_without_what_was_written(
    office: Office, road: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that fails is left to the resolvers, who say what is wrong: it is logged and masked once."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("王女士 SELECT secret FROM event")

    auditor = office.by(road)[Role.AUDITOR]
    monkeypatch.setattr(Pager, "page", broken)
    monkeypatch.setattr(wire, "ask", broken)
    with structlog.testing.capture_logs() as logged:
        _, said, headers = raw(auditor, json={"query": "{ complaints { totalCount } }"})
    (error,) = said["errors"]
    assert error["extensions"] == {"code": "internal", "correlation": headers["x-correlation-id"]}
    assert headers["x-correlation-id"] in error["message"]
    assert "secret" not in json.dumps(said)
    (fault,) = [line for line in logged if line["event"] == "fault"]
    assert fault["error"] == "RuntimeError"
    assert fault["correlation"] == headers["x-correlation-id"]
    assert any("test_app.py" in where for where in fault["where"])
    assert "王女士" not in json.dumps(fault, default=str, ensure_ascii=False)


def test_every_command_says_one_line_without_what_was_written(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    with structlog.testing.capture_logs() as logged:
        agent.done("complaintReceive", **intake(complainant="李四", statement="秘密"))
        agent.refused("complaintReceive", **intake(complainant="李四", statement=" "))
    assert [line["event"] for line in logged] == ["done", "refused"]
    assert logged[0]["command"] == "complaintReceive"
    assert logged[0]["position"] == office.casebook.head()
    assert logged[1]["code"] == "text.empty"
    assert "李四" not in json.dumps(logged, default=str, ensure_ascii=False)
    assert "秘密" not in json.dumps(logged, default=str, ensure_ascii=False)


def test_ready_is_said_of_the_database_the_schema_and_the_views(edge: Edge, office: Office) -> None:
    office.follow()
    answer = edge.send("GET", "/readyz")
    said = answer.json()
    assert (answer.status_code, said["ready"]) == (200, True)
    assert set(said["views"]) == set(VIEWS)
    assert office.code not in answer.text, "health is open to everybody and names nobody"


def test_what_the_database_cannot_do_is_said_clearly(database: Database) -> None:
    """The schema is older, a statement takes too long, the database is gone: never an unexplained 500."""
    with House(database.app, MASTER_KEY, pool_timeout=0.5) as house:
        brief = SETTINGS.model_copy(update={"statement_seconds": 0.2})
        with running(create_app(brief, house)) as edge:
            office = open_office(edge, house.casebook("LATE"))
            auditor, agent = office[Role.AUDITOR], office[Role.CS_AGENT]
            with psycopg.connect(database.owner) as owner:
                owner.execute("LOCK TABLE anjuan.complaint_case IN ACCESS EXCLUSIVE MODE")
                late = auditor.error("{ complaints { totalCount } }")
            assert late["code"] == "request.timeout"
            assert late["sentenceZh"]

            with psycopg.connect(database.owner, autocommit=True) as owner:
                taken = owner.execute("DELETE FROM anjuan.schema_migration WHERE version = 6 RETURNING *").fetchone()
            assert taken is not None
            answer = edge.send("GET", "/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)

            assert agent.ask(ME)["me"]["roles"] == ["CS_AGENT"]
            new = office[Role.DEAN].token
            held = [house.pool.getconn() for _ in range(10)]
            try:
                busy = agent.refused("complaintReceive", **intake())
                answer = edge.send("POST", "/graphql", json={"query": ME}, headers={"Authorization": f"Bearer {new}"})
            finally:
                for connection in held:
                    house.pool.putconn(connection)
            assert busy["code"] == "store.busy"
            assert answer.status_code == 503
            assert answer.json()["errors"][0]["extensions"]["code"] == "store.away"
            assert agent.done("complaintReceive", **intake())["version"] == "1"


def test_the_page_to_try_queries_on_is_for_development_only(edge: Edge, house: House) -> None:
    wants = {"Accept": "text/html"}
    assert edge.send("GET", "/graphql", headers=wants).status_code == 401
    with running(create_app(SETTINGS.model_copy(update={"environment": Environment.DEVELOPMENT}), house)) as other:
        assert other.send("GET", "/graphql", headers=wants).text.startswith("<!doctype html>")
        assert other.send("GET", "/graphql", params={"query": ME}, headers=wants).status_code == 401
