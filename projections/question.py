"""A question to a view: the SQL, the values bound to it and the row its answer is made as – not yet asked.

A function per question returns one; `ask` and `ask_async` put it to a connection. So the same question serves the
command line, which waits, and the edge, which does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, LiteralString, TypeVar

from psycopg import AsyncConnection, Connection
from psycopg.sql import SQL, Identifier

from projections.view import Key, Row, View

T = TypeVar("T", bound=Row)
U = TypeVar("U", bound=Row)


@dataclass(frozen=True)
class Question(Generic[T]):
    """What to ask a view; the answer is lines of all its columns, made into rows by `make`."""

    view: View[Any]
    make: Callable[..., T]
    query: bytes
    values: Mapping[str, Any]

    def made_as(self, make: Callable[..., U]) -> Question[U]:
        """The same question with its answer as another type that has the row's fields."""
        return replace(self, make=make)  # pyright: ignore[reportReturnType]  the type follows from what is replaced

    def rows(self, lines: Iterable[tuple[Any, ...]]) -> list[T]:
        """The rows of an answer."""
        names, loads = _reading(self.view)
        found: list[T] = []
        for line in lines:
            fields = dict(zip(names, line, strict=True))
            for name, load in loads:
                if fields[name] is not None:
                    fields[name] = load(fields[name])
            found.append(self.make(**fields))
        return found


def question(view: View[T], text: LiteralString, **values: Any) -> Question[T]:
    """The question in these words, where `{columns}` stands for the view's columns and values are named `%(…)s`."""
    return Question(view, view.row, _said(view, text), values)


def keyed(view: View[T], institution: str, keys: Sequence[Key]) -> Question[T]:
    """The rows with these whole keys, those that there are, in no order."""
    columns = zip(*keys, strict=True) if keys else [()] * len(view.key)
    values = {f"key_{n}": list(column) for n, column in enumerate(columns)}
    return Question(view, view.row, _keyed(view), {"institution": institution, **values})


def ask(connection: Connection[Any], question: Question[T]) -> list[T]:
    """The answer, in the order the question gives."""
    return question.rows(connection.execute(question.query, question.values).fetchall())


async def ask_async(connection: AsyncConnection[Any], question: Question[T]) -> list[T]:
    """The answer, in the order the question gives, on the event loop."""
    cursor = await connection.execute(question.query, question.values)
    return question.rows(await cursor.fetchall())


@cache
def _said(view: View[Any], text: LiteralString) -> bytes:
    columns = SQL(", ").join(Identifier(c.name) for c in view.columns)
    return SQL(text).format(columns=columns).as_bytes(None)


@cache
def _keyed(view: View[Any]) -> bytes:
    types = {c.name: c.type for c in view.columns}
    each = [
        SQL("%({})s::{}[]").format(SQL(f"key_{n}"), SQL(types[name]))  # pyright: ignore[reportArgumentType]  ours
        + SQL(' COLLATE "C"' if types[name] == "text" else "")
        for n, name in enumerate(view.key)
    ]
    text = SQL(
        "SELECT {} FROM {} WHERE institution = %(institution)s AND ({}) IN (SELECT * FROM unnest({}) AS wanted)"
    ).format(
        SQL(", ").join(Identifier(c.name) for c in view.columns),
        Identifier(view.name),
        SQL(", ").join(map(Identifier, view.key)),
        SQL(", ").join(each),
    )
    return text.as_bytes(None)


@cache
def _reading(view: View[Any]) -> tuple[list[str], list[tuple[str, Callable[[Any], Any]]]]:
    return [c.name for c in view.columns], [(c.name, c.load) for c in view.columns if c.load is not None]
