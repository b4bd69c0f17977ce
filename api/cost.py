"""What a request costs, and how much of it each person may ask for in a minute.

Cost counts rows: a page costs `first` (or `last`) times what one of its rows costs, nested; `WEIGHTS` has what is
dearer than its rows. It is known before anything is run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_leaf_type,
)

from api.identity import NODES_MAX, dated
from domain.kernel import Refused
from projections.page import PAGE_DEFAULT, PAGE_MAX

PRINCIPALS_KEPT = 10_000
WEIGHTS = {"complaintAsOf": 50, "complaintBlame": 50, "totalCount": 10, "viewLag": 10, "__schema": 100, "__type": 20}
"""What these fields cost beside their rows; any other field that is no column costs 1."""
COMMAND = 20
"""What a mutation costs."""
LIST_ROWS = 10
"""Rows counted for a list that has no pages."""
MESSAGES = {"HistoryLines": "lines", "ComplaintChanges": "changes"}
"""Messages of subscriptions and the list in them, which is as long as the largest page."""


class Ids(NamedTuple):
    """How many ids are asked for, and how many of them name something as it was."""

    many: int
    dated: int


Size = int | Ids | None
"""What a variable says of a page or of ids, as far as the price depends on it."""


class OverBudget(Refused):
    """The principal has asked for too much this minute; `seconds` from now there is enough again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            code="limit.rate", sentence=f"You have asked for too much this minute; ask again in {seconds} s."
        )
        self.seconds = seconds


