"""What is said of requests to whoever looks after the process: a line each, metrics, readiness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import structlog
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.parser import text_string_to_metric_families as prometheus
from prometheus_client.samples import Sample
from pydantic import SecretStr

from api.access.roles import OVERSEERS
from api.access.token import issue_token
from api.app import create_app
from api.chinese.sentences import SENTENCES
from api.watch.health import Health
from domain.credential import Scope
from domain.kernel import Role
from domain.store.casebook import House
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Edge, Office, intake, open_office, running
from tests.api.users import eventually
from tests.conftest import MASTER_KEY, Database, Server

SCRAPER = "a token for programs that scrape"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def watched(house: House, institution: str) -> Generator[Office]:
    """An office at an application of its own: nobody else is counted there."""
    settings = SETTINGS.model_copy(update={"metrics_token": SecretStr(SCRAPER), "plan": True})
    with running(create_app(settings, house)) as edge:
        yield open_office(edge, house.casebook(institution))


def samples(edge: Edge, accept: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scraper reads."""
    answer = edge.send("GET", "/metrics", headers={"Authorization": f"Bearer {SCRAPER}", "Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    read: Callable[[str], Iterable[Metric]] = prometheus
    if "openmetrics" in answer.headers["content-type"]:
        read = openmetrics  # pyright: ignore[reportUnknownVariableType]  its argument is not typed
    found: list[Sample] = [sample for family in read(answer.text) for sample in family.samples]
    return {(one.name, frozenset(one.labels.items())): one.value for one in found}


def value(edge: Edge, name: str, **labels: str) -> float:
    """One sample, 0 while nothing was counted."""
    return samples(edge).get((f"anjuan_{name}", frozenset(labels.items())), 0.0)


def lines(logged: list[Any]) -> list[Any]:
    """The lines about requests."""
    return [line for line in logged if line["event"] in ("answered", "refused", "abandoned") and "method" in line]


def test_every_question_says_one_line_without_what_was_asked(office: Office) -> None:
    office[Role.CS_AGENT].done("complaintReceive", **intake(complainant="李四"))
    desk = office[Role.AUDITOR]
    query = "query Find { me { staffId } complaints { edges { node { number } } } } # 李四秘密"
    with structlog.testing.capture_logs() as logged:
        answer = desk.edge.send(
            "POST",
            "/graphql",
            json={"query": query, "operationName": "Find", "variables": {"secret": "李四"}},
            headers={"Authorization": f"Bearer {desk.token}"},
        )
    assert answer.status_code == 200
    (line,) = lines(logged)
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "answered",
        "log_level": "info",
        "method": "POST",
        "path": "/graphql",
        "operation": "Find",
        "code": "answered",
        "status": 200,
        "cost": line["cost"],
        "road": line["road"],
        "institution": office.code,
        "staff": str(desk.id),
        "correlation": answer.headers["x-correlation-id"],
    }
    assert line["cost"] > 1
    assert line["road"] in ("planned", "declined", "resolved")
    assert "李四" not in json.dumps(logged, default=str, ensure_ascii=False)
    assert desk.token not in json.dumps(logged, default=str)


@pytest.mark.parametrize(
    ("parts", "code", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, "request.body", 400),
        ({"json": {"query": "{ me { roles } }"}, "headers": {"Authorization": "Bearer x"}}, "access.token", 401),
        ({"json": {"query": "{ history { totalCount } }"}}, "access.role", 200),
        ({"json": {"query": "{ a " * 20 + "{ b }" + " }" * 20}}, "limit.depth", 200),
    ],
)  # fmt: skip
def test_a_refusal_says_its_code(office: Office, parts: dict[str, Any], code: str, status: int) -> None:
    desk = office[Role.GUIDE]
    parts = {**parts, "headers": {"Authorization": f"Bearer {desk.token}", **parts.get("headers", {})}}
    with structlog.testing.capture_logs() as logged:
        desk.edge.send("POST", "/graphql", **parts)
    (line,) = lines(logged)
    assert (line["event"], line["code"], line["status"]) == ("refused", code, status)


