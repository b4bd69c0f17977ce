"""What people look at: a view is a row type, the events it listens to, a key and one pure function.

`show(row | None, fact) -> row | None` folds one fact into one row; None for the row deletes it. It reads no clock, no
table and no other view. Everything else here and in this package – following, rebuilding, as-of, blame, verification –
follows from it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from domain.kernel import FORMER, TOPICS, Event

Key = tuple[Any, ...]
"""The values of a view's key fields, in their order, without the institution."""

NAME_LENGTH_MAX = 40
"""Longest name of a view; PostgreSQL cuts names at 63 and indexes and side tables add to it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class Row:
    """One line of a view: its fields are the columns of the table.

    These four are set by whoever folds, never by `show`: the institution, the position of the event that last moved the
    row, the version its stream had then, and when that was recorded. Every event that has a part for the row moves it.
    """

    institution: str = ""
    position: int = 0
    version: int = 0
    recorded_at: datetime = _EPOCH


R = TypeVar("R", bound=Row)

VIEWS: dict[str, View[Any]] = {}
"""Every view of the house by its name; a view is in it once its module is imported, unless made with `listed=False`."""


@dataclass(frozen=True, eq=False)
class View(Generic[R]):
    """A fold of events into the rows of a table.

    `name` is the table's. `events` are the event types listened to; a base type stands for all its subtypes, so
    `(Event,)` listens to everything. `key` names the row's fields that, after the institution, are the primary key.
    `parts` splits one event into facts for rows: `[(key, fact), …]`; without it each event is one fact for the row
    keyed by its stream. Unless the view `gathers`, all rows of one stream come from that stream alone and the first key
    field is the stream's id. A view that gathers has rows made by events of several streams; the table `<name>_source`
    keeps which positions made each row.
    """

    name: str
    row: type[R]
    events: tuple[type[Event], ...]
    show: Callable[[R | None, Any], R | None]
    key: tuple[str, ...]
    parts: Callable[[Any], Iterable[tuple[Key, Any]]] | None = None
    gathers: bool = False
    listed: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        assert len(self.name) <= NAME_LENGTH_MAX, f"the name {self.name} is too long"
        names = [f.name for f in dataclasses.fields(self.row)]
        assert len(self.key) > 0, f"{self.name}: there must be a key"
        assert all(k in names for k in self.key), f"{self.name}: the key must be fields of the row"
        assert self.parts is not None or (len(self.key) == 1 and not self.gathers), f"{self.name} needs parts"
        if self.listed:
            assert self.name not in VIEWS, f"there are two views {self.name}"
            VIEWS[self.name] = self

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns, in the order of the row's fields."""
        return columns(self.row)

    @property
    def topics(self) -> frozenset[str]:
        """The topics listened to, those no longer written among them."""
        # not kept: an event type may be declared after the first look
        written = {topic for topic, event in TOPICS.items() if issubclass(event, self.events)}
        return frozenset(written | {old for old, (event, _) in FORMER.items() if issubclass(event, self.events)})

    def facts(self, event: Event) -> list[tuple[Key, Any]]:
        """The parts of one event with the keys of the rows they belong to."""
        if self.parts is None:
            return [((event.originator_id,), event)]
        return list(self.parts(event))


@dataclass(frozen=True)
class Column:
    """One field as PostgreSQL keeps it; `load` and `dump` are None where the driver's value is the field's."""

    name: str
    type: str
    nullable: bool
    load: Callable[[Any], Any] | None
    dump: Callable[[Any], Any] | None


_SCALARS: dict[type, str] = {
    str: "text",
    int: "bigint",
    bool: "boolean",
    datetime: "timestamp with time zone",
    date: "date",
    UUID: "uuid",
    Decimal: "numeric",
}


def columns(row: type[Row]) -> tuple[Column, ...]:
    """The columns of a row type. Raises TypeError for a field that no column can hold."""
    hints = get_type_hints(row)
    return tuple(_column(row, f.name, hints[f.name]) for f in dataclasses.fields(row))


def _column(row: type[Row], name: str, hint: Any) -> Column:
    nullable = False
    if get_origin(hint) in (Union, types.UnionType):
        options = [o for o in get_args(hint) if o is not type(None)]
        nullable = len(options) < len(get_args(hint))
        if len(options) != 1:
            raise TypeError(f"{row.__name__}.{name}: one type, or one type and None")
        hint = options[0]
    scalar = _scalar(hint)
    if scalar is not None:
        return Column(name, scalar, nullable, hint if _is_enum(hint) else None, None)
    if get_origin(hint) is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is Ellipsis:
        element = get_args(hint)[0]
        scalar = _scalar(element)
        if scalar is not None:
            load = _each(element) if _is_enum(element) else tuple
            return Column(name, f"{scalar}[]", nullable, load, _strings if _is_enum(element) else list)
    if hint in (Any, object, float) or hint is list:
        raise TypeError(f"{row.__name__}.{name}: {hint} has no column type")
    return Column(name, "jsonb", nullable, lambda value: msgspec.convert(value, hint), _json)


def _scalar(hint: Any) -> str | None:
    if _is_enum(hint):
        if not issubclass(hint, StrEnum):
            raise TypeError(f"{hint.__name__}: closed sets are StrEnums")
        return "text"
    return _SCALARS.get(hint) if isinstance(hint, type) else None


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _each(element: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: tuple([element(value) for value in values])


def _strings(values: tuple[StrEnum, ...]) -> list[str]:
    return [value.value for value in values]


def _json(value: Any) -> Jsonb:
    return Jsonb(msgspec.to_builtins(value))


__all__ = ["VIEWS", "Column", "Key", "R", "Row", "View", "columns"]
