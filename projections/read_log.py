"""What is asked of the log of reads: who saw whose personal data, the latest first (B22, B25).

Pages are by keyset, like those of views: a cursor is the time and the number of an entry. Every statement carries the
institution; each way to ask has its index in the migration.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Composed, Identifier

from domain.kernel import Refused
from projections.page import COUNT_MAX, Page, Slice
from projections.view import Row

CURSOR = "read_log"


@dataclass(kw_only=True)
class ReadRow(Row):
    """One entry. `position` is the institution's when it was stored; a read is of no stream, so `version` is 0."""

    read_at: datetime
    entry: int
    reader: UUID
    token_id: str
    road: str
    purpose: str | None
    document: bytes
    operation: str | None
    correlation: str
    view: str
    fields: list[str]
    subjects: list[UUID]
    glass: UUID | None


R = TypeVar("R", bound=ReadRow)
_OWN = [f.name for f in fields(ReadRow) if f.name not in ("version", "recorded_at")]


@dataclass(frozen=True, kw_only=True)
class ReadFilter:
    """Which entries; what is None does not narrow. `read_from` is included, `read_before` is not."""

    subject: UUID | None = None
    reader: UUID | None = None
    glass: UUID | None = None
    read_from: datetime | None = None
    read_before: datetime | None = None

    def sql(self, institution: str) -> tuple[Composed, Composed, list[Any]]:
        """The tables, the conditions and their values; `at` is the table that orders."""
        tables = SQL("read_log AS at")
        parts: list[Composable] = [SQL("at.institution = %s")]
        values: list[Any] = [institution]
        if self.subject is not None:
            tables = SQL("read_log_subject AS at JOIN read_log AS log USING (institution, read_at, entry)")
        of_log = Identifier("at" if self.subject is None else "log")
        known: list[tuple[Composable, Any]] = [
            (SQL("at.subject = %s"), self.subject),
            (SQL("{}.reader = %s").format(of_log), self.reader),
            (SQL("{}.glass = %s").format(of_log), self.glass),
            (SQL("at.read_at >= %s"), self.read_from),
            (SQL("at.read_at < %s"), self.read_before),
        ]
        for part, value in known:
            if value is not None:
                parts.append(part)
                values.append(value)
        return Composed([tables]), SQL(" AND ").join(parts), values


async def page_of_reads(
    connection: AsyncConnection[Any], institution: str, which: ReadFilter, slice: Slice, make: Callable[..., R]
) -> Page[R]:
    """One page of the entries of an institution, the latest first."""
    query, values = page_query(institution, which, slice)
    found = await (await connection.execute(query, values)).fetchall()
    more = len(found) > slice.size
    rows = [make(**dict(zip(_OWN, line, strict=True))) for line in found[: slice.size]]
    if slice.backwards:
        rows.reverse()
    return Page(
        rows=rows,
        cursors=[cursor_of(row) for row in rows],
        has_next=slice.before is not None if slice.backwards else more,
        has_previous=more if slice.backwards else slice.after is not None,
    )


def page_query(institution: str, which: ReadFilter, slice: Slice) -> tuple[Composed, list[Any]]:
    """The statement of a page and its values; refused for a cursor of another list."""
    tables, conditions, values = which.sql(institution)
    parts: list[Composable] = [conditions]
    for cursor, field, compare in ((slice.after, "after", SQL("<")), (slice.before, "before", SQL(">"))):
        if cursor is not None:
            parts.append(SQL("(at.read_at, at.entry) {} (%s::timestamptz, %s::bigint)").format(compare))
            values += _read(cursor, field)
    way = SQL("ASC" if slice.backwards else "DESC")
    query = SQL("SELECT {} FROM {} WHERE {} ORDER BY at.read_at {}, at.entry {} LIMIT %s").format(
        SQL(", ").join(map(Identifier, _OWN)), tables, SQL(" AND ").join(parts), way, way
    )
    return query, [*values, slice.size + 1]


async def count_of_reads(connection: AsyncConnection[Any], institution: str, which: ReadFilter) -> int:
    """How many entries there are of these, at most COUNT_MAX."""
    tables, conditions, values = which.sql(institution)
    query = SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {} LIMIT %s) AS counted").format(tables, conditions)
    row = await (await connection.execute(query, [*values, COUNT_MAX])).fetchone()
    assert row is not None
    return row[0]


def cursor_of(row: ReadRow) -> str:
    """The cursor of an entry."""
    words = json.dumps([CURSOR, row.read_at.isoformat(), row.entry], separators=(",", ":"))
    return base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")


def _read(cursor: str, field: str) -> list[Any]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        mark, at, entry = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if mark == CURSOR and isinstance(at, str) and type(entry) is int and 0 <= entry < 2**63:
            return [datetime.fromisoformat(at), entry]
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise Refused(
        "page.cursor",
        "This is no cursor of this list; take `endCursor` or `startCursor` of the page before.",
        field=field,
    )
