"""Verification: fold the log again and compare with what is stored, without trusting anything a view has kept."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection
from psycopg.sql import SQL, Identifier, Literal

from domain.store.casebook import House
from domain.store.mapper import Mapper
from projections import log
from projections.fold import Failure, collector_paused, key_mark, opened, stream_mark
from projections.runner import fold_into, parked_marks
from projections.streams import CHUNK, next_piece
from projections.table import Table
from projections.view import Key, Row, View


@dataclass(frozen=True)
class Difference:
    """Where a stored row is not what the log says. `field` is None when the whole row is missing or should not be."""

    institution: str
    key: Key
    field: str | None
    stored: Any
    folded: Any

    def __str__(self) -> str:
        where = f"{self.institution} {'/'.join(map(str, self.key))}"
        if self.field is not None:
            return f"{where}: {self.field} is stored as {self.stored!r}, the log says {self.folded!r}"
        return f"{where}: the row is missing" if self.stored is None else f"{where}: the log knows no such row"


@dataclass
class Verification:
    """What a verification found: how much was compared, how many rows differ, and the first of them in key order.

    Rows of parked keys are counted, not compared: they are known to be behind.
    """

    view: str
    rows: int = 0
    events: int = 0
    differing: int = 0
    parked: int = 0
    first: Difference | None = None
    positions: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def ok(self) -> bool:
        """Whether everything compared is as the log says."""
        return self.differing == 0

    def note(self, difference: Difference | None) -> None:
        """Count one compared row."""
        self.rows += 1
        if difference is not None:
            self.differing += 1
            self.first = self.first or difference


def verify(house: House, view: View[Any], institution: str | None = None, *, sample: int | None = None) -> Verification:
    """Fold again what the view has read, of one institution or of all, and compare every row and every field.

    Works on one snapshot per institution while the view goes on, with flat memory. With `sample`, only about so many
    streams of each institution, chosen at random (views that gather are always folded whole).
    """
    table = Table(view)
    found = Verification(view.name)
    with house.everywhere.connection() as connection:
        for name in [institution] if institution is not None else _institutions(connection, table):
            if view.gathers:
                _verify_gathered(connection, house.mapper, table, name, found)
                continue
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                found.positions[name] = _position(connection, table, name)
                _verify_streams(connection, house.mapper, table, name, found, sample)
    return found


def digest(house: House, view: View[Any], institution: str) -> str:
    """SHA-256 of a view's stored rows of one institution, byte for byte in key order: equal rows, equal digest."""
    table = Table(view)
    query = SQL(
        "COPY (SELECT {columns} FROM {table} WHERE institution = {institution} ORDER BY {key})"
        " TO STDOUT (FORMAT BINARY)"
    ).format(columns=table.columns, table=Identifier(table.name), institution=Literal(institution), key=table.key)
    hashed = hashlib.sha256()
    with house.everywhere.connection() as connection, connection.cursor().copy(query) as copy:
        for block in copy:
            hashed.update(block)
    return hashed.hexdigest()


def _institutions(connection: Connection[Any], table: Table[Any]) -> list[str]:
    # rows of an institution that never was are found too
    query = SQL("SELECT institution FROM institution_position UNION SELECT institution FROM {} ORDER BY 1")
    return [row[0] for row in connection.execute(query.format(Identifier(table.name)))]


def _position(connection: Connection[Any], table: Table[Any], institution: str) -> int:
    row = connection.execute(
        "SELECT position FROM tracking WHERE institution = %s AND view = %s", (institution, table.name)
    ).fetchone()
    return row[0] if row else 0


def _verify_streams(
    connection: Connection[Any],
    mapper: Mapper,
    table: Table[Any],
    institution: str,
    found: Verification,
    sample: int | None,
) -> None:
    head = found.positions[institution]
    waiting = parked_marks(connection, table, institution)
    spans = [(log.FIRST_STREAM, log.LAST_STREAM)] if sample is None else _spans(connection, table, institution, sample)
    for after, highest in spans:
        while after < highest:
            piece = next_piece(connection, mapper, table.view, institution, after, highest, head, CHUNK)
            with collector_paused():
                stored = table.of_streams(connection, institution, after, piece.upto)
                folded = {key: row for key, row in piece.rows.items() if row is not None}
                for key in sorted(stored.keys() | folded.keys()):
                    mark = stream_mark(key[0])
                    if mark in waiting:
                        found.parked += 1
                    elif mark in piece.failed:
                        found.note(_unfolded(institution, key, piece.failed[mark]))
                    else:
                        found.note(_difference(institution, key, stored.get(key), folded.get(key)))
            found.events += piece.events
            after = piece.upto


