"""The attack list, against the real application on a real PostgreSQL.

After every attack: nothing internal in the answer, an answer within its time, and the next request is served as ever.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.access.token import issue_token, revoke_token
from api.app import create_app
from api.settings import Environment
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, open_office, running
from tests.conftest import MASTER_KEY, Database

ME = "{ me { roles } }"
INTERNALS = (
    "Traceback", ".py", "psycopg", "SELECT ", "INSERT ", "anjuan.", "relation ", "syntax error at", "strawberry",
    "asyncio", "coroutine", "<class", "object at 0x", "api_token", "RecursionError", "UniqueViolation", "internal",
)  # fmt: skip
SECONDS = 30.0
"""Far more than any answer takes; what hangs takes for ever."""

Answer = tuple[int, dict[str, Any], dict[str, str]]


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.CS_DIRECTOR]


@pytest.fixture(autouse=True)
def served_as_ever(desk: Desk) -> Generator[None]:
    """The next request is served normally, on the same connections."""
    yield
    assert desk.ask(ME)["me"]["roles"] == ["CS_DIRECTOR"]


def send(desk: Desk, method: str = "POST", **parts: Any) -> Answer:
    """One request with the desk's token; what it answers gives nothing away."""
    headers = {"Authorization": f"Bearer {desk.token}", **parts.pop("headers", {})}
    return seen(desk.edge.send(method, "/graphql", headers=headers, **parts))


def seen(answer: httpx.Response) -> Answer:
    assert not any(word in answer.text for word in INTERNALS), answer.text[:500]
    assert answer.status_code < 500, answer.text[:500]
    return answer.status_code, answer.json() if answer.content else {}, dict(answer.headers)


def attack(desk: Desk, query: str, **variables: Any) -> dict[str, Any]:
    """A document and its variables; the answer, in time."""
    before = time.perf_counter()
    _, said, _ = send(desk, json={"query": query, "variables": variables})
    assert time.perf_counter() - before < SECONDS
    return said


def code(said: dict[str, Any]) -> str | None:
    return said["errors"][0].get("extensions", {}).get("code")


# the schema


@pytest.mark.parametrize("role", [Role.CS_AGENT, Role.CS_DIRECTOR, Role.AUDITOR, Role.ADMIN])
def test_the_schema_and_its_names_are_shown_to_auditor_and_administrator_alone(office: Office, role: Role) -> None:
    who = office[role]
    shown = role in (Role.AUDITOR, Role.ADMIN)
    said = attack(who, "{ __schema { types { name } } }")
    assert ("data" in said) == shown
    assert shown or code(said) == "limit.introspection"
    for misspelt in ("{ complaint_s { totalCount } }", "{ complaints(firsst: 1) { totalCount } }", "{ me { rolez } }"):
        (error,) = attack(who, misspelt)["errors"][:1]
        assert ("Did you mean" in error["message"]) == shown
    said = attack(who, "query ($c: [Channel!]) { complaints(filter: {channels: $c}) { totalCount } }", c=["LETTRE"])
    assert ("Did you mean" in said["errors"][0]["message"]) == shown


def test_developers_see_the_schema(house: House, office: Office) -> None:
    with running(create_app(SETTINGS.model_copy(update={"environment": Environment.DEVELOPMENT}), house)) as edge:
        agent = Desk(edge, office[Role.CS_AGENT].token, office[Role.CS_AGENT].id)
        assert agent.ask("{ __schema { queryType { name } } }")["__schema"]["queryType"]["name"] == "Query"


# floods and bombs

