"""How a view may be narrowed, said once: a filter's fields are what may be asked, and each says how and by which index.

From one declaration come the SQL, the GraphQL input and the arguments of questions, and the planner's statements. A
test proves of every one, by `EXPLAIN` on a filled table, that its index serves it as it says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, LiteralString, cast, get_type_hints

from projections.page import Condition


@dataclass(frozen=True)
class Narrowing:
    """One way to narrow a view: what a filter's field is annotated with. Left out, or empty, it does not narrow.

    `condition` is SQL of this house with one place for the value. `index` serves it: rows are sought in it, or, where
    `walks` says so, it gives the rows in the order asked for and those that do not meet the condition are passed over:
    right for what holds of many rows, and for what no index can seek. `said` describes it to whoever asks. `flag` is
    the name of a yes or no at the edge, where the value is the moment of the request.
    """

    condition: LiteralString
    index: str
    walks: bool = False
    said: str | None = None
    flag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a view is narrowed by: every field that is not None; all must hold."""

    def conditions(self) -> list[Condition]:
        """The same in SQL."""
        texts: dict[str, LiteralString] = {name: one.condition for name, one in narrowings(type(self))}
        return [(texts[name], value) for name, value in self.values()]

    def values(self) -> list[tuple[str, Any]]:
        """The fields that narrow, with their values as they are bound."""
        found = [(name, _bound(getattr(self, name))) for name, _ in narrowings(type(self))]
        return [(name, value) for name, value in found if value is not None]


@cache
def narrowings(of: type[Filter]) -> tuple[tuple[str, Narrowing], ...]:
    """The fields of a filter by name, with what each says."""
    hints = get_type_hints(of, include_extras=True)
    found: list[tuple[str, Narrowing]] = []
    for f in dataclasses.fields(of):
        (one,) = hints[f.name].__metadata__
        assert isinstance(one, Narrowing), f"{of.__name__}.{f.name} does not say how it narrows"
        found.append((f.name, one))
    return tuple(found)


def _bound(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [word.value for word in cast("Sequence[StrEnum]", value)] or None
    return None if value == "" else value
