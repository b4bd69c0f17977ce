"""Many filters of one view evaluated by one statement: the filters are a table, joined to the rows they may meet.

The conditions are those of `projections.filter`, word for word, with a column of that table where a value has its
place; so a filter meets the same rows here as in a list. The statement's text does not depend on the filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import LiteralString, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson
from psycopg.sql import SQL, Composable, Identifier

from projections.filter import Filter, Narrowing, narrowings

_TYPES = {UUID: "uuid", datetime: "timestamptz", bool: "boolean", str: "text", int: "bigint"}


def as_table(filters: Mapping[int, Filter]) -> str:
    """These filters, each with its number, as the value that `met_by` has a place for."""
    return orjson.dumps(
        [{_NUMBER: number} | {_column(name): value for name, value in one.values()} for number, one in filters.items()]
    ).decode()


@cache
def met_by(of: type[Filter]) -> Composable:
    """A FROM item `met (steady, now)` for a row of the filter's view before it: the numbers of the filters it meets.

    `now` are those it meets, `steady` those it meets but for what depends on the moment of the request; both are null
    where there are none. It has one place, for what `as_table` gives.
    """
    columns = SQL(", ").join(
        [
            SQL("{} integer").format(Identifier(_NUMBER)),
            *(
                SQL("{} {}").format(Identifier(_column(name)), SQL(cast(LiteralString, _type(of, name))))
                for name, _ in narrowings(of)
            ),
        ]
    )
    return SQL(
        """LATERAL (
            SELECT array_agg({number}), array_agg({number}) FILTER (WHERE {passing})
            FROM jsonb_to_recordset(%s::jsonb) AS filter ({columns})
            WHERE {steady}
        ) AS met (steady, now)"""
    ).format(
        number=Identifier("filter", _NUMBER),
        columns=columns,
        steady=_all(of, lambda one: one.flag is None),
        passing=_all(of, lambda one: one.flag is not None),
    )


_NUMBER = "filter_number"


def _column(name: str) -> str:
    """What the value is called beside the columns of the view, none of which is called so."""
    return f"filter_by_{name}"


def _all(of: type[Filter], which: Callable[[Narrowing], bool]) -> Composable:
    found: list[Composable] = []
    for name, one in narrowings(of):
        if which(one):
            value = Identifier("filter", _column(name))
            before, after = one.condition.split("%s")
            condition = SQL(before) + value + SQL(after)
            found.append(SQL("({} IS NULL OR ({}) IS TRUE)").format(value, condition))
    return SQL(" AND ").join(found) if found else SQL("true")


def _type(of: type[Filter], name: str) -> str:
    (kind,) = [one for one in get_args(get_type_hints(of)[name]) if one is not type(None)]
    return "text[]" if get_origin(kind) is Sequence else _TYPES[kind]
