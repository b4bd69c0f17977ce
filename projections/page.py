"""Pages of a view by keyset: a cursor is the sort value and the key of a row, so rows may come and go beside a page.

Every statement carries the institution. What a cursor says is checked and bound as a value; one that was made for
another order, or by nobody, is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Generic, LiteralString, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Composed, Identifier

from domain.kernel import Refused
from projections.personal import personal_columns
from projections.view import Row, View

T = TypeVar("T", bound=Row)

PAGE_MAX = 100
"""Most rows of one page."""
PAGE_DEFAULT = 50
COUNT_MAX = 10_000
"""Counting stops here: a count of this much says "this many or more"."""

LAST = "infinity"
"""What stands in a cursor, and in the order, for an instant that is not set: such rows come last."""

Condition = tuple[LiteralString, Any]
"""An SQL condition with one place for its value, both ours; only the value comes from outside."""


@dataclass(frozen=True)
class Order:
    """An order rows can be paged in: by these columns and then by the key. Instants that are not set come last.

    `index` gives the rows in this order; where it says `of_few`, it finds the few rows of a parent, which are sorted.
    """

    columns: tuple[str, ...]
    descending: bool = False
    index: str = ""
    of_few: bool = False


@dataclass(frozen=True)
class Slice:
    """Which page is asked for, as in Relay: `first` rows after `after`, or `last` rows before `before`."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None:
            raise Refused("page.both_ends", "Ask for `first` or for `last`, not for both.", field="last")
        for name, size in (("first", self.first), ("last", self.last)):
            if size is not None and not 1 <= size <= PAGE_MAX:
                raise Refused("page.size", f"A page has 1 to {PAGE_MAX} rows; ask for {name} accordingly.", field=name)

    @property
    def size(self) -> int:
        """How many rows at most."""
        return self.first or self.last or PAGE_DEFAULT

    @property
    def backwards(self) -> bool:
        """Whether the page is counted from its end."""
        return self.last is not None


@dataclass(frozen=True)
class Page(Generic[T]):
    """Rows in order with their cursors, and whether there are more on either side."""

    rows: list[T]
    cursors: list[str]
    has_next: bool
    has_previous: bool


