"""What the benchmarks of GraphQL share: the question, the endpoint written by hand, and how CPU is counted.

50 cases of 12 fields, filtered and ordered, each with 10 lines of history of 6 fields.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psycopg
from fastapi import FastAPI, Request, Response
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.access.doorkeeper import Doorkeeper
from api.access.token import issue_token
from api.context import query_pool
from api.demo import demo
from api.demo.group import HOSPITALS
from api.settings import Settings
from domain.kernel import Role
from domain.store.casebook import House
from domain.store.tenant import begin_reading
from projections.runner import catch_up
from projections.views import VIEWS

CASES, LINES = 50, 10
ROUNDS = 5
QUESTION = """
query ($first: Int!, $lines: Int!) {
  complaints(first: $first, orderBy: RECEIVED, descending: true, filter: {channels: [TELEPHONE, FACE_TO_FACE, VISIT,
      LETTER, EMAIL, HOTLINE_12345, WEB_CHAT, QQ, FAX, PETITION, OTHER]}) {
    edges { node {
      complaintId number stage channel category severity receivedAt complainant departments owner nextDueAt clocksLate
      history(first: $lines) { edges { node { version topic actor occurredAt recordedAt position } } }
    } }
  }
}
"""
BY_HAND = """
SELECT json_agg(json_build_object('node', json_build_object(
    'complaintId', c.complaint_id, 'number', c.number, 'stage', upper(c.stage), 'channel', upper(c.channel),
    'category', upper(c.category), 'severity', upper(c.severity), 'receivedAt', c.received_at,
    'complainant', c.complainant, 'departments', c.departments, 'owner', c.owner, 'nextDueAt', c.next_due_at,
    'clocksLate', c.clocks_late::text,
    'history', json_build_object('edges', (
        SELECT coalesce(json_agg(json_build_object('node', json_build_object(
            'version', h.version::text, 'topic', h.topic, 'actor', h.actor, 'occurredAt', h.occurred_at,
            'recordedAt', h.recorded_at, 'position', h.position::text)) ORDER BY h.version), '[]')
        FROM (SELECT * FROM history WHERE institution = c.institution AND stream_id = c.complaint_id
              ORDER BY version LIMIT %s) AS h))
    )) ORDER BY c.received_at DESC, c.complaint_id DESC)::text
FROM (SELECT * FROM complaint_case WHERE institution = %s AND channel = ANY(%s)
      ORDER BY received_at DESC, complaint_id DESC LIMIT %s) AS c
"""
CHANNELS = ["telephone", "face_to_face", "visit", "letter", "email", "hotline_12345", "web_chat", "qq", "fax",
            "petition", "other"]  # fmt: skip


@dataclass
class Cost:
    """What one contender took, per request: CPU of server and database, and latency, in milliseconds."""

    server: list[float] = field(default_factory=list[float])
    database: list[float] = field(default_factory=list[float])
    latency: list[float] = field(default_factory=list[float])
    size: int = 0

    @property
    def cpu(self) -> float:
        """CPU of both, the median of the rounds."""
        return median(s + d for s, d in zip(self.server, self.database, strict=True))


def by_hand(house: House, settings: Settings) -> FastAPI:
    """The endpoint somebody would write: who asks is looked up as ever, one statement, one json_agg."""
    pool: AsyncConnectionPool[AsyncConnection[Any]] = query_pool(settings, house)
    doorkeeper = Doorkeeper(house, pool, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await pool.open(wait=True)
        yield
        await pool.close()

    async def cases(request: Request) -> Response:
        principal = await doorkeeper.principal(request.headers.get("authorization"))
        asked = await request.json()
        lines, first = asked["variables"]["lines"], asked["variables"]["first"]
        async with pool.connection() as connection:
            await begin_reading(connection, principal.institution)
            found = await connection.execute(BY_HAND, (lines, principal.institution, CHANNELS, first), prepare=True)
            row = await found.fetchone()
        assert row is not None
        return Response(f'{{"data":{{"complaints":{{"edges":{row[0]}}}}}}}', media_type="application/json")

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.add_api_route("/graphql", cases, methods=["POST"])
    return app


def one_round(
    owner: str, cost: Cost, server: int, client: httpx.Client, body: Any, headers: dict[str, str], requests: int
) -> None:
    backends = _backends(owner)
    before = _cpu(server), sum(map(_cpu, backends))
    began = time.perf_counter()
    for _ in range(requests):
        client.post("/graphql", json=body, headers=headers)
    cost.latency.append((time.perf_counter() - began) * 1000 / requests)
    after = _cpu(server), sum(map(_cpu, backends))
    cost.server.append((after[0] - before[0]) / requests)
    cost.database.append((after[1] - before[1]) / requests)


def _backends(owner: str) -> list[int]:
    """The backends of this database, all of which are ours; only one contender is asked at a time."""
    with psycopg.connect(owner) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchall()
    return [pid for (pid,) in found]


def _cpu(process: int) -> float:
    """CPU a process has used, in milliseconds."""
    # schedstat counts nanoseconds of one thread; stat counts ticks of all
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


def filled(owner: str) -> str:
    """The demonstration with its views, and a token of somebody who may ask."""
    with House(owner, bytes(32)) as house:
        staff = demo(house, hospitals=HOSPITALS[:1]).staff
        catch_up(house, VIEWS.values(), HOSPITALS[0].code)
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("ANALYZE")
        director = next(person for person in staff if Role.CS_DIRECTOR in person.roles)
        return issue_token(house, director.institution, director.id, f"benchmark {os.getpid()}", timedelta(days=1))
