"""GraphQL types that *are* the rows of views: every column is a field, and says so in its metadata.

A field made here has `metadata={"column": …}`; whatever compiles a selection to SQL may take it from the table as it
is, unless the column is personal: such a field shows a mask to whoever's posts do not see it (`api.access.mask`), and
whoever does is in the log of reads. A field with a resolver has no column and must be resolved.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints
from uuid import UUID

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField

from api.chinese.words import FIELDS, KINDS, WORDS
from api.scalars import BigInt
from domain.money import Money
from projections.personal import personal_columns
from projections.view import Row

T = TypeVar("T", bound=Row)

AS_THEY_ARE = (str, bool, UUID, datetime, Money)


class Guarded(StrawberryField):
    """A personal column: masked, or shown and logged."""

    @property
    def is_basic_field(self) -> bool:
        """Never: who asks must be known."""
        return False

    def get_result(self, source: Any, info: Any, args: list[Any], kwargs: Any) -> Any:
        """The value, or what stands in its place for whoever asks."""
        return info.context.reveal(source, self.python_name)


@dataclass_transform(kw_only_default=True)
def of_row(description: str, **typed: Any) -> Callable[[type[T]], type[T]]:
    """Make a class that inherits a row a GraphQL type: the row's fields, and what the class adds.

    `typed` gives the GraphQL types of columns that hold values of a type of their own.
    """

    def decorate(cls: type[T]) -> type[T]:
        row = next(base for base in cls.__mro__[1:] if issubclass(base, Row))
        hints = get_type_hints(row)
        personal = personal_columns(row)
        for field in dataclasses.fields(row):
            default: dict[str, Any] = {}
            if field.default is not dataclasses.MISSING:
                default["default"] = field.default
            cls.__annotations__[field.name] = typed.get(field.name) or shown(hints[field.name])
            kind = Guarded if field.name in personal else StrawberryField
            column = kind(description=FIELDS.get(field.name), metadata={"column": field.name}, **default)
            setattr(cls, field.name, column)
        return strawberry.type(cls, description=description)

    return decorate


def shown(hint: Any) -> Any:
    """The GraphQL type of a column or of an event's field. Raises TypeError for one that has none."""
    if get_origin(hint) in (Union, types.UnionType):
        (option,) = [o for o in get_args(hint) if o is not type(None)]
        return shown(option) | None
    if get_origin(hint) is tuple or (inspect.isclass(get_origin(hint)) and hint.__args__):
        return list[shown(get_args(hint)[0])]  # pyright: ignore[reportInvalidTypeArguments]  a type made at run time
    if hint is int:
        return BigInt
    if hint is Decimal:
        return Money
    if inspect.isclass(hint) and issubclass(hint, StrEnum):
        return closed_set(hint)
    if hint in AS_THEY_ARE:
        return hint
    raise TypeError(f"{hint} has no GraphQL type")


def closed_set(kind: type[StrEnum]) -> type[StrEnum]:
    """The GraphQL enum of a closed set; its names are the stored words in capitals, so SQL can make them too."""
    if "__strawberry_definition__" in vars(kind):
        return kind
    assert all(member.name == member.value.upper() for member in kind), f"{kind.__name__}: a name is not its word"
    said = inspect.getdoc(kind) or kind.__name__
    term = KINDS.get(kind.__name__)
    strawberry.enum(kind, description=f"{term} – {said}" if term else said)
    definition: StrawberryEnumDefinition = vars(kind)["__strawberry_definition__"]
    for value in definition.values:
        value.description = WORDS.get(f"{kind.__name__}.{value.value}")
    return kind
