"""What every answer has in common: ids for the logs, other sites, HEAD and OPTIONS, headers, and what is not served."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from pydantic import ValidationError
from starlette.datastructures import Headers

from api.app import create_app
from api.context import Reach
from api.edge.edge import Edge as Served
from api.edge.request_id import ids_of_client
from api.edge.shell import SECURE
from api.logs import SHARED
from api.settings import Settings
from domain.institution import Institution
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, running

ME = "{ me { roles } }"
DESK, OTHER = "https://desk.example.org", "https://evil.example"


@pytest.fixture
def desk(office: Office) -> Desk:
    return office[Role.CS_AGENT]


def signed(desk: Desk, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.token}", **{n.replace("_", "-"): v for n, v in more.items()}}


# ids


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "value", "found"),
    [
        ("X-Request-Id", "a", {"request_id": "a"}),
        (
            "X-Request-Id",
            "0e8f6c1e-6a0c-4b7e-9b53-0d8f6a6a3f10",
            {"request_id": "0e8f6c1e-6a0c-4b7e-9b53-0d8f6a6a3f10"},
        ),
        ("X-Request-Id", "x" * 128, {"request_id": "x" * 128}),
        ("X-Request-Id", "x" * 129, {}),
        ("X-Request-Id", "", {}),
        ("X-Request-Id", "a b", {}),
        ("X-Request-Id", 'a"b', {}),
        ("X-Request-Id", "a\\nb", {}),
        ("X-Request-Id", "-a", {}),
        ("X-Request-Id", "${jndi:ldap://x}", {}),
        ("X-Request-Id", "王女士", {}),
        ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01", {"trace": TRACE}),
        ("traceparent", f"01-{TRACE}-00f067aa0ba902b7-01-more", {"trace": TRACE}),
        ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01-more", {}),
        ("traceparent", f"ff-{TRACE}-00f067aa0ba902b7-01", {}),
        ("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01", {}),
        ("traceparent", f"00-{TRACE}-{'0' * 16}-01", {}),
        ("traceparent", f"00-{TRACE.upper()}-00f067aa0ba902b7-01", {}),
        ("traceparent", f"00-{TRACE}-00f067aa0ba902b7", {}),
        ("traceparent", f"01-{TRACE}-00f067aa0ba902b7-01-{'x' * 300}", {}),
    ],
)
def test_ids_of_the_client_are_taken_if_they_are_well_formed(header: str, value: str, found: dict[str, str]) -> None:
    raw = [(header.lower().encode(), value.encode())]
    assert ids_of_client(Headers(raw=raw)) == found


def test_every_line_of_a_request_has_its_ids(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of ours and of libraries, in the thread that blocks too; and the masked error names the same."""
    merge = [p for p in SHARED if p is structlog.contextvars.merge_contextvars]
    seen: list[Any] = []

    class Foreign(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(merge[0](None, "warning", {"event": record.getMessage()}))

    known = Reach.institution

    def telling(self: Reach, code: str) -> Institution:
        assert threading.current_thread().name != loop
        logging.getLogger("somebody").warning("in a thread")
        return known(self, code)

    loop = desk.edge.portal.call(lambda: threading.current_thread().name)
    monkeypatch.setattr(Reach, "institution", telling)
    logger, handler = logging.getLogger("somebody"), Foreign()
    logger.addHandler(handler)
    asks = {"X-Request-Id": "desk-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    try:
        with structlog.testing.capture_logs(processors=merge) as logged:
            answer = desk.edge.send(
                "POST", "/graphql", json={"query": "{ institution { code } }"}, headers=signed(desk) | asks
            )
    finally:
        logger.removeHandler(handler)
    correlation = answer.headers["x-correlation-id"]
    expected = {"correlation": correlation, "request_id": "desk-7", "trace": TRACE}
    assert seen
    assert logged
    for line in [*seen, *logged]:
        assert {name: line.get(name) for name in expected} == expected, line


def test_a_command_and_a_fault_are_found_by_the_same_id(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=merge) as logged:
        desk.done("complaintReceive", **intake())
    (done,) = [line for line in logged if line["event"] == "done"]
    assert len(done["correlation"]) == 32

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("王女士")

    monkeypatch.setattr(Served, "_answer", broken)
    with structlog.testing.capture_logs(processors=merge) as logged:
        answer = desk.edge.send("POST", "/graphql", json={"query": ME}, headers=signed(desk, X_Request_Id="desk-8"))
    (fault,) = [line for line in logged if line["event"] == "fault"]
    assert answer.json()["errors"][0]["extensions"]["correlation"] == answer.headers["x-correlation-id"]
    assert (fault["correlation"], fault["request_id"]) == (answer.headers["x-correlation-id"], "desk-8")


def test_no_request_is_given_the_id_of_another(desk: Desk) -> None:
    headers = signed(desk, X_Correlation_Id="mine", X_Request_Id="mine")
    answers = [desk.edge.send("POST", "/graphql", json={"query": ME}, headers=headers) for _ in range(3)]
    said = {answer.headers["x-correlation-id"] for answer in answers}
    assert len(said) == 3
    assert "mine" not in said


# headers


def test_every_answer_is_closed_to_other_pages(desk: Desk) -> None:
    answers = [
        desk.edge.send("GET", "/"),
        desk.edge.send("GET", "/", headers={"Accept": "text/html"}),
        desk.edge.send("GET", "/nowhere"),
        desk.edge.send("DELETE", "/graphql"),
        desk.edge.send("OPTIONS", "/graphql"),
        desk.edge.send("HEAD", "/livez"),
        desk.edge.send("GET", "/livez"),
        desk.edge.send("GET", "/readyz"),
        desk.edge.send("GET", "/graphql", params={"query": ME}),
        desk.edge.send("POST", "/graphql", json={"query": ME}, headers=signed(desk)),
        desk.edge.send("POST", "/graphql", content=b"x" * (SETTINGS.body_bytes_max + 1), headers=signed(desk)),
    ]
    for answer in answers:
        for name, value in SECURE.items():
            assert answer.headers.get_list(name) == [value], (answer.request.url, name)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-correlation-id"]) == 32
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert "server" not in answer.headers


def test_a_fault_outside_of_any_question_is_masked_too(house: House) -> None:
    app = create_app(SETTINGS, house)

    async def broken() -> None:
        raise RuntimeError("王女士 SELECT")

    app.add_api_route("/broken", broken, methods=["GET"])
    with running(app) as edge, structlog.testing.capture_logs() as logged:
        answer = edge.send("GET", "/broken")
    assert answer.status_code == 500
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "internal", "correlation": answer.headers["x-correlation-id"]}
    assert "SELECT" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    assert "王女士" not in json.dumps(logged, default=str, ensure_ascii=False)


# paths and methods


def test_the_root_says_where_things_are_and_nothing_else(edge: Edge) -> None:
    said = edge.send("GET", "/")
    assert said.status_code == 200
    assert said.json()["graphql"] == "/graphql"
    for path in (value for value in said.json().values() if value.startswith("/")):
        assert edge.send("GET", path).status_code in (200, 401), path
    page = edge.send("GET", "/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"].startswith("text/html")
    assert "/graphql" in page.text
    assert "<script" not in page.text


def test_what_is_not_served_is_said_as_json_with_a_code(edge: Edge) -> None:
    for path in ("/nowhere", "/graphql/", "/docs", "/openapi.json", "/.env", "/graphql/../x"):
        answer = edge.send("GET", path)
        assert answer.status_code == 404
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "request.path"
        assert error["extensions"]["sentenceZh"]
    for method, path in (("PUT", "/graphql"), ("POST", "/livez"), ("PATCH", "/")):
        answer = edge.send(method, path)
        assert answer.status_code == 405
        assert answer.json()["errors"][0]["extensions"]["code"] == "request.method"
        assert answer.headers["allow"]


def test_head_is_get_without_the_body(desk: Desk) -> None:
    for path, parts in (("/", {}), ("/livez", {}), ("/graphql", {"params": {"query": ME}}), ("/nowhere", {})):
        got = desk.edge.send("GET", path, headers=signed(desk), **parts)
        head = desk.edge.send("HEAD", path, headers=signed(desk), **parts)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length", "cache-control"):
            assert head.headers[name] == got.headers[name]


def test_no_command_is_done_by_head(desk: Desk, office: Office) -> None:
    before = office.casebook.head()
    mutation = (
        f'mutation {{ complaintReceive(commandId: "{uuid4()}", receivedAt: "2026-01-01T00:00:00Z", channel: LETTER,'
        ' complainant: "某", statement: "某事") { __typename } }'
    )
    answer = desk.edge.send("HEAD", "/graphql", params={"query": mutation}, headers=signed(desk))
    assert answer.status_code == 405
    assert office.casebook.head() == before


def test_options_says_what_a_path_takes(edge: Edge) -> None:
    answer = edge.send("OPTIONS", "/graphql")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert edge.send("OPTIONS", "/livez").headers["allow"] == "GET, HEAD, OPTIONS"
    assert edge.send("OPTIONS", "/nowhere").status_code == 404


# other sites


@pytest.fixture(scope="module")
def shared(house: House) -> Generator[Edge]:
    """An edge that pages of one other origin may ask."""
    with running(create_app(SETTINGS.model_copy(update={"origins": frozenset({DESK})}), house)) as opened:
        yield opened


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }


