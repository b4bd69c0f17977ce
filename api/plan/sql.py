"""SQL that writes JSON: what a planned selection is made of, and the one statement it becomes.

A selection is a list of pieces: text that is the same for every row, and functions that say in SQL how the rest is
written. Pieces are joined by `||`; the bytes equal what the resolvers and `orjson` write. Of what a client wrote, only
response keys are in the text, which GraphQL's grammar keeps to letters, digits and `_`; every value is bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from projections import page
from projections.page import Condition, Pager, Slice
from projections.view import Column

_TIME = "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
_FORMS = {
    "text": "to_json({0})::text",
    "text[]": "to_json({0})::text",
    "uuid[]": "to_json({0})::text",
    "bigint": "'\"' || {0} || '\"'",
    "uuid": "'\"' || {0} || '\"'",
    "numeric": "'\"' || {0} || '\"'",
    "boolean": "{0}::text",
    "timestamp with time zone": f"'\"' || {_TIME} || '+00:00\"'",
    "timestamp with time zone[]": (
        f"'[' || array_to_string(ARRAY(SELECT '\"' || {_TIME.format('one.at')} || '+00:00\"'"
        " FROM unnest({0}) WITH ORDINALITY AS one (at, n) ORDER BY one.n), ',') || ']'"
    ),
}
INSTITUTION, NOW, FIRST_FREE = "$1", "$2", 3
"""The values every statement has: the principal's institution and the moment of the request."""

_WORDS = {"text": "'\"' || upper({0} COLLATE \"C\") || '\"'", "text[]": 'upper(to_json({0})::text COLLATE "C")'}
# json.dumps, which makes cursors, writes what is not printable ASCII as UTF-16
_UTF16 = (
    "CASE WHEN ascii(one.c) < 127 THEN one.c WHEN ascii(one.c) < 65536 THEN '\\u' || lpad(to_hex(ascii(one.c)), 4, '0')"
    " ELSE '\\u' || to_hex(55296 + ((ascii(one.c) - 65536) >> 10))"
    " || '\\u' || to_hex(56320 + (ascii(one.c) & 1023)) END"
)
_ASCII = (
    "CASE WHEN octet_length({0}) = length({0}) AND strpos({0}, chr(127)) = 0 THEN to_json({0})::text"
    " ELSE array_to_string(ARRAY(SELECT "
    + _UTF16
    + " FROM string_to_table(to_json({0})::text, NULL) WITH ORDINALITY AS one (c, n) ORDER BY one.n), '') END"
)
_ISO = (
    "'\"' || coalesce(to_char({0} AT TIME ZONE 'UTC', CASE WHEN date_trunc('second', {0}) = {0}"
    " THEN 'YYYY-MM-DD\"T\"HH24:MI:SS' ELSE 'YYYY-MM-DD\"T\"HH24:MI:SS.US' END) || '+00:00', 'infinity') || '\"'"
)


class Ask:
    """One page as a request asks for it, or without `rows` its count. Raises Refused for a cursor of another list."""

    def __init__(self, pager: Pager[Any], slice: Slice, where: Sequence[Condition] = (), *, rows: bool = True) -> None:
        self.pager = pager
        self.slice = slice
        self._where = [text for text, _ in where]
        self.values = [value for _, value in where]
        for cursor, name in ((slice.after, "after"), (slice.before, "before")):
            if cursor is not None:
                read = pager._read(cursor, name)
                # a value no condition names has no type
                self.values += read if rows else ()
        self.values.append(slice.size)

    @property
    def shape(self) -> Hashable:
        """What the SQL depends on; two pages of one shape differ in their values alone."""
        slice = self.slice
        return self.pager, slice.backwards, slice.after is None, slice.before is None, *self._where

    def conditions(self, first: int, *, cursors: bool = True) -> tuple[str, int]:
        """The conditions, their values numbered from `first` on, and the number after the last."""
        parts, number = [f"institution = {INSTITUTION}"], first
        for text in self._where:
            parts.append(text.replace("%s", f"${number}"))
            number += 1
        later = [
            later for cursor, later in ((self.slice.after, True), (self.slice.before, False)) if cursor is not None
        ]
        for one in later if cursors else ():
            places = ", ".join(f"${number + n}::{type_}" for n, type_ in enumerate(self.pager._types))
            compare = ">" if one != self.pager.order.descending else "<"
            parts.append(f"({', '.join(sorts(self.pager))}) {compare} ({places})")
            number += len(self.pager._types)
        return " AND ".join(parts), number

    def order(self) -> str:
        """The order rows are read in."""
        way = "DESC" if self.slice.backwards != self.pager.order.descending else "ASC"
        return ", ".join(f"{sort} {way}" for sort in sorts(self.pager))

    def rows(self, first: int, more: str, parent: str = "") -> str:
        """The rows of the page and, if `more` says so, the one after."""
        conditions, number = self.conditions(first)
        return (
            f'SELECT * FROM "{self.pager.view.name}" WHERE {parent}{conditions} ORDER BY {self.order()}'
            f" LIMIT ${number}::bigint{more}"
        )

    def size(self, first: int) -> str:
        """The number of the value that says how many rows."""
        return f"${first + len(self.values) - 1}::bigint"

    def count(self, first: int, parent: str = "") -> str:
        """How many rows meet the conditions, whatever the page."""
        conditions, _ = self.conditions(first, cursors=False)
        return (
            f'SELECT count(*) AS n FROM (SELECT FROM "{self.pager.view.name}" WHERE {parent}{conditions}'
            f" LIMIT {page.COUNT_MAX}) AS counted"
        )


