"""What is selected, once it is read and understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graphql import FieldNode, GraphQLField, get_named_type
from strawberry.types.field import StrawberryField

from api.plan.arguments import Arguments
from api.plan.fields import Question
from api.plan.personal import Shown
from api.plan.sql import Pages
from projections.page import Pager


class Declined(Exception):
    """The planner does not fully understand this; it is resolved instead."""


@dataclass(frozen=True)
class Chosen:
    """One field of a selection: its response key, its nodes, and what it is."""

    key: str
    nodes: Sequence[FieldNode]
    known: GraphQLField
    field: StrawberryField
    arguments: Arguments

    @property
    def name(self) -> str:
        """The field's name in the schema."""
        return self.nodes[0].name.value

    @property
    def type(self) -> Any:
        """What it is, or each of several."""
        known: Any = self.known
        return cast("Any", get_named_type(known.type))

    @property
    def unresolved(self) -> bool:
        """Whether it is taken from the object as it is."""
        field: Any = self.field
        return field.base_resolver is None


@dataclass(frozen=True)
class Nested:
    """The pages of a row's own rows, with the pager that makes them, and whether any of the rows is asked for."""

    chosen: Chosen
    pager: Pager[Any]
    rows: bool = True


@dataclass(frozen=True)
class Rows:
    """What is selected of the rows of one statement, and the pages within them, in the order of their values."""

    pages: Pages
    within: Sequence[Nested]
    asked: Sequence[str]
    """The questions whoever asks must be allowed: the root's own and those its links stand for."""
    shown: Sequence[Shown]
    """The personal columns it shows unmasked."""


@dataclass(frozen=True)
class Root:
    """A question of the operation: its page, or its one row."""

    chosen: Chosen
    question: Question
    rows: Rows


@dataclass(frozen=True)
class Nodes:
    """`node` or `nodes`: what is selected of the rows of each view, by its name, after the id of the row."""

    chosen: Chosen
    of: Mapping[str, Rows | Declined]