def test_a_preflight_of_an_allowed_origin_is_answered(shared: Edge) -> None:
    answer = shared.send("OPTIONS", "/graphql", headers=preflight(DESK))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == DESK
    assert set(answer.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST"}
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "if-none-match", "x-request-id"} <= set(allowed)
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


def test_an_allowed_origin_may_read_answers_and_no_other(shared: Edge, office: Office) -> None:
    desk = office[Role.CS_AGENT]
    for token, status in ((desk.token, 200), ("anjuan_no", 401)):
        headers = {"Authorization": f"Bearer {token}", "Origin": DESK}
        answer = shared.send("POST", "/graphql", json={"query": ME}, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == DESK
        assert {"etag", "x-correlation-id", "retry-after"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        assert "Origin" in answer.headers["vary"]
    for origin in (OTHER, DESK + ".evil.example", DESK + ":8443", "http://desk.example.org", "null", "*", ""):
        answer = shared.send("POST", "/graphql", json={"query": ME}, headers=signed(desk, Origin=origin))
        assert not any(name.startswith("access-control") for name in answer.headers), origin
        assert "Origin" in answer.headers["vary"], "or a cache would give it to somebody else"
        refused = shared.send("OPTIONS", "/graphql", headers=preflight(origin))
        assert refused.status_code == 403
        assert refused.json()["errors"][0]["extensions"]["code"] == "request.origin"
        assert not any(name.startswith("access-control") for name in refused.headers)


def test_by_default_no_other_site_may_ask(edge: Edge) -> None:
    assert Settings.model_fields["origins"].default == frozenset()
    answer = edge.send("OPTIONS", "/graphql", headers=preflight(DESK))
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", set[str]()),
        (f"{DESK}, http://localhost:5173,", {DESK, "http://localhost:5173"}),
        ("https://Desk.Example.org", {DESK}),
        ("http://[::1]:8080", {"http://[::1]:8080"}),
        ("*", None),
        (DESK + "/", None),
        (DESK + "/path", None),
        ("desk.example.org", None),
        ("https://*.example.org", None),
        ("null", None),
        ("https://user@desk.example.org", None),
    ],
)
def test_origins_are_said_exactly(said: str, found: set[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANJUAN_ORIGINS", said)
    if found is None:
        with pytest.raises(ValidationError, match="is no origin"):
            Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    else:
        assert Settings(_env_file=None).origins == found  # pyright: ignore[reportCallIssue]
