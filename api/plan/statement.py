"""The one statement of a question, and what its lines hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.plan.sql import Ask, Pages, Scope, cursor, joined, numbers


@dataclass(frozen=True)
class Columns:
    """Where a statement's lines have what, after one column for each `edges`.

    Whose personal data is shown begins at `shown`; `cursor` and `count` are None where they are not asked, and `there`
    says, if there is a count, whether the line is a row at all.
    """

    shown: int
    cursor: int | None
    count: int | None
    there: int


def columns(pages: Pages) -> Columns:
    """The columns of the statement of a root connection."""
    shown = sum(part.kind == "edges" for part in pages.parts)
    cursor = shown + len(pages.shown)
    count = cursor + pages.looks_further
    counts = any(part.kind == "count" for part in pages.parts)
    return Columns(shown, cursor if pages.looks_further else None, count if counts else None, count + 1)


def statement(pages: Pages, asks: Sequence[Ask]) -> bytes:
    """The statement of a root connection: a line per row, its columns as `columns` says.

    When the count is asked there is a line even if there is no row; the last column says whether there is one.
    """
    firsts = numbers(asks)
    ask, first = asks[pages.index], firsts[pages.index]
    scope = Scope(f"t{pages.index}", ask.pager, asks, firsts)
    given = [joined(part.pieces, scope) for part in pages.parts if part.kind == "edges"]
    given += [joined([whose], scope) for whose in pages.shown]
    if pages.looks_further:
        given.append(cursor(scope))
    rows = f"({ask.rows(first, ' + 1' if pages.looks_further else '')}) AS {scope.alias}"
    if any(part.kind == "count" for part in pages.parts):
        given += ["counted.n", f"{scope.alias}.institution IS NOT NULL"]
        rows = f"({ask.count(first)}) AS counted LEFT JOIN {rows} ON true"
    return f"SELECT {', '.join(given)} FROM {rows} ORDER BY {ask.order()}".encode()
