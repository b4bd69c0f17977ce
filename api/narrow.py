"""Filters over GraphQL: inputs and the values they carry, from what `projections.filter` declares."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import strawberry

from api.context import Context
from domain.kernel import text
from projections.filter import Filter, narrowings

T = TypeVar("T", bound=type[Any])
F = TypeVar("F", bound=Filter)
TEXT_MAX = 200
"""Longest text to look for, in characters."""


def input_of(of: type[Filter], description: str) -> Callable[[T], T]:
    """Make a class the GraphQL input of a filter: a field for each way to narrow, a yes or no for each flag."""

    def decorate(cls: T) -> T:
        hints = get_type_hints(of)
        for name, one in narrowings(of):
            shown = one.flag or name
            cls.__annotations__[shown] = bool if one.flag else _shown(hints[name])
            setattr(cls, shown, strawberry.field(default=False if one.flag else None, description=one.said))
        return strawberry.input(cls, description=description)

    return decorate


def narrowed(of: type[F], context: Context, given: Mapping[str, Any]) -> F:
    """The filter that says what was given, by the names the edge has. Raises Refused for a text that is none."""
    said: dict[str, Any] = {}
    for name, one in narrowings(of):
        value = given.get(one.flag or name)
        if one.flag is not None:
            # the moment is asked for where it matters alone: an answer that is of none may be kept
            said[name] = context.now if value else None
        else:
            said[name] = text(value, name, required=False, longest=TEXT_MAX) if isinstance(value, str) else value
    return of(**said)


def argument(of: type[Filter], name: str) -> Any:
    """The argument of a question that says one thing of a filter."""
    (one,) = [one for field, one in narrowings(of) if name in (field, one.flag)]
    return strawberry.argument(description=one.said)


def _shown(hint: Any) -> Any:
    (kind,) = [option for option in get_args(hint) if option is not type(None)]
    if get_origin(kind) is Sequence:
        (member,) = get_args(kind)
        return list[member] | None
    return kind | None
