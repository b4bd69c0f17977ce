"""Strawberry as it comes: what a newcomer would write from its documentation, on the same tables.

Types with fields, a DataLoader for the lines of a case, an asynchronous pool, rows as dictionaries, `GraphQLRouter`.
Nobody is asked who they are, nothing is limited, masked or logged.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry
from fastapi import FastAPI
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from strawberry.dataloader import DataLoader
from strawberry.fastapi import GraphQLRouter

LINES = """
    SELECT line.* FROM unnest(%s::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT stream_id, version, topic, actor, occurred_at, recorded_at, position FROM history
        WHERE institution = %s AND stream_id = wanted.id ORDER BY version LIMIT %s
    ) AS line
"""
CASES = """
    SELECT complaint_id, number, stage, channel, category, severity, received_at, complainant, departments, owner,
           next_due_at, clocks_late
    FROM complaint_case WHERE institution = %s AND channel = ANY(%s)
    ORDER BY received_at DESC, complaint_id DESC LIMIT %s
"""


@strawberry.type
class Line:
    """One event of a case."""

    version: int
    topic: str
    actor: UUID
    occurred_at: datetime
    recorded_at: datetime
    position: int


@strawberry.type
class LineEdge:
    """Relay's edge."""

    node: Line


@strawberry.type
class Lines:
    """Relay's connection."""

    edges: list[LineEdge]


@strawberry.type
class Case:
    """One complaint."""

    complaint_id: UUID
    number: str
    stage: str
    channel: str
    category: str
    severity: str
    received_at: datetime
    complainant: str | None
    departments: list[str]
    owner: UUID
    next_due_at: datetime | None
    clocks_late: int

    @strawberry.field
    async def history(self, info: strawberry.Info[dict[str, Any]], first: int) -> Lines:
        """Its first lines."""
        lines = await info.context["lines"].load((self.complaint_id, first))
        return Lines(edges=[LineEdge(node=line) for line in lines])


@strawberry.type
class CaseEdge:
    """Relay's edge."""

    node: Case


@strawberry.type
class Cases:
    """Relay's connection."""

    edges: list[CaseEdge]


@strawberry.input
class CaseFilter:
    """Which cases."""

    channels: list[str]


@strawberry.type
class Query:
    """The one question."""

    @strawberry.field
    async def complaints(
        self,
        info: strawberry.Info[dict[str, Any]],
        first: int,
        filter: CaseFilter,
        order_by: Annotated[str, strawberry.argument(name="orderBy")] = "RECEIVED",
        descending: bool = True,
    ) -> Cases:
        """The latest cases."""
        async with info.context["pool"].connection() as connection:
            found = await connection.execute(CASES, (info.context["institution"], filter.channels, first))
            return Cases(edges=[CaseEdge(node=Case(**row)) for row in await found.fetchall()])


def app(conninfo: str, institution: str) -> FastAPI:
    """The application of one institution."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        conninfo, kwargs={"row_factory": dict_row, "autocommit": True}, min_size=1, max_size=10, open=False
    )

    async def load(keys: list[tuple[UUID, int]]) -> list[list[Line]]:
        found: dict[UUID, list[Line]] = defaultdict(list)
        async with pool.connection() as connection:
            lines = await connection.execute(LINES, ([id for id, _ in keys], institution, keys[0][1]))
            async for row in lines:
                found[row.pop("stream_id")].append(Line(**row))
        return [found[id] for id, _ in keys]

    async def context() -> dict[str, Any]:
        return {"pool": pool, "institution": institution, "lines": DataLoader(load)}

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await pool.open(wait=True)
        yield
        await pool.close()

    made = FastAPI(openapi_url=None, lifespan=lifespan)
    made.include_router(GraphQLRouter(strawberry.Schema(Query), context_getter=context), prefix="/graphql")
    return made
