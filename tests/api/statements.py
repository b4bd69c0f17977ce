"""What the edge sends to the database while a test watches, whichever road a question takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import pytest
from psycopg import AsyncConnection

from api.plan import wire
from api.plan.wire import Statement


class Sent(NamedTuple):
    """One statement and its values."""

    text: str
    values: str
    trip: int
    """Which round trip it was part of."""


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """A list that every statement of the edge is added to from now on, but for those that only see to a connection."""
    seen: list[Sent] = []
    trips = count()
    execute: Callable[..., Any] = AsyncConnection.execute
    ask = wire.ask

    async def executed(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        text = (
            query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(self)
        )
        if text not in ("", "SELECT 1", "BEGIN READ ONLY"):
            seen.append(Sent(text, str(params), next(trips)))
        return await execute(self, query, params, **more)

    async def asked(connection: Any, statements: Sequence[Statement]) -> Any:
        trip = next(trips)
        seen.extend(
            Sent(one.text.decode(), str([v.decode() for v in one.values if v is not None]), trip) for one in statements
        )
        return await ask(connection, statements)

    monkeypatch.setattr(AsyncConnection, "execute", executed)
    monkeypatch.setattr(wire, "ask", asked)
    return seen
