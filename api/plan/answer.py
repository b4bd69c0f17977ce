"""Puts an answer together from the lines a planned statement gave: the bytes the resolvers would have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.plan.sql import Part
from api.plan.statement import Columns
from api.plan.wire import Lines
from projections.page import Slice


def page(parts: Sequence[Part], lines: Lines, slice: Slice, columns: Columns) -> tuple[bytes, Lines]:
    """The bytes of a connection, and the lines that are its rows."""
    rows: list[Any] = lines
    count: Any = b""
    if columns.count is not None:
        count = lines[0][columns.count]
        rows = [line for line in lines if line[columns.there] == b"t"]
    more = len(rows) > slice.size
    if more:
        del rows[slice.size :]
    if slice.backwards:
        rows.reverse()
    said: list[bytes] = []
    place = 0
    for part in parts:
        match part.kind:
            case "edges":
                value = b"[%b]" % b",".join([row[place] for row in rows])
                place += 1
            case "count":
                value = b'"%b"' % count
            case "info":
                value = _info(part, rows, slice, more, columns.cursor)
            case _:
                value = part.text
        said.append(b'"%b":%b' % (part.key.encode(), value))
    return b"{%b}" % b",".join(said), rows


def _info(part: Part, rows: list[Any], slice: Slice, more: bool, cursor: Any) -> bytes:
    known = {
        "has_next_page": _bool(slice.before is not None if slice.backwards else more),
        "has_previous_page": _bool(more if slice.backwards else slice.after is not None),
        "start_cursor": b'"%b"' % rows[0][cursor] if rows else b"null",
        "end_cursor": b'"%b"' % rows[-1][cursor] if rows else b"null",
    }
    fields = [b'"%b":%b' % (key.encode(), known.get(what, what.encode())) for key, what in part.info]
    return b"{%b}" % b",".join(fields)


def _bool(value: bool) -> bytes:
    return b"true" if value else b"false"
