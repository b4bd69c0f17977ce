"""A view's rows in PostgreSQL: loaded by key, replaced by key, copied in; always of one institution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Generic
from uuid import UUID

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from domain.store.staging import copy_in, copy_in_secured
from projections.view import Column, Key, R, View

NEXT = "__next"
"""What the name of a table ends in while a rebuild fills it beside the view."""


class Table(Generic[R]):
    """The table of a view, or the one a rebuild fills beside it (`suffix=NEXT`); tracking knows it by its `name`."""

    def __init__(self, view: View[R], suffix: str = "") -> None:
        self.view = view
        self.name = view.name + suffix
        self.source = f"{view.name}_source{suffix}"
        keyed = [next(c for c in view.columns if c.name == k) for k in view.key]
        self.key_columns: tuple[Column, ...] = tuple(keyed)
        names = [c.name for c in view.columns]
        self._fields = attrgetter(*names)
        self._loads = [(c.name, c.load) for c in view.columns if c.load is not None]
        self._dumps = [(i, c.dump) for i, c in enumerate(view.columns) if c.dump is not None]
        self._types = [c.type for c in view.columns]
        self._source_types = ["text", *(c.type for c in keyed), "bigint"]
        self.columns = SQL(", ").join(map(Identifier, names))
        self.key = SQL(", ").join(map(Identifier, view.key))
        self._load = self._keyed("SELECT {columns} FROM {table} JOIN {wanted} USING ({key}) WHERE institution = %s")
        self._delete = self._keyed(
            "DELETE FROM {table} USING {wanted} WHERE {table}.institution = %s AND ({own}) = ({asked})"
        )
        self._source_columns = SQL("institution, {}, position").format(self.key)
        # what a rebuild fills, or verification folds again, is nobody else's yet and has no row security
        self._copy_in = copy_in if suffix else copy_in_secured

    def _keyed(self, text: Any) -> Composed:
        wanted = SQL("unnest({}) AS wanted ({})").format(
            SQL(", ").join(SQL("%s::" + c.type + "[]") for c in self.key_columns),  # pyright: ignore[reportArgumentType]
            self.key,
        )
        return SQL(text).format(
            columns=self.columns,
            table=Identifier(self.name),
            wanted=wanted,
            key=self.key,
            own=SQL(", ").join(Identifier(self.name, k) for k in self.view.key),
            asked=SQL(", ").join(Identifier("wanted", k) for k in self.view.key),
        )

    def key_of(self, row: R) -> Key:
        """The key of a row, in the order of the view's key fields."""
        return tuple([getattr(row, k) for k in self.view.key])

    def load(self, connection: Connection[Any], institution: str, keys: Sequence[Key]) -> dict[Key, R | None]:
        """The rows that there are of these keys, ready to be folded into."""
        if not keys:
            return {}
        return {self.key_of(r): r for r in self.select(connection, self._load, (*_unzip(keys), institution))}

    def of_streams(self, connection: Connection[Any], institution: str, after: UUID, upto: UUID) -> dict[Key, R]:
        """All rows whose first key field is a stream with after < stream <= upto."""
        first = Identifier(self.view.key[0])
        query = SQL("SELECT {} FROM {} WHERE institution = %s AND {} > %s AND {} <= %s").format(
            self.columns, Identifier(self.name), first, first
        )
        return {self.key_of(r): r for r in self.select(connection, query, (institution, after, upto))}

    def select(self, connection: Connection[Any], query: Composed, values: Sequence[Any]) -> list[R]:
        """The rows a query gives that selects `columns`."""
        names = [c.name for c in self.view.columns]
        make, loads = self.view.row, self._loads
        found: list[R] = []
        for row in connection.cursor(binary=True).execute(query, values).fetchall():
            fields = dict(zip(names, row, strict=True))
            for name, load in loads:
                if fields[name] is not None:
                    fields[name] = load(fields[name])
            found.append(make(**fields))
        return found

    def delete(self, connection: Connection[Any], institution: str, keys: Sequence[Key]) -> None:
        """Remove the rows of these keys."""
        if keys:
            connection.execute(self._delete, (*_unzip(keys), institution))

    def copy(self, connection: Connection[Any], rows: Iterable[R]) -> None:
        """Add rows that are not there yet."""
        fields: Callable[[R], tuple[Any, ...]] = self._fields
        dumps = self._dumps

        def values() -> Iterator[Sequence[Any]]:
            for row in rows:
                if not dumps:
                    yield fields(row)
                    continue
                changed = list(fields(row))
                for i, dump in dumps:
                    if changed[i] is not None:
                        changed[i] = dump(changed[i])
                yield changed

        self._copy_in(connection, self.name, self.columns, self._types, values())

    def copy_sources(self, connection: Connection[Any], institution: str, made: Iterable[tuple[Key, int]]) -> None:
        """Keep which positions made which keys, for a view that gathers."""
        rows = ((institution, *key, position) for key, position in made)
        self._copy_in(connection, self.source, self._source_columns, self._source_types, rows)

    def sources(self, connection: Connection[Any], institution: str, key: Key, upto: int) -> list[int]:
        """The positions up to `upto` that made one key of a view that gathers, ascending."""
        query = SQL("SELECT position FROM {} WHERE institution = %s AND ({}) = ({}) AND position <= %s").format(
            Identifier(self.source), self.key, SQL(", ").join(SQL("%s") for _ in key)
        )
        return sorted(row[0] for row in connection.execute(query, (institution, *key, upto)))


def _unzip(keys: Sequence[Key]) -> list[list[Any]]:
    return [list(values) for values in zip(*keys, strict=True)]