@pytest.mark.parametrize("name", ["王女士", "x" * 81, "a b", ""])
def test_what_is_no_name_of_an_operation_is_not_said(office: Office, name: str) -> None:
    desk = office[Role.GUIDE]
    with structlog.testing.capture_logs() as logged:
        desk.edge.send(
            "POST",
            "/graphql",
            json={"query": "{ me { roles } }", "operationName": name},
            headers={"Authorization": f"Bearer {desk.token}"},
        )
        desk.edge.send("GET", "/somewhere/王女士")
    assert [line["operation"] for line in lines(logged)] == [None, None]
    assert [line["path"] for line in lines(logged)] == ["/graphql", "other"]
    if name:
        assert name not in json.dumps(logged, default=str, ensure_ascii=False)


def test_health_says_no_lines(edge: Edge) -> None:
    with structlog.testing.capture_logs() as logged:
        for path in ("/livez", "/readyz", "/metrics"):
            edge.send("GET", path)
    assert logged == []


def test_metrics_are_for_overseers_and_scrapers(watched: Office) -> None:
    edge = watched.edge
    for authorization in (
        "",
        "Bearer x",
        f"Basic {SCRAPER}",
        f"Bearer {SCRAPER}x",
        f"Bearer {SCRAPER[:-1]}",
        "Bearer 长",
    ):
        headers = {"Authorization": authorization.encode()} if authorization else {}
        answer = edge.send("GET", "/metrics", headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (401, "access.token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for role in Role:
        answer = edge.send("GET", "/metrics", headers={"Authorization": f"Bearer {watched[role].token}"})
        assert answer.status_code == (200 if role in OVERSEERS else 403), role
        if role not in OVERSEERS:
            assert answer.json()["errors"][0]["extensions"] == {
                "code": "access.role",
                "sentenceZh": SENTENCES["access.role"],
            }
    decides = issue_token(
        watched.casebook.house, watched.code, watched[Role.AUDITOR].id, "x", timedelta(days=1), scopes=[Scope.DECIDE]
    )
    answer = edge.send("GET", "/metrics", headers={"Authorization": f"Bearer {decides}"})
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (403, "access.scope")
    assert samples(edge)


def test_without_a_metrics_token_no_empty_one_opens(edge: Edge) -> None:
    for authorization in ("Bearer ", "Bearer", "Bearer None"):
        assert edge.send("GET", "/metrics", headers={"Authorization": authorization}).status_code == 401


def test_the_page_is_read_in_both_formats(watched: Office) -> None:
    watched[Role.AUDITOR].ask("{ me { roles } }")
    labels = frozenset({"route": "/graphql", "kind": "question", "outcome": "answered"}.items())
    assert samples(watched.edge)["anjuan_requests_total", labels] == 1
    assert samples(watched.edge, OPENMETRICS)["anjuan_requests_total", labels] == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in samples(watched.edge))


def test_requests_are_counted_by_what_became_of_them(watched: Office) -> None:
    edge, auditor, agent = watched.edge, watched[Role.AUDITOR], watched[Role.CS_AGENT]
    auditor.ask("{ complaints { edges { node { number } } } }")  # by a plan
    auditor.ask("{ me { roles } }")  # by resolvers
    agent.error("{ history { totalCount } }")
    before = watched.casebook.head()
    agent.done("complaintReceive", **intake())
    appended = watched.casebook.head() - before
    agent.refused("complaintReceive", **intake(statement=" "))
    edge.send("POST", "/graphql", json={})
    edge.send("GET", "/nowhere/at/all")
    counts = samples(edge)

    def count(name: str, **labels: str) -> float:
        return counts.get((f"anjuan_{name}", frozenset(labels.items())), 0.0)

    assert count("requests_total", route="/graphql", kind="question", outcome="answered") == 2
    assert count("requests_total", route="/graphql", kind="question", outcome="refused") == 1
    assert count("requests_total", route="/graphql", kind="command", outcome="answered") == 2
    assert count("requests_total", route="other", kind="other", outcome="refused") == 1
    assert count("questions_total", road="planned") == 1
    assert count("questions_total", road="declined") + count("questions_total", road="resolved") == 2
    assert count("commands_total", outcome="done") == 1
    assert count("commands_total", outcome="refused") == 1
    assert count("appended_events_total") == appended
    assert count("refusals_total", code="text.empty") == 1
    assert count("refusals_total", code="access.role") == 1
    assert count("request_seconds_count", route="/graphql", kind="question") == 3
    assert count("cost_total") > 0
    assert count("cache_entries", cache="plans") >= 1


def test_a_fault_of_ours_is_counted_as_one(watched: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr("api.edge.edge.Edge._answer", broken)
    desk = watched[Role.AUDITOR]
    answer = desk.edge.send(
        "POST", "/graphql", json={"query": "{ me { roles } }"}, headers={"Authorization": f"Bearer {desk.token}"}
    )
    assert answer.status_code == 500
    assert value(desk.edge, "requests_total", route="/graphql", kind="other", outcome="fault") == 1
    assert value(desk.edge, "refusals_total", code="internal") == 1


def test_no_label_has_a_value_that_clients_choose(watched: Office) -> None:
    edge, desk = watched.edge, watched[Role.AUDITOR]
    edge.send("GET", "/王女士")
    edge.send("BREW", "/graphql")
    for query in ("query 王 { me { roles } }", "query Wang { me { roles } }", "{ nobody }"):
        edge.send("POST", "/graphql", json={"query": query}, headers={"Authorization": f"Bearer {desk.token}"})
    said = {value for _, labels in samples(edge) for _, value in labels}
    for secret in (watched.code, str(desk.id), "王女士", "Wang", "BREW", "nobody"):
        assert not any(secret in value for value in said), secret


def test_views_and_pools_are_measured_when_somebody_looks(database: Database) -> None:
    settings = SETTINGS.model_copy(update={"metrics_token": SecretStr(SCRAPER)})
    with House(database.app, MASTER_KEY) as house, running(create_app(settings, house)) as edge:
        offices = [open_office(edge, house.casebook(code)) for code in ("ONE", "TWO")]
        for office in offices:
            office[Role.AUDITOR].ask("{ me { roles } }")
        offices[0].follow()
        behind = offices[1].casebook.head()
        assert value(edge, "view_behind_events", view="history") == behind
        assert value(edge, "view_behind_seconds", view="history") > 0
        assert value(edge, "log_events") == sum(office.casebook.head() for office in offices)
        assert value(edge, "view_followed", view="history") == 0
        assert value(edge, "ready") == 1
        used, idle = (value(edge, "pool_connections", pool="commands", state=state) for state in ("used", "idle"))
        assert (used, idle) == (0, 1)
        held = house.pool.getconn()
        try:
            assert value(edge, "pool_connections", pool="commands", state="used") == 1
        finally:
            house.pool.putconn(held)
        assert value(edge, "pool_connections_max", pool="questions") == SETTINGS.connections_max


def test_probes_look_at_the_database_once_a_second_at_most(database: Database) -> None:
    with House(database.app, MASTER_KEY) as house:
        health, looks = Health(house, list(VIEWS.values())), 0
        look = health._looked

        def counted() -> Any:
            nonlocal looks
            looks += 1
            return look()

        health._looked = counted

        async def probes() -> None:
            for round_ in (1, 2):
                answers = await asyncio.gather(*(health.readiness() for _ in range(100)))
                assert {ready for ready, _ in answers} == {True}
                assert looks == round_
                assert health._last is not None
                health._last = (health._last[0] - 1.0, health._last[1])

        asyncio.run(probes())


def test_readiness_does_not_wait_for_busy_connections(database: Database) -> None:
    with House(database.app, MASTER_KEY, pool_timeout=60) as house, running(create_app(SETTINGS, house)) as edge:
        held = [house.pool.getconn() for _ in range(10)]
        try:
            with ThreadPoolExecutor() as threads:
                answer = threads.submit(edge.send, "GET", "/readyz")
                eventually(answer.done)
                assert (answer.result().status_code, answer.result().json()["ready"]) == (200, True)
        finally:
            for connection in held:
                house.pool.putconn(connection)


def test_a_database_that_is_away_is_said_to_be(server: Server, template: Database) -> None:
    gone = server.create(template)
    with House(gone.app, MASTER_KEY) as house, running(create_app(SETTINGS, house)) as edge:
        server.drop(gone)
        answer = edge.send("GET", "/readyz")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "database": "away"})
        assert edge.send("GET", "/livez").status_code == 200
