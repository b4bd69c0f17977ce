"""What changed after a position, for whoever follows: asked of views and log by position, in bounded steps.

A step reads at most so many events past the position a follower has, and never past what the views have read. Rows move
with the tracking of their view in one transaction, so a statement that reads both sees them as of the same position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, LiteralString, TypeVar, cast
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.sql import SQL, Composable, Composed, Identifier

from projections.complaint import COMPLAINTS
from projections.complaint_questions import CaseFilter
from projections.filters_at_once import as_table, met_by
from projections.history import HISTORY
from projections.page import Condition
from projections.question import Question
from projections.view import Row, View

T = TypeVar("T", bound=Row)

EVENTS_MAX = 250
"""Most events one step looks at."""


@dataclass(frozen=True)
class Positions:
    """How far one institution's history goes, and how far each view has read it."""

    institution: str
    head: int
    views: dict[str, int]


def positions(connection: Connection[Any], institutions: Sequence[str], views: Sequence[str]) -> list[Positions]:
    """The positions of these institutions and views; a view that has no tracking row yet is at 0."""
    cursor = connection.execute(
        """
        SELECT head.institution, head.position, array_agg(wanted.view), array_agg(coalesce(t.position, 0))
        FROM institution_position AS head
        CROSS JOIN unnest(%s::text[]) AS wanted (view)
        LEFT JOIN tracking AS t ON t.institution = head.institution AND t.view = wanted.view
        WHERE head.institution = ANY(%s)
        GROUP BY head.institution, head.position
        """,
        (list(views), list(institutions)),
        prepare=True,
    )
    return [
        Positions(institution, head, dict(zip(names, reached, strict=True)))
        for institution, head, names, reached in cursor.fetchall()
    ]


async def head(connection: AsyncConnection[Any], institution: str) -> int:
    """The position of an institution's last event, 0 before the first."""
    cursor = await connection.execute(
        "SELECT position FROM institution_position WHERE institution = %s", (institution,), prepare=True
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def case_exists(connection: AsyncConnection[Any], institution: str, id: UUID) -> bool:
    """Whether the institution has this case, also when no view shows it yet."""
    cursor = await connection.execute(
        "SELECT FROM event"
        " WHERE institution = %s AND originator_id = %s AND originator_version = 1 AND topic = ANY(%s)",
        (institution, id, sorted(COMPLAINTS.topics)),
    )
    return await cursor.fetchone() is not None


@dataclass(frozen=True)
class Moved:
    """Which streams have events after one position and up to another."""

    upto: int
    streams: frozenset[UUID]


async def streams_moved(connection: AsyncConnection[Any], institution: str, after: int, upto: int) -> Moved:
    """Which streams of the history have lines in the next step."""
    upto = min(upto, after + EVENTS_MAX)
    cursor = await connection.execute(
        "SELECT DISTINCT stream_id FROM history WHERE institution = %s AND position > %s AND position <= %s",
        (institution, after, upto),
        prepare=True,
    )
    return Moved(upto, frozenset(row[0] for row in await cursor.fetchall()))


@dataclass(frozen=True)
class Lines(Generic[T]):
    """Lines of the history in order of position; there are no others up to `upto`."""

    upto: int
    lines: list[T]


async def lines_after(
    connection: AsyncConnection[Any],
    make: Callable[..., T],
    institution: str,
    after: int,
    upto: int,
    where: Sequence[Condition] = (),
) -> Lines[T]:
    """The lines of the next step that meet the conditions."""
    upto = min(upto, after + EVENTS_MAX)
    query = SQL("SELECT {} FROM history WHERE {} ORDER BY position").format(
        _columns(HISTORY), SQL(" AND ").join(_all(where, "institution = %s AND position > %s AND position <= %s"))
    )
    values = (institution, after, upto, *(value for _, value in where))
    found = await (await connection.execute(query, values, prepare=True)).fetchall()
    return Lines(upto, _made(HISTORY, make, found))


@dataclass(frozen=True)
class Changed(Generic[T]):
    """A case that changed, as it is now, and which of the filters asked for it meets, by their numbers.

    `steady` are those it meets but for what depends on the moment, `meets` those of them that it meets altogether.
    `before` is the version it had before the command that changed it last, 0 if that began it: what a command appends
    is stored at once, so nobody saw the case in between.
    """

    case: T
    before: int
    steady: frozenset[int]
    meets: frozenset[int]


@dataclass(frozen=True)
class Changes(Generic[T]):
    """Cases whose last event lies in a step, in order of position."""

    upto: int
    cases: list[Changed[T]]


async def cases_after(
    connection: AsyncConnection[Any],
    make: Callable[..., T],
    institution: str,
    after: int,
    filters: Mapping[int, CaseFilter],
    most: int = EVENTS_MAX,
) -> Changes[T]:
    """The cases that changed in the next step, of at most so many events, as they are now.

    A case that changed again since is left to the step in which it did last: nobody is told of it twice.
    """
    values = (after + most, institution, COMPLAINTS.name, as_table(filters))
    values += (institution, after, institution, after, sorted(COMPLAINTS.topics))
    found = await (await connection.execute(_cases_after(), values, prepare=True)).fetchall()
    (upto, *_) = found[0]
    lines = [line for line in found if line[1] is not None]
    rows = _made(COMPLAINTS, make, [line[5:] for line in lines])
    return Changes(
        upto,
        [
            Changed(row, before, frozenset(steady or ()), frozenset(meets or ()))
            for row, (_, _, before, steady, meets, *_) in zip(rows, lines, strict=True)
        ],
    )


@cache
def _cases_after() -> Composed:
    return SQL(
        """
        WITH step AS MATERIALIZED (
            SELECT coalesce(max(least(position, %s::bigint)), 0) AS upto
            FROM tracking
            WHERE institution = %s AND view = %s
        )
        SELECT step.upto, moved.*
        FROM step
        LEFT JOIN LATERAL (
            SELECT true, command.before, met.steady, met.now, {columns}
            FROM complaint_case
            CROSS JOIN {met}
            CROSS JOIN LATERAL (
                SELECT min(one.originator_version) - 1
                FROM event AS last
                JOIN event AS one ON one.institution = complaint_case.institution
                  AND (one.originator_id, one.command_id) = (last.originator_id, last.command_id)
                WHERE last.institution = complaint_case.institution AND last.originator_id = complaint_id
                  AND last.originator_version = version
            ) AS command (before)
            WHERE institution = %s AND position > %s AND position <= step.upto
              AND complaint_id IN (
                  SELECT originator_id
                  FROM event
                  WHERE institution = %s AND event.position > %s AND event.position <= step.upto AND topic = ANY(%s)
              )
        ) AS moved ON true
        ORDER BY moved.position
        """
    ).format(met=met_by(CaseFilter), columns=_columns(COMPLAINTS))


def _columns(view: View[Any]) -> Composable:
    return SQL(", ").join(Identifier(column.name) for column in view.columns)


def _all(where: Sequence[tuple[str, Any]], first: LiteralString) -> list[Composable]:
    # the texts are ours: see projections.page.Condition
    return [SQL(first), *(SQL(cast(LiteralString, text)) for text, _ in where)]


def _made(view: View[Any], make: Callable[..., T], lines: Sequence[tuple[Any, ...]]) -> list[T]:
    return Question(view, make, b"", {}).rows(lines)
