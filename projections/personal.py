"""Which columns of a view are personal, and whose: what masks and the log of reads are made from."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from domain.personal import Personal
from projections.view import VIEWS, Row, View


@cache
def personal_columns(row: type[Row]) -> dict[str, str]:
    """Name of each personal column -> name of the column that holds its subject's id."""
    found: dict[str, str] = {}
    for name, hint in get_type_hints(row, include_extras=True).items():
        if get_origin(hint) is Annotated:
            for mark in get_args(hint)[1:]:
                if isinstance(mark, Personal):
                    found[name] = mark.subject
    return found


@cache
def view_of(row: type[Row]) -> View[Any]:
    """The view whose rows these are, or are made as."""
    (view,) = (view for view in VIEWS.values() if issubclass(row, view.row))
    return view
