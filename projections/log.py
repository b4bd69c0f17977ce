"""Reading the event table: by position, by stream, and some positions only; always of one institution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.sql import SQL, Composed

from domain.store.recorder import COLUMNS, Recorded

NAMES = tuple(name.strip() for name in COLUMNS.split(","))

FIRST_STREAM = UUID(int=0)
LAST_STREAM = UUID(int=2**128 - 1)

_SELECT = SQL("SELECT " + COLUMNS + " FROM event WHERE institution = %s ")


def by_position(
    connection: Connection[Any], institution: str, after: int, upto: int, topics: Iterable[str]
) -> list[Recorded]:
    """The events of these topics with after < position <= upto, in position order."""
    return _read(
        connection,
        _SELECT + SQL("AND position > %s AND position <= %s AND topic = ANY(%s) ORDER BY position"),
        (institution, after, upto, list(topics)),
    )


def by_stream(
    connection: Connection[Any],
    institution: str,
    after: tuple[UUID, int],
    highest: UUID,
    head: int,
    topics: Iterable[str],
    limit: int,
) -> list[Recorded]:
    """The next events of these topics after a stream and version, up to the stream `highest` and position `head`."""
    return _read(
        connection,
        _SELECT
        + SQL(
            "AND (originator_id, originator_version) > (%s, %s) AND originator_id <= %s AND position <= %s"
            " AND topic = ANY(%s) ORDER BY originator_id, originator_version LIMIT %s"
        ),
        (institution, *after, highest, head, list(topics), limit),
    )


def of_stream(
    connection: Connection[Any],
    institution: str,
    stream: UUID,
    topics: Iterable[str],
    *,
    version: int | None = None,
    position: int | None = None,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> list[Recorded]:
    """The events of one stream in version order, only those up to each bound that is given."""
    query = _SELECT + SQL("AND originator_id = %s AND topic = ANY(%s)")
    bounds, values = _bounds(version=version, position=position, occurred_at=occurred_at, recorded_at=recorded_at)
    query += bounds + SQL(" ORDER BY originator_version")
    return _read(connection, query, (institution, stream, list(topics), *values))


def at_positions(
    connection: Connection[Any],
    institution: str,
    positions: Sequence[int],
    *,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> list[Recorded]:
    """The events at these positions in position order, only those up to each bound that is given."""
    bounds, values = _bounds(occurred_at=occurred_at, recorded_at=recorded_at)
    query = _SELECT + SQL("AND position = ANY(%s)") + bounds + SQL(" ORDER BY position")
    return _read(connection, query, (institution, list(positions), *values))


def _bounds(
    *,
    version: int | None = None,
    position: int | None = None,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> tuple[Composed, list[Any]]:
    text, values = Composed([]), list[Any]()
    if version is not None:
        text, values = text + SQL(" AND originator_version <= %s"), [*values, version]
    if position is not None:
        text, values = text + SQL(" AND position <= %s"), [*values, position]
    if occurred_at is not None:
        text, values = text + SQL(" AND occurred_at <= %s"), [*values, occurred_at]
    if recorded_at is not None:
        text, values = text + SQL(" AND recorded_at <= %s"), [*values, recorded_at]
    return text, values


def _read(connection: Connection[Any], query: Composed, values: tuple[Any, ...]) -> list[Recorded]:
    rows = connection.cursor(binary=True).execute(query, values, prepare=True).fetchall()
    found: list[Recorded] = []
    for row in rows:
        # a frozen dataclass's own constructor costs as much as decoding the event
        recorded = object.__new__(Recorded)
        recorded.__dict__.update(zip(NAMES, row, strict=True))
        found.append(recorded)
    return found