@dataclass(frozen=True)
class Scope:
    """Where a piece is written: beside which rows, and the pages of the request with the numbers of their values."""

    alias: str
    pager: Pager[Any] | None
    asks: Sequence[Ask]
    firsts: Sequence[int]


Piece = str | Callable[[Scope], str]


@dataclass(frozen=True)
class Link:
    """The rows of another view that name this row: `child` is their column, `parent` this row's."""

    child: str
    parent: str


@dataclass(frozen=True)
class Part:
    """One field of a connection: `edges` with their pieces, `info` with its fields, `count`, or text."""

    key: str
    kind: str
    pieces: Sequence[Piece] = ()
    info: Sequence[tuple[str, str]] = ()

    @property
    def text(self) -> bytes:
        """What it says when it is always the same."""
        return "".join(map(str, self.pieces)).encode()


@dataclass(frozen=True)
class Pages:
    """A connection that is asked for: the how-manieth of the operation, and what of it."""

    index: int
    parts: Sequence[Part]
    link: Link | None = None
    shown: Sequence[Piece] = ()
    """Whose personal data each row shows unmasked, as SQL that is null where there is none."""

    @property
    def looks_further(self) -> bool:
        """Whether it is asked what lies beside the page."""
        return any(part.kind == "info" for part in self.parts)


def column(column: Column, words: bool) -> Piece:
    """A column as JSON; `words`: one of a closed set, or several. Raises KeyError for a type that has no form."""
    form = (_WORDS if words else _FORMS)[column.type]
    said = f"coalesce({form}, 'null')" if column.nullable else form
    return lambda scope: said.format(f'{scope.alias}."{column.name}"')


def cursor(scope: Scope) -> str:
    """The cursor of a row, without quotes, as `Pager.cursor` writes it."""
    pager = scope.pager
    assert pager is not None
    begin = json.dumps([*pager.order.columns, pager.order.descending], separators=(",", ":"))
    words = [_word(f'{scope.alias}."{name}"', type_) for name, type_ in zip(pager._by, pager._types, strict=True)]
    text = f"'[{begin},' || " + " || ',' || ".join(words) + " || ']'"
    return f"translate(encode(convert_to({text}, 'UTF8'), 'base64'), E'+/=\\n', '-_')"


def _word(column: str, type_: str) -> str:
    form = _ASCII if type_ == "text" else _ISO if type_.startswith("timestamp") else "'\"' || {0} || '\"'"
    return f"({form.format(column)})"


def sorts(pager: Pager[Any]) -> list[str]:
    """What rows are ordered by."""
    return [sort.as_string(None) for sort in pager._sorts]


def joined(pieces: Sequence[Piece], scope: Scope) -> str:
    """The pieces as one text in SQL."""
    said: list[str] = []
    for literal, several in groupby(pieces, lambda piece: isinstance(piece, str)):
        if literal:
            said.append("'" + "".join(map(str, several)).replace("'", "''") + "'::text")
        else:
            said += [f"({piece(scope)})" for piece in several if not isinstance(piece, str)]
    return " || ".join(said)


def members(fields: Sequence[tuple[str, Sequence[Piece]]]) -> list[Piece]:
    """The pieces of an object with these members."""
    pieces: list[Piece] = []
    for key, value in fields:
        pieces += [("," if pieces else "{") + f'"{key}":', *value]
    return [*pieces, "}"] if pieces else ["{}"]


def other(fields: Sequence[Piece], index: int, view: str, key: str, column: str) -> Piece:
    """The row of another view whose `key` is in this row's `column`, or null: a subquery for each row."""
    found = of_other(fields, index, view, key, column)
    return lambda scope: f"coalesce({found(scope)}, 'null')"