class Pager(Generic[T]):
    """Pages of one view in one order, made as `make` (the row type, or a type that inherits it)."""

    def __init__(self, view: View[Any], make: Callable[..., T], order: Order) -> None:
        self.view = view
        self.make = make
        self.order = order
        self._by = (*order.columns, *(k for k in view.key if k not in order.columns))
        # whoever sees a mask could learn the value from its place, and anybody from the cursor
        assert not personal_columns(view.row).keys() & set(self._by), f"{view.name}: no order is by personal data"
        columns = {c.name: c for c in view.columns}
        self._types = [columns[name].type for name in self._by]
        self._sorts = [_sort(columns[name].name, columns[name].type, columns[name].nullable) for name in self._by]
        self._loads = [(c.name, c.load) for c in view.columns if c.load is not None]
        self._names = [c.name for c in view.columns]
        self._columns = SQL(", ").join(map(Identifier, self._names))

    async def page(
        self, connection: AsyncConnection[Any], institution: str, slice: Slice, where: Sequence[Condition] = ()
    ) -> Page[T]:
        """One page of the rows of an institution that meet the conditions."""
        conditions, values = self._conditions(institution, slice, where)
        query = SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT %s").format(
            self._columns, Identifier(self.view.name), conditions, self._order(slice.backwards)
        )
        cursor = await connection.execute(query, (*values, slice.size + 1))
        return self._page(await cursor.fetchall(), slice)

    async def pages(
        self, connection: AsyncConnection[Any], institution: str, parent: str, parents: Sequence[UUID], slice: Slice
    ) -> Mapping[UUID, Page[T]]:
        """The same page of each of these parents, by one statement; `parent` is the column that names it."""
        conditions, values = self._conditions(institution, slice, ())
        query = SQL(
            "SELECT page.* FROM unnest(%s::uuid[]) AS parent (id)"
            " CROSS JOIN LATERAL (SELECT {} FROM {} WHERE {} = parent.id AND {} ORDER BY {} LIMIT %s) AS page"
        ).format(
            self._columns,
            Identifier(self.view.name),
            Identifier(parent),
            conditions,
            self._order(slice.backwards),
        )
        rows = await (await connection.execute(query, (list(parents), *values, slice.size + 1))).fetchall()
        place = self._names.index(parent)
        found: dict[UUID, list[tuple[Any, ...]]] = {id: [] for id in parents}
        for row in rows:
            found[row[place]].append(row)
        return {id: self._page(rows, slice) for id, rows in found.items()}

    def of(self, column: str, value: Any) -> Condition:
        """The condition that a column of the view holds this value."""
        assert column in self._names, f"{self.view.name} has no column {column}"
        return f'"{column}" = %s', value  # pyright: ignore[reportReturnType]  a column's name is ours

    def page_of(self, rows: Iterable[T], slice: Slice) -> Page[T]:
        """The same page of rows that are in memory, in this order."""
        ordered = sorted(rows, key=self._place, reverse=self.order.descending)
        cursors = [self.cursor(row) for row in ordered]
        low, high = 0, len(ordered)
        for cursor, field in ((slice.after, "after"), (slice.before, "before")):
            if cursor is None:
                continue
            self._read(cursor, field)
            if cursor not in cursors:
                raise Refused("page.cursor", "This row is not among those asked for; begin again.", field=field)
            if field == "after":
                low = cursors.index(cursor) + 1
            else:
                high = cursors.index(cursor)
        begin, end = (max(low, high - slice.size), high) if slice.backwards else (low, min(high, low + slice.size))
        return Page(ordered[begin:end], cursors[begin:end], has_next=end < len(ordered), has_previous=begin > 0)

    def _place(self, row: T) -> list[tuple[bool, Any]]:
        return [((value := getattr(row, name)) is None, value) for name in self._by]

    async def count(self, connection: AsyncConnection[Any], institution: str, where: Sequence[Condition] = ()) -> int:
        """How many rows meet the conditions, at most COUNT_MAX."""
        conditions, values = self._conditions(institution, Slice(), where)
        query = SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {} LIMIT %s) AS counted").format(
            Identifier(self.view.name), conditions
        )
        row = await (await connection.execute(query, (*values, COUNT_MAX))).fetchone()
        assert row is not None
        return row[0]

    def cursor(self, row: Row) -> str:
        """The cursor of a row."""
        words = [[*self.order.columns, self.order.descending], *(_said(getattr(row, name)) for name in self._by)]
        return base64.urlsafe_b64encode(json.dumps(words, separators=(",", ":")).encode()).decode().rstrip("=")

    def _read(self, cursor: str, field: str) -> list[str]:
        try:
            words: Any = json.loads(base64.b64decode(_padded(cursor), altchars=b"-_", validate=True))
            order, *said = words
            if order == [*self.order.columns, self.order.descending] and len(said) == len(self._by):
                return [_checked(word, type_) for word, type_ in zip(said, self._types, strict=True)]
        except (binascii.Error, ValueError, TypeError, RecursionError):
            pass
        raise Refused(
            "page.cursor",
            "This is no cursor of this list in this order; take `endCursor` or `startCursor` of the page before.",
            field=field,
        )

    def _conditions(self, institution: str, slice: Slice, where: Sequence[Condition]) -> tuple[Composed, list[Any]]:
        parts: list[Composable] = [SQL("institution = %s"), *(SQL(text) for text, _ in where)]
        values: list[Any] = [institution, *(value for _, value in where)]
        for cursor, field, later in ((slice.after, "after", True), (slice.before, "before", False)):
            if cursor is None:
                continue
            compare = SQL(">") if later != self.order.descending else SQL("<")
            places = SQL(", ").join(SQL("%s::" + type_) for type_ in self._types)  # pyright: ignore[reportArgumentType]
            parts.append(SQL("({}) {} ({})").format(SQL(", ").join(self._sorts), compare, places))
            values += self._read(cursor, field)
        return SQL(" AND ").join(parts), values

    def _order(self, backwards: bool) -> Composed:
        way = SQL(" DESC") if backwards != self.order.descending else SQL(" ASC")
        return SQL(", ").join(sort + way for sort in self._sorts)

    def _page(self, found: list[tuple[Any, ...]], slice: Slice) -> Page[T]:
        more = len(found) > slice.size
        rows = [self._row(values) for values in found[: slice.size]]
        if slice.backwards:
            rows.reverse()
        return Page(
            rows=rows,
            cursors=[self.cursor(row) for row in rows],
            has_next=slice.before is not None if slice.backwards else more,
            has_previous=more if slice.backwards else slice.after is not None,
        )

    def _row(self, values: tuple[Any, ...]) -> T:
        fields = dict(zip(self._names, values, strict=True))
        for name, load in self._loads:
            if fields[name] is not None:
                fields[name] = load(fields[name])
        return self.make(**fields)


def _sort(name: str, type_: str, nullable: bool) -> Composed:
    if not nullable:
        return Composed([Identifier(name)])
    assert type_ == "timestamp with time zone", f"{name} may be missing: rows cannot be ordered by it"
    # not coalesce, which PostgreSQL takes for leaky: under row-level security it would not look for it in an index
    return SQL("CASE WHEN {0} IS NULL THEN 'infinity' ELSE {0} END").format(Identifier(name))


def _said(value: Any) -> str:
    if value is None:
        return LAST
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value.value if isinstance(value, Enum) else value)


def _checked(word: Any, type_: str) -> str:
    """The word of a cursor if it can be a value of this column; raises ValueError or TypeError."""
    if not isinstance(word, str) or "\x00" in word:
        raise TypeError(word)
    word.encode()  # refuses what is no Unicode
    if type_ == "uuid":
        UUID(word)
    elif type_ == "bigint":
        if not -(2**63) <= int(word) < 2**63:
            raise ValueError(word)
        return str(int(word))
    elif type_ == "timestamp with time zone" and word != LAST:
        return datetime.fromisoformat(word).isoformat()
    return word


def _padded(cursor: str) -> bytes:
    return cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
