"""How far the views have read: claims, lag, heartbeats, and waiting for one's own writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool

from domain.store.casebook import House
from domain.store.tenant import asked, begin_reading
from projections.view import View

ALIVE_SECONDS = 10.0
"""A runner not seen for longer than this is taken for dead."""

# Institutions where one of these views has something to read, or has no tracking row yet.
WAITING: Final = """
    SELECT head.institution, count(t.view) < %(count)s
    FROM institution_position AS head
    LEFT JOIN tracking AS t ON t.institution = head.institution AND t.view = ANY(%(views)s)
    WHERE head.position > 0
    GROUP BY head.institution, head.position
    HAVING count(t.view) < %(count)s OR min(t.position) < head.position
"""

BEGIN: Final = """
    INSERT INTO tracking (institution, view, position)
    SELECT %s, name, 0 FROM unnest(%s::text[]) AS name
    ON CONFLICT DO NOTHING
"""

# The claim: whoever holds these row locks, and nobody else, moves these views of this institution.
CLAIM: Final = """
    SELECT t.view, t.position, head.position,
           EXISTS (SELECT FROM parked AS p WHERE p.institution = t.institution AND p.view = t.view)
    FROM tracking AS t
    JOIN institution_position AS head ON head.institution = t.institution
    WHERE t.institution = %s AND t.view = ANY(%s) AND t.position < head.position
    ORDER BY t.view
    FOR UPDATE OF t SKIP LOCKED
"""

MOVE: Final = "UPDATE tracking SET position = %s WHERE institution = %s AND view = %s AND position = %s"

STANDING: Final = """
    SELECT view, position || '.' || xmin || '.' || extract(epoch FROM pg_postmaster_start_time())
    FROM tracking
    WHERE institution = %s AND view = ANY(%s)
"""

TOUCH: Final = "UPDATE tracking SET position = position WHERE institution = %s AND view = %s"
"""Says that rows of a view changed although it did not move: whoever writes rows without moving it does this."""

REACHED: Final = """
    SELECT coalesce(min(coalesce(t.position, 0)), 0)
    FROM unnest(%s::text[]) AS wanted (view)
    LEFT JOIN tracking AS t ON t.institution = %s AND t.view = wanted.view
"""
"""How far the slowest of some views has read one institution; parameters: names of the views, institution."""


@dataclass(frozen=True)
class Lag:
    """How far one view is behind one institution, true also when no runner lives.

    `seconds_behind` is the age of the oldest event not yet in the view, None when there is none. `alive` says whether a
    runner of this view was seen within ALIVE_SECONDS; `heartbeat_age` is how long ago the last one was, None for never.
    `behind` is negative when the view knows positions that the log does not have: the log was set back to an older time
    and the view must be rebuilt.
    """

    view: str
    institution: str
    position: int
    head: int
    behind: int
    seconds_behind: float | None
    parked: int
    heartbeat_age: float | None
    alive: bool


def lag(house: House, views: Sequence[View[Any]], institution: str | None = None) -> list[Lag]:
    """The lag of each view in one institution, or in each, in order of view and institution."""
    with house.everywhere.connection() if institution is None else house.within(institution) as connection:
        return lag_on(connection, views, institution)


def lag_on(connection: Connection[Any], views: Sequence[View[Any]], institution: str | None = None) -> list[Lag]:
    """`lag`, asked on a connection of the caller's that may see what is asked."""
    values = {"views": [view.name for view in views], "institution": institution}
    rows = connection.execute(_LAG, values).fetchall()
    return [Lag(*row, alive=row[-1] is not None and row[-1] <= ALIVE_SECONDS) for row in rows]