def of_other(fields: Sequence[Piece], index: int, view: str, key: str, column: str) -> Callable[[Scope], str]:
    """These pieces of the row of another view; nothing if there is none."""

    def said(scope: Scope) -> str:
        below = Scope(f"o{index}", None, scope.asks, scope.firsts)
        rows = f'SELECT * FROM "{view}" WHERE institution = {INSTITUTION} AND "{key}" = {scope.alias}."{column}"'
        return f"(SELECT {joined(fields, below)} FROM ({rows}) AS {below.alias})"

    return said


def nested(pages: Pages) -> Piece:
    """The pages of a row's own rows: a subquery for each row."""
    return lambda scope: _further(pages, scope) if pages.looks_further else _plain(pages, scope)


def _plain(pages: Pages, scope: Scope) -> str:
    ask, first, parent, below = _below(pages, scope)

    def edges(part: Part) -> Piece:
        rows = f"{ask.rows(first, '', parent)}"
        way = "DESC" if ask.pager.order.descending else "ASC"
        order = ", ".join(f"{sort} {way}" for sort in sorts(ask.pager))
        text = joined(part.pieces, below)
        return lambda _: f"array_to_string(ARRAY(SELECT {text} FROM ({rows}) AS {below.alias} ORDER BY {order}), ',')"

    return joined(members([(part.key, _part(part, edges, ask, first, parent)) for part in pages.parts]), scope)


def _further(pages: Pages, scope: Scope) -> str:
    ask, first, parent, below = _below(pages, scope)
    size, turned = ask.size(first), " DESC" if ask.slice.backwards else ""
    edges = [part for part in pages.parts if part.kind == "edges"]
    given = [f"{joined(part.pieces, below)} AS f{n}, " for n, part in enumerate(edges)]

    def within(part: Part) -> Piece:
        text = f"page.f{edges.index(part)}"
        return lambda _: (
            f"coalesce(string_agg({text}, ',' ORDER BY page.n{turned}) FILTER (WHERE page.n <= {size}), '')"
        )

    outermost = f"(array_agg(page.c ORDER BY page.n))[least(count(*), {size})]"
    ends = ["max(page.c) FILTER (WHERE page.n = 1)", outermost]
    start, end = reversed(ends) if ask.slice.backwards else ends
    more = f"(count(*) > {size})::text"
    said = {
        "start_cursor": f"coalesce('\"' || {start} || '\"', 'null')",
        "end_cursor": f"coalesce('\"' || {end} || '\"', 'null')",
        "has_next_page": f"'{_json(ask.slice.before is not None)}'" if ask.slice.backwards else more,
        "has_previous_page": more if ask.slice.backwards else f"'{_json(ask.slice.after is not None)}'",
    }
    fields = [(part.key, _part(part, within, ask, first, parent, said)) for part in pages.parts]
    numbered = (
        f"SELECT {''.join(given)}{cursor(below)} AS c, row_number() OVER (ORDER BY {ask.order()}) AS n"
        f" FROM ({ask.rows(first, ' + 1', parent)}) AS {below.alias}"
    )
    # HAVING makes it one row, whatever is asked
    return f"SELECT {joined(members(fields), scope)} FROM ({numbered}) AS page HAVING true"


def _below(pages: Pages, scope: Scope) -> tuple[Ask, int, str, Scope]:
    link, ask, first = pages.link, scope.asks[pages.index], scope.firsts[pages.index]
    assert link is not None
    below = Scope(f"t{pages.index}", ask.pager, scope.asks, scope.firsts)
    return ask, first, f'"{link.child}" = {scope.alias}."{link.parent}" AND ', below


def _part(
    part: Part, edges: Callable[[Part], Piece], ask: Ask, first: int, parent: str, said: Mapping[str, str] | None = None
) -> Sequence[Piece]:
    if part.kind == "edges":
        return ["[", edges(part), "]"]
    if part.kind == "count":
        return ['"', lambda _: f"({ask.count(first, parent)})::text", '"']
    if part.kind == "info":
        known = said or {}
        return members([(key, [_sql(known[what])] if what in known else [what]) for key, what in part.info])
    return part.pieces


def _sql(text: str) -> Piece:
    return lambda _: text


def _json(value: bool) -> str:
    return "true" if value else "false"


def numbers(asks: Sequence[Ask]) -> list[int]:
    """The number of each page's first value."""
    found: list[int] = []
    number = FIRST_FREE
    for ask in asks:
        found.append(number)
        number += len(ask.values)
    return found