FRAGMENTS = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
FLOODS = {
    "aliases": ("{ " + " ".join(f"a{n}: __typename" for n in range(100)) + " }", "limit.aliases"),
    "aliases deep down": (
        "{ complaints { edges { node { " + " ".join(f"a{n}: number" for n in range(100)) + " } } } }",
        "limit.aliases",
    ),
    "questions": ("{ me { name } " + "complaints { totalCount } " * 20 + "}", "limit.fields"),
    "one field": ("{ me { " + "name " * 900 + "} }", "limit.repeats"),
    "fields": ("{ me { " + " ".join(f"x{n}" for n in range(900)) + " } }", "limit.selections"),
    "directives": ("{ me " + "@include(if: true) " * 100 + "{ name } }", "limit.directives"),
    "unknown directives": ("{ me { name " + "@x " * 900 + "} }", "limit.directives"),
    "tokens": ("{ me { " + "name " * 5000 + "} }", "limit.tokens"),
    "variables declared": ("query (" + " ".join(f"$v{n}: Int" for n in range(600)) + ") " + ME, "limit.tokens"),
    "operations": (" ".join(f"query Q{n} {ME}" for n in range(400)), "limit.tokens"),
    "characters": ('{ complaint(number: "' + "长" * 300_000 + '") { number } }', "limit.document"),
    "depth": ("{ a " * 300 + "{ b }" + " }" * 300, "limit.depth"),
    "depth beyond parsing": ("{ a " * 600 + "{ b }" + " }" * 600, "limit.depth"),
    "depth by inline fragments": ("{ ... " * 600 + ME + " }" * 600, "limit.depth"),
    "lists within lists": ("{ complaints(filter: " + "[" * 900 + "]" * 900 + ") { totalCount } }", "limit.depth"),
    "fragment bomb": (
        "{ ...F0 } " + FRAGMENTS + " fragment F40 on Query { me { name } }",
        "limit.fields",
    ),
    "fragment bomb deep down": (
        "{ me { ...F0 } } "
        + FRAGMENTS.replace("on Query", "on Me")
        + " fragment F40 on Me { name number department roles institution }",
        "limit.repeats",
    ),
    "fragments": (ME + " ".join(f"fragment F{n} on Me {{ name }}" for n in range(100)), "limit.fragments"),
    "pages within pages": (
        "{ complaints(first: 100) { edges { node { history(first: 100) { edges { node { topic changes"
        " { field } } } } } } } }",
        "limit.cost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_refused_with_the_code_of_its_limit(desk: Desk, flood: str) -> None:
    query, limit = FLOODS[flood]
    said = attack(desk, query)
    assert "data" not in said
    assert code(said) == limit
    assert said["errors"][0]["extensions"]["sentenceZh"]
    assert len(said["errors"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "{ ...F } fragment F on Query { ...F }",
        "{ ...F } fragment F on Query { ...G } fragment G on Query { ...F me { name } }",
        "{ ...F } fragment F on Query { ... { ...G } } fragment G on Query { ...H } fragment H on Query { ...G }",
        "{ me { name } } fragment F on Query { ...F ...F ...F }",
        "{ ...Nowhere }",
        "query ($a: Int) { ...F @include(if: $b) }",
    ],
)
def test_fragments_that_lead_nowhere_or_back_are_refused(desk: Desk, query: str) -> None:
    said = attack(desk, query)
    assert "data" not in said
    assert said["errors"]


def test_introspection_that_goes_round_in_circles_is_refused_to_everybody(office: Office) -> None:
    query = "{ __schema { types { " + "fields { type { " * 6 + "name" + " } }" * 6 + " } } }"
    said = attack(office[Role.AUDITOR], query)
    assert "data" not in said


def test_pages_are_at_most_a_hundred_rows(desk: Desk) -> None:
    for size in (101, 10**9, 0, -1):
        assert code(attack(desk, "query ($n: Int) { complaints(first: $n) { totalCount } }", n=size)) == "page.size"
    for size in (10**10, 1.5, "1", True, [1, 2], {"a": 1}):
        assert "data" not in attack(desk, "query ($n: Int) { complaints(first: $n) { totalCount } }", n=size)
    for endless in ("9" * 6000, "-" + "9" * 6000, "9" * 6000 + ".5"):
        said = attack(desk, "{ complaints(first: " + endless + ") { totalCount } }")
        assert code(said) == "limit.document"


def test_who_asks_for_too_much_waits_and_nobody_else(house: House, office: Office) -> None:
    brief = SETTINGS.model_copy(update={"cost_per_minute": 60})
    with running(create_app(brief, house)) as edge:
        greedy, other = (Desk(edge, office[r].token, office[r].id) for r in (Role.DEAN, Role.CS_CHIEF))
        query = "{ complaints { edges { cursor } } }"
        greedy.ask(query)
        status, said, headers = send(greedy, json={"query": query})
        assert (status, code(said)) == (429, "limit.rate")
        assert 30 < int(headers["retry-after"]) <= 60
        assert said["errors"][0]["extensions"]["sentenceZh"]
        other.ask(query)


# bodies


@pytest.mark.parametrize("chunks", [1, 64])
def test_a_huge_body_is_read_no_further_than_the_limit(desk: Desk, chunks: int) -> None:
    body = json.dumps({"query": ME, "variables": {"x": "长" * 2_000_000}}, ensure_ascii=False).encode()
    read = 0

    async def stream() -> Any:
        nonlocal read
        for start in range(0, len(body), len(body) // chunks):
            read += len(body) // chunks
            yield body[start : start + len(body) // chunks]

    status, said, _ = send(desk, content=stream(), headers={"Content-Type": "application/json"})
    assert (status, code(said)) == (413, "request.too_large")


def test_huge_variables_are_turned_away_or_answered_in_time(desk: Desk) -> None:
    query = (
        "query ($d: String, $c: [Channel!], $o: UUID)"
        " { complaints(filter: {department: $d, channels: $c, owner: $o}) { totalCount } }"
    )
    for variables in (
        {"d": "x" * 900_000},
        {"c": ["LETTER"] * 50_000},
        {"c": ["x"] * 50_000},
        {"o": "x" * 900_000},
        {f"v{n}": n for n in range(50_000)},
        {"d": {"a": 1}},
    ):
        assert len(json.dumps(attack(desk, query, **variables))) < 20_000
    deep = "[" * 100_000 + "]" * 100_000
    for content in (f'{{"query": "{ME}", "variables": {{"d": {deep}}}}}', deep, '{"query": ' + "9" * 100_000 + "}"):
        status, said, _ = send(desk, content=content.encode(), headers={"Content-Type": "application/json"})
        assert (status, code(said)) == (400, "request.body")
    nested: Any = []
    for _ in range(300):
        nested = [nested]
    for query in ("query ($c: [Channel!]) { complaints(filter: {channels: $c}) { totalCount } }", ME):
        attack(desk, query, c=nested)


def test_batches_are_refused(desk: Desk) -> None:
    for batch in ([], [{"query": ME}], [{"query": ME}] * 1000):
        status, said, _ = send(desk, json=batch)
        assert (status, code(said)) == (400, "request.body")


# cross-site requests


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_another_site_can_send_without_asking_is_refused(desk: Desk, kind: str) -> None:
    """Simple requests, that is; and no browser may be told by us that others may ask."""
    body = json.dumps({"query": ME})
    for content in (
        body,
        urlencode({"query": ME}),
        f'--x\r\nContent-Disposition: form-data; name="query"\r\n\r\n{ME}\r\n--x--',
    ):
        headers = {"Origin": "https://evil.example"} | ({"Content-Type": kind} if kind else {})
        status, said, answered = send(desk, content=content.encode(), headers=headers)
        assert (status, code(said)) == (415, "request.content_type")
        assert not any(name.startswith("access-control") for name in answered)


def test_another_site_gets_no_leave_and_no_cookie_stands_for_a_token(desk: Desk, edge: Edge) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type"}  # fmt: skip
    answer = edge.send("OPTIONS", "/graphql", headers=asks)
    assert (answer.status_code, code(answer.json())) == (403, "request.origin")
    assert not any(name.startswith("access-control") for name in answer.headers)
    for method, parts in (("POST", {"json": {"query": ME}}), ("GET", {"params": {"query": ME}})):
        answer = edge.send(
            method, "/graphql", headers={"Cookie": f"token={desk.token}; Authorization={desk.token}"}, **parts
        )
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_a_command_is_never_done_by_get(office: Office) -> None:
    agent, head = office[Role.CS_AGENT], office.casebook.head()
    mutation = (
        f'mutation M {{ complaintReceive(commandId: "{uuid4()}", receivedAt: "2026-01-01T00:00:00Z", channel: LETTER,'
        ' complainant: "某", statement: "某事") { __typename } }'
    )
    for params in (
        {"query": mutation},
        {"query": mutation + f" query Q {ME}", "operationName": "M"},
        {"query": mutation, "_method": "POST"},
    ):
        assert send(agent, "GET", params=params, headers={"X-HTTP-Method-Override": "POST"})[0] == 405
    assert office.casebook.head() == head


# tokens


def test_a_token_that_was_replayed_after_its_end_opens_nothing(office: Office) -> None:
    house, guide = office.casebook.house, office[Role.GUIDE]
    guide.ask(ME)
    assert revoke_token(house, office.code, guide.token)
    brief = issue_token(house, office.code, guide.id, "brief", timedelta(microseconds=1))
    for _ in range(3):
        for token, ended in ((guide.token, "access.token_revoked"), (brief, "access.token_expired")):
            status, said, _ = send(guide, json={"query": ME}, headers={"Authorization": f"Bearer {token}"})
            assert (status, code(said)) == (401, ended)
            assert token not in json.dumps(said)


def _tokens() -> Iterator[bytes]:
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
    yield from (b"", b"Bearer", b"Bearer  ", b"Basic YTpi", b"Bearer null", b"Bearer anjuan_", b"anjuan_" + b"x" * 43)
    yield b"Bearer anjuan_" + b"x" * 50_000
    yield b"Bearer anjuan_' OR true --"
    yield b"Bearer anjuan_%00"
    yield b"Bearer \xff\xfe\xfd"
    yield "Bearer anjuan_令牌".encode()
    yield b"Bearer " + header + b"." + base64.urlsafe_b64encode(b'{"sub":"admin"}') + b"."


@pytest.mark.parametrize("authorization", list(_tokens()))
def test_a_malformed_token_opens_nothing(desk: Desk, authorization: bytes) -> None:
    status, said, headers = send(desk, json={"query": ME}, headers={"Authorization": authorization})
    assert (status, code(said)) == (401, "access.token")
    assert headers["www-authenticate"].startswith("Bearer")


def test_a_token_nearly_right_opens_nothing(desk: Desk) -> None:
    for wrong in (desk.token[:-1], desk.token + "A", desk.token.swapcase(), desk.token.upper(), desk.token + "%"):
        assert send(desk, json={"query": ME}, headers={"Authorization": f"Bearer {wrong}"})[0] == 401


# slowness


def test_a_slow_question_ends_at_its_limit_and_the_next_is_served(database: Database) -> None:
    with House(database.app, MASTER_KEY) as house:
        brief = SETTINGS.model_copy(update={"statement_seconds": 0.2, "connections_max": 2})
        with running(create_app(brief, house)) as edge:
            chief = open_office(edge, house.casebook("SLOW"))[Role.CS_CHIEF]
            with psycopg.connect(database.owner) as owner:
                owner.execute("LOCK TABLE anjuan.complaint_case IN ACCESS EXCLUSIVE MODE")
                for _ in range(5):
                    assert code(attack(chief, "{ complaints { totalCount } }")) == "request.timeout"
            assert chief.ask("{ complaints { totalCount } }")["complaints"]["totalCount"] == "0"