_LAG: Final = """
    SELECT v.name, head.institution, coalesce(t.position, 0), head.position,
           head.position - coalesce(t.position, 0),
           extract(epoch FROM clock_timestamp() - oldest.recorded_at)::float8,
           (SELECT count(*) FROM parked AS p WHERE p.institution = head.institution AND p.view = v.name),
           (SELECT extract(epoch FROM clock_timestamp() - max(h.seen_at))::float8
            FROM runner_heartbeat AS h WHERE v.name = ANY(h.views))
    FROM unnest(%(views)s::text[]) AS v (name)
    CROSS JOIN institution_position AS head
    LEFT JOIN tracking AS t ON t.institution = head.institution AND t.view = v.name
    LEFT JOIN event AS oldest
      ON oldest.institution = head.institution AND oldest.position = coalesce(t.position, 0) + 1
    WHERE %(institution)s::text IS NULL OR head.institution = %(institution)s
    ORDER BY v.name, head.institution
"""


class Heartbeat:
    """One runner's sign of life, written by the loop that works, at most every `seconds`."""

    def __init__(self, runner: UUID, views: Sequence[str], seconds: float = 2.0) -> None:
        self._runner = runner
        self._views = list(views)
        self._seconds = seconds
        self._next = 0.0

    def beat(self, connection: Connection[Any]) -> None:
        """Say that the runner lives, if it is time to; forget runners that died more than a day ago."""
        if time.monotonic() < self._next:
            return
        connection.execute(
            "INSERT INTO runner_heartbeat (runner, views) VALUES (%s, %s)"
            " ON CONFLICT (runner) DO UPDATE SET seen_at = clock_timestamp()",
            (self._runner, self._views),
        )
        connection.execute("DELETE FROM runner_heartbeat WHERE seen_at < clock_timestamp() - interval '1 day'")
        self._next = time.monotonic() + self._seconds

    def end(self, connection: Connection[Any]) -> None:
        """Say that the runner has stopped."""
        connection.execute("DELETE FROM runner_heartbeat WHERE runner = %s", (self._runner,))


async def standing(connection: AsyncConnection[Any], institution: str, views: Sequence[str]) -> dict[str, str]:
    """How each of these views stands in an institution, as text that is another one once any of its rows is.

    It is the tracking row's position and the transaction that wrote it: moving a view, putting a rebuilt table in its
    place and folding a key again all write that row, in the transaction that writes the view's. The server's start
    keeps apart what stood so before a restore. A view that has read nothing yet is left out.
    """
    return dict(await (await connection.execute(STANDING, (institution, list(views)), prepare=True)).fetchall())


@dataclass(frozen=True)
class Stale:
    """The views did not reach a position in time; they are `behind` by so many events."""

    behind: int


def wait_for(house: House, views: Sequence[View[Any]], institution: str, position: int, timeout: float) -> Stale | None:
    """Wait until these views show the institution up to `position`, at most `timeout` seconds; Stale if they do not.

    Says nothing about parked keys. Wake the runner before, if it runs in this process.
    """
    names = [view.name for view in views]
    for pause in _pauses(timeout):
        with house.pool.connection() as connection:
            (row,) = asked(connection, institution, REACHED, (names, institution))
        behind = _behind(row, position)
        if behind <= 0:
            return None
        if pause is None:
            return Stale(behind)
        time.sleep(pause)
    raise AssertionError("unreachable")


async def wait_for_async(
    pool: AsyncConnectionPool[Any], views: Sequence[View[Any]], institution: str, position: int, timeout: float
) -> Stale | None:
    """`wait_for` on the event loop."""
    names = [view.name for view in views]
    for pause in _pauses(timeout):
        async with pool.connection() as connection:
            await begin_reading(connection, institution)
            cursor = await connection.execute(REACHED, (names, institution), prepare=True)
            row = await cursor.fetchone()
        behind = _behind(row, position)
        if behind <= 0:
            return None
        if pause is None:
            return Stale(behind)
        await asyncio.sleep(pause)
    raise AssertionError("unreachable")


def _behind(row: Any, position: int) -> int:
    assert row is not None
    return position - row[0]


def _pauses(timeout: float) -> Generator[float | None]:
    """How long to wait after each look, None after the last one: 1 ms doubling to 50 ms, within the timeout."""
    end = time.monotonic() + timeout
    pause = 0.001
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 2, 0.05)
    yield None