class Cost:
    """What one operation costs with these variables: an upper bound, `@skip` and `@include` are not looked at."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        operation: OperationDefinitionNode,
        variables: Mapping[str, Size],
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._operation = operation
        self._variables = variables
        self._known: dict[tuple[str, int], int] = {}

    def of_operation(self) -> int:
        """The cost, 1 at least."""
        root = self._schema.get_root_type(self._operation.operation)
        return max(1, self._selected(self._operation.selection_set, root, 1))

    def _selected(self, selected: SelectionSetNode, within: GraphQLNamedType | None, rows: int) -> int:
        cost = 0
        for selection in selected.selections:
            match selection:
                case FieldNode():
                    cost += self._field(selection, within, rows)
                case InlineFragmentNode(type_condition=condition):
                    other = within if condition is None else self._schema.get_type(condition.name.value)
                    cost += self._selected(selection.selection_set, other, rows)
                case FragmentSpreadNode():
                    cost += self._fragment(selection.name.value, rows)
                case _:
                    pass
        return cost

    def _fragment(self, name: str, rows: int) -> int:
        if (name, rows) not in self._known:
            self._known[name, rows] = 0  # within itself it costs nothing: validation refuses it
            if (fragment := self._fragments.get(name)) is not None:
                condition = self._schema.get_type(fragment.type_condition.name.value)
                self._known[name, rows] = self._selected(fragment.selection_set, condition, rows)
        return self._known[name, rows]

    def _field(self, node: FieldNode, within: GraphQLNamedType | None, rows: int) -> int:
        """`rows` is the size of the page whose connection `within` is."""
        name = node.name.value
        definition = within.fields.get(name) if isinstance(within, GraphQLObjectType) else None
        if within is None or definition is None:
            return WEIGHTS.get(name, 0)
        is_list, kind = _shape(definition)
        if is_leaf_type(kind) or node.selection_set is None:
            return WEIGHTS.get(name, 0)
        if within is self._schema.query_type and name in ("node", "nodes"):
            ids = self._named(next((argument.value for argument in node.arguments or ()), None))
            each = 1 + self._selected(node.selection_set, kind, 1)
            return ids.many * each + ids.dated * (WEIGHTS["complaintAsOf"] - 1)
        paged = "first" in definition.args
        below = self._selected(node.selection_set, kind, self._rows(node) if paged else rows)
        if is_list:
            if MESSAGES.get(within.name) == name:
                rows = PAGE_MAX
            elif not within.name.endswith("Connection"):
                rows = LIST_ROWS
            return WEIGHTS.get(name, 0) + rows * (1 + below)
        if within.name.endswith("Edge"):
            return below
        commands = self._operation.operation == OperationType.MUTATION and within is self._schema.mutation_type
        return (COMMAND if commands else WEIGHTS.get(name, 1)) + below

    def _rows(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value in ("first", "last") and not isinstance(argument.value, NullValueNode):
                value = argument.value
                size = self._said(value) if isinstance(value, VariableNode) else _whole(value)
                return (
                    PAGE_DEFAULT if size is None else max(0, min(size if isinstance(size, int) else PAGE_MAX, PAGE_MAX))
                )
        return PAGE_DEFAULT

    def _named(self, value: ValueNode | None) -> Ids:
        """The ids a value names."""
        match value:
            case None | NullValueNode():
                return Ids(0, 0)
            case ListValueNode():
                several = [self._named(one) for one in value.values]
                return Ids(min(NODES_MAX, sum(one.many for one in several)), sum(one.dated for one in several))
            case VariableNode() if value.name.value not in self._variables:
                return self._named(self._default(value.name.value))
            case VariableNode():
                given = self._variables[value.name.value]
                return given if isinstance(given, Ids) else Ids(1, 0)
            case _:
                return Ids(1, isinstance(value, StringValueNode) and dated(value.value))

    def _said(self, variable: VariableNode) -> Size:
        name = variable.name.value
        if name in self._variables:
            return self._variables[name]
        default = self._default(name)
        return None if default is None else _whole(default)

    def _default(self, name: str) -> ValueNode | None:
        definitions = self._operation.variable_definitions or ()
        return next((d.default_value for d in definitions if d.variable.name.value == name), None)


def size_variables(node: FieldNode) -> list[str]:
    """The variables a field takes the size of its page or its ids from."""
    values = [a.value for a in node.arguments or () if a.name.value in ("first", "last", "id", "ids")]
    within = [one for value in values for one in (value.values if isinstance(value, ListValueNode) else [value])]
    return [one.name.value for one in within if isinstance(one, VariableNode)]


def said(value: object) -> Size:
    """What a variable says of a page's size or of ids; what is neither counts as the largest page."""
    match value:
        case None:
            return None
        case int():
            return max(0, min(value, PAGE_MAX))
        case str():
            return Ids(1, dated(value))
        case list():
            few = cast("list[object]", value)[:NODES_MAX]
            return Ids(len(few), sum(isinstance(one, str) and dated(one) for one in few))
        case _:
            return PAGE_MAX


def _shape(definition: GraphQLField) -> tuple[bool, GraphQLNamedType]:
    """Whether a field is a list, and of what."""
    shape: Any = cast(Any, definition).type
    return str(shape).startswith("["), cast(GraphQLNamedType, get_named_type(shape))


def _whole(value: object) -> int:
    """A literal page size; what is no number is refused later and counts as the largest page."""
    return int(value.value) if isinstance(value, IntValueNode) and len(value.value) < 10 else PAGE_MAX


class Budget:
    """What each principal may still ask for: used up by cost, filled up evenly to a minute's worth."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._left: dict[Hashable, tuple[float, float]] = {}

    def spend(self, who: Hashable, cost: int) -> None:
        """Spend it, or raise OverBudget and spend nothing."""
        now = self._clock()
        left, at = self._left.pop(who, (float(self._most), now))
        left = min(self._most, left + (now - at) * self._most / 60)
        cost = min(cost, self._most)
        enough = left >= cost
        self._left[who] = (left - cost if enough else left, now)
        if len(self._left) > PRINCIPALS_KEPT:
            del self._left[next(iter(self._left))]  # the one that has been quiet for longest
        if not enough:
            raise OverBudget(max(1, math.ceil((cost - left) * 60 / self._most)))
