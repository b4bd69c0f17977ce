"""Keys whose fold failed: what is parked, and folding it again once the cause is gone.

Nothing of a parked key's events is copied anywhere: they wait in the log. Folding again reads them from there, in
order, and replaces the key's rows, so no event is applied twice or out of turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_type_hints
from uuid import UUID

import msgspec
import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from domain.store.casebook import House
from domain.store.mapper import Mapper
from projections import log
from projections.fold import STREAM_MARK, Failure, Folding, key_mark, opened, stream_mark
from projections.runner import park
from projections.table import Table
from projections.tracking import TOUCH
from projections.view import Key, View


@dataclass(frozen=True)
class Parked:
    """A key that waits since the event at `position`; `key` is `stream:<id>` or a row's key as a JSON array."""

    institution: str
    view: str
    key: str
    position: int
    topic: str
    error: str
    tries: int
    parked_at: datetime


_PARKED: Final = """
    SELECT institution, view, key, position, topic, error, tries, parked_at
    FROM parked
    WHERE (%(institution)s::text IS NULL OR institution = %(institution)s)
      AND (%(view)s::text IS NULL OR view = %(view)s)
    ORDER BY institution, view, position, key
"""


def parked(house: House, view: View[Any] | None = None, institution: str | None = None) -> list[Parked]:
    """What is parked, of one view and institution or of all, the longest waiting first in each."""
    values = {"institution": institution, "view": view.name if view else None}
    with house.everywhere.connection() as connection:
        return [Parked(*row) for row in connection.execute(_PARKED, values)]


def retry(house: House, view: View[Any], institution: str, key: str | UUID | Key) -> bool:
    """Fold a parked key again, in order, up to where the view stands; True if it is parked no longer.

    `key` is as `parked` lists it, or a stream's id, or a row's key. A key that is not parked is folded again all the
    same, which is what a row needs after a subject's key was destroyed.
    """
    mark = key if isinstance(key, str) else stream_mark(key) if isinstance(key, UUID) else key_mark(key)
    table = Table(view)
    with house.everywhere.connection() as connection, connection.transaction():
        row = connection.execute(
            "SELECT position FROM tracking WHERE institution = %s AND view = %s FOR UPDATE", (institution, view.name)
        ).fetchone()
        if row is None:
            return False
        connection.execute(TOUCH, (institution, view.name))
        failed = _folded_again(connection, house.mapper, table, institution, mark, row[0])
        if failed is None:
            connection.execute(
                "DELETE FROM parked WHERE institution = %s AND view = %s AND key = %s", (institution, view.name, mark)
            )
        else:
            park(connection, institution, view.name, {mark: failed})
        return failed is None


def _folded_again(
    connection: Connection[Any], mapper: Mapper, table: Table[Any], institution: str, mark: str, upto: int
) -> Failure | None:
    view = table.view
    try:
        # a savepoint, so that rows PostgreSQL refuses leave those that were there
        with connection.transaction():
            if not mark.startswith(STREAM_MARK):
                return _fold_key(connection, mapper, table, institution, key_of_mark(view, mark), upto)
            stream = UUID(mark.removeprefix(STREAM_MARK))
            if view.gathers:
                return _fold_waiting(connection, mapper, table, institution, stream, upto)
            return _fold_stream(connection, mapper, table, institution, stream, upto)
    except (psycopg.DataError, psycopg.IntegrityError) as problem:
        return Failure(upto, "", f"{type(problem).__name__} when the row was stored")


def key_of_mark(view: View[Any], mark: str) -> Key:
    """The key that a mark names."""
    hints = get_type_hints(view.row)
    values: list[Any] = msgspec.json.decode(mark)
    return tuple(msgspec.convert(v, hints[name]) for name, v in zip(view.key, values, strict=True))


def _fold_stream(
    connection: Connection[Any], mapper: Mapper, table: Table[Any], institution: str, stream: UUID, upto: int
) -> Failure | None:
    read = log.of_stream(connection, institution, stream, table.view.topics, position=upto)
    folding = Folding(table.view, institution)
    folding.fold(folding.split(opened(mapper, read)))
    connection.execute(
        SQL("DELETE FROM {} WHERE institution = %s AND {} = %s").format(
            Identifier(table.name), Identifier(table.view.key[0])
        ),
        (institution, stream),
    )
    table.copy(connection, [row for row in folding.rows.values() if row is not None])
    return folding.failed.get(stream_mark(stream))


def _fold_key(
    connection: Connection[Any], mapper: Mapper, table: Table[Any], institution: str, key: Key, upto: int
) -> Failure | None:
    """One key of a view that gathers, from the positions that made it."""
    read = log.at_positions(connection, institution, table.sources(connection, institution, key, upto))
    folding = Folding(table.view, institution)
    facts = [(r, [p for p in parts if p[0] == key]) for r, parts in folding.split(opened(mapper, read))]
    folding.fold(facts)
    table.delete(connection, institution, [key])
    table.copy(connection, [row for row in folding.rows.values() if row is not None])
    return next(iter(folding.failed.values()), None)


def _fold_waiting(
    connection: Connection[Any], mapper: Mapper, table: Table[Any], institution: str, stream: UUID, upto: int
) -> Failure | None:
    """The events of one stream that could not be told to which keys of a gathering view they belong."""
    since = connection.execute(
        "SELECT position FROM parked WHERE institution = %s AND view = %s AND key = %s",
        (institution, table.name, stream_mark(stream)),
    ).fetchone()
    first = since[0] if since else 1
    read = log.of_stream(connection, institution, stream, table.view.topics, position=upto)
    folding = Folding(table.view, institution)
    facts = folding.split(opened(mapper, [r for r in read if r.position >= first]))
    if folding.failed:
        return folding.failed[stream_mark(stream)]
    made = [(key, r.position) for r, parts in facts for key in dict.fromkeys(key for key, _ in parts)]
    known = {(key, p) for key in {key for key, _ in made} for p in table.sources(connection, institution, key, upto)}
    table.copy_sources(connection, institution, [m for m in made if m not in known])
    for key in dict.fromkeys(key for key, _ in made):
        failed = _fold_key(connection, mapper, table, institution, key, upto)
        if failed is not None:
            park(connection, institution, table.name, {key_mark(key): failed})
    return None
