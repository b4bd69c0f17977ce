"""Attacks where two parts of the edge meet: doors and throttles, rooms and strangers, logs and libraries."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from psycopg.pq import PipelineStatus

from api import logs
from api.app import create_app
from api.settings import Environment
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Office, intake, running
from tests.api.subscribers import HISTORY, SECONDS, followed, listening, websocket
from tests.api.test_oidc import Realm, issuer, realm, trusting

__all__ = ["issuer", "realm"]  # fixtures

SMALL = SETTINGS.model_copy(update={"live_connections_max": 2, "live_init_seconds": 600.0})


@pytest.fixture(scope="module")
def address(house: House) -> Generator[str]:
    with followed(house) as wake, listening(create_app(SMALL, house, wake=wake.set)) as found:
        yield found


def test_who_guesses_beside_somebody_of_an_issuer_does_not_shut_them_out(realm: Realm, house: House) -> None:
    with running(create_app(trusting(realm.issuer, unknown_tokens_max=3), house)) as edge:
        realm.edge = edge
        token = realm.token()
        assert realm.send(token)[0] == 200
        guesses = [realm.send(realm.token(aud="elsewhere", jti=str(n))) for n in range(6)]
        assert guesses[0] == (401, "access.token")
        assert guesses[5] == (429, "access.throttled")
        assert realm.send(token)[0] == 200, "a token that has opened something is looked at, whoever errs beside it"
        assert realm.send(realm.token(jti="another")) == (429, "access.throttled"), "one nobody has seen waits"


def test_strangers_who_never_say_who_they_are_take_no_subscriber_s_room(address: str, office: Office) -> None:
    desk = office[Role.CS_AGENT]
    case = desk.done("complaintReceive", **intake())["complaintId"]
    with ExitStack() as crowd:
        for _ in range(12):
            crowd.enter_context(websocket(address))
        with websocket(address, desk.token) as subscriber:
            subscriber.subscribe(HISTORY, "1", id=case, after=0)
            assert subscriber.next()["lines"]


def test_variables_nested_deeper_than_can_be_written_are_no_fault_of_ours(address: str, office: Office) -> None:
    desk = office[Role.CS_AGENT]
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    with structlog.testing.capture_logs() as logged, websocket(address, desk.token) as subscriber:
        subscriber.subscribe(HISTORY, "1", id=UUID(int=1), deep=deep)
        assert subscriber.error()["code"] != "internal"
    assert not [line for line in logged if line["log_level"] == "error"]


def test_the_purpose_of_a_stream_is_logged_as_that_of_any_request(address: str, office: Office) -> None:
    desk, auditor = office[Role.CS_AGENT], office[Role.AUDITOR]
    desk.done("complaintReceive", **intake())
    office.follow()
    query = "subscription { complaintsChanged(after: 0) { changes { complaint { phone statement } } } }"
    headers = {
        "Accept": "text/event-stream",
        "Authorization": f"Bearer {desk.token}",
        "X-Purpose": "%E5%9B%9E%E8%AE%BF",
    }
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        client.stream(
            "POST",
            f"http://{address}/graphql",
            headers=headers,
            json={"query": query},
        ) as response,
    ):
        next(line for line in response.iter_lines() if line.startswith("data:"))
    said = auditor.ask("query ($r: UUID) { personalReads(reader: $r) { edges { node { purpose road } } } }", r=desk.id)
    assert [edge["node"] for edge in said["personalReads"]["edges"]] == [{"purpose": "回访", "road": "subscription"}]


def test_a_library_s_report_of_a_fault_holds_no_patient_s_words(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:], logging.root.level, structlog.get_config()
    try:
        logs.configure(Environment.PRODUCTION)
        try:
            raise ValueError("王女士 13800138000")
        except ValueError as problem:
            logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=problem)
            logging.getLogger("asyncio").exception("Task exception was never retrieved")
    finally:
        logging.root.handlers[:], logging.root.level = before[0], before[1]
        structlog.configure(**before[2])
    written = capfd.readouterr().err
    assert "13800138000" not in written
    for line in written.splitlines():
        said = json.loads(line)
        assert said["error"] == "ValueError"
        assert said["where"][-1].startswith("test_attacks_across.py:")


def test_a_connection_left_within_a_pipeline_is_lent_to_nobody(house: House, office: Office) -> None:
    assert office[Role.CS_AGENT].token
    with running(create_app(SETTINGS.model_copy(update={"connections_max": 1}), house)) as edge:
        pool = edge.app.state.doorkeeper._pool

        async def left() -> PipelineStatus:
            connection = await pool.getconn()
            connection.pgconn.enter_pipeline_mode()
            await pool.putconn(connection)
            connection = await pool.getconn()
            await pool.putconn(connection)
            return connection.pgconn.pipeline_status

        assert edge.portal.call(left) == PipelineStatus.OFF
        assert office.by(edge)[Role.CS_AGENT].ask("{ me { staffId } }")