def _spans(connection: Connection[Any], table: Table[Any], institution: str, sample: int) -> list[tuple[UUID, UUID]]:
    """Some streams, each as the span that holds it alone: from the log and, for extra rows, from the table."""
    query = SQL(
        "SELECT (SELECT originator_id FROM event WHERE institution = %(i)s AND originator_id >= %(at)s"
        " ORDER BY originator_id LIMIT 1),"
        " (SELECT {key} FROM {table} WHERE institution = %(i)s AND {key} >= %(at)s ORDER BY {key} LIMIT 1)"
    ).format(key=Identifier(table.view.key[0]), table=Identifier(table.name))
    streams: set[UUID] = set()
    for _ in range(sample):
        row = connection.execute(query, {"i": institution, "at": uuid4()}).fetchone()
        streams.update(found for found in row or () if found is not None)
    chosen = random.sample(sorted(streams), min(sample, len(streams)))
    return [(UUID(int=stream.int - 1), stream) for stream in sorted(chosen)]


def _unfolded(institution: str, key: Key, failure: Failure) -> Difference:
    return Difference(institution, key, "position", None, f"{failure.error} at {failure.position}")


def _difference(institution: str, key: Key, stored: Row | None, folded: Row | None) -> Difference | None:
    if stored is None or folded is None:
        return Difference(institution, key, None, stored, folded)
    if stored == folded:
        return None
    for f in fields(folded):
        if getattr(stored, f.name) != getattr(folded, f.name):
            return Difference(institution, key, f.name, getattr(stored, f.name), getattr(folded, f.name))
    return None


def _verify_gathered(
    connection: Connection[Any], mapper: Mapper, table: Table[Any], institution: str, found: Verification
) -> None:
    """Fold in position order into temporary tables of the same names and kinds, then compare both in key order."""
    view = table.view
    again = Table(view, "__again")
    for name, like in ((again.name, table.name), (again.source, table.source)):
        connection.execute(
            SQL("CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING INDEXES)").format(Identifier(name), Identifier(like))
        )
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            head = found.positions[institution] = _position(connection, table, institution)
            waiting = parked_marks(connection, table, institution)
            failed: dict[str, Failure] = {}
            for after in range(0, head, CHUNK):
                with collector_paused():
                    read = log.by_position(connection, institution, after, min(head, after + CHUNK), view.topics)
                    if read:
                        failed |= fold_into(connection, again, institution, opened(mapper, read), waiting | set(failed))
                    found.events += len(read)
            for key, stored, folded in _paired(connection, table, again, institution):
                if key_mark(key) in waiting:
                    found.parked += 1
                elif key_mark(key) in failed:
                    found.note(_unfolded(institution, key, failed[key_mark(key)]))
                else:
                    found.note(_difference(institution, key, stored, folded))
            _verify_sources(connection, table, again, institution, found)
    finally:
        connection.execute(SQL("DROP TABLE {}, {}").format(Identifier(again.name), Identifier(again.source)))


def _paired(
    connection: Connection[Any], table: Table[Any], again: Table[Any], institution: str
) -> Iterator[tuple[Key, Row | None, Row | None]]:
    """Both tables' rows by key, some thousand keys at a time."""
    place: Key | None = None
    keys_after = SQL(
        "SELECT {key} FROM {stored} WHERE institution = %s {after}"
        " UNION SELECT {key} FROM {folded} WHERE institution = %s {after} ORDER BY {key} LIMIT 5000"
    )
    while True:
        after = SQL("AND ({}) > ({})").format(table.key, SQL(", ").join(SQL("%s") for _ in table.view.key))
        query = keys_after.format(
            key=table.key,
            stored=Identifier(table.name),
            folded=Identifier(again.name),
            after=after if place is not None else SQL(""),
        )
        keys = connection.execute(query, (institution, *(place or ())) * 2).fetchall()
        if not keys:
            return
        stored, folded = table.load(connection, institution, keys), again.load(connection, institution, keys)
        for key in keys:
            yield key, stored.get(key), folded.get(key)
        place = keys[-1]


def _verify_sources(
    connection: Connection[Any], table: Table[Any], again: Table[Any], institution: str, found: Verification
) -> None:
    query = SQL(
        "SELECT {key}, s.position, f.position FROM (SELECT * FROM {stored} WHERE institution = %s) AS s"
        " FULL JOIN (SELECT * FROM {folded} WHERE institution = %s) AS f USING (institution, {key}, position)"
        " WHERE s.institution IS NULL OR f.institution IS NULL ORDER BY {key}, coalesce(s.position, f.position)"
    ).format(key=table.key, stored=Identifier(table.source), folded=Identifier(again.source))
    for *key, stored, folded in connection.execute(query, (institution, institution)):
        found.differing += 1
        found.first = found.first or Difference(institution, tuple(key), "made by position", stored, folded)
