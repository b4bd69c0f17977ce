"""The arguments of a field as its resolver would have them, coerced once where nothing in them changes.

What a document says outright is coerced when the plan is made; a variable that is a plain value is taken as it was
coerced with the request; only what is left is coerced anew each time, by the same functions that resolving uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from graphql import (
    ArgumentNode,
    FieldNode,
    GraphQLField,
    GraphQLScalarType,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
)
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.types.arguments import StrawberryArgument, convert_arguments
from strawberry.types.field import StrawberryField


class Arguments:
    """The arguments of one field of one plan. Raises GraphQLError where resolving would."""

    def __init__(self, schema: Any, node: FieldNode, known: GraphQLField, field: StrawberryField) -> None:
        self._schema = schema
        self._node = node
        self._field: Any = known
        self._names: Mapping[str, StrawberryArgument] = {
            schema.config.name_converter.from_argument(one): one for one in field.arguments
        }
        self._direct: list[tuple[str, str, Any]] = []
        self._later: list[str] = []
        for one in node.arguments or ():
            name = one.name.value
            if self._is_plain(one):
                variable = cast("VariableNode", one.value).name.value
                self._direct.append((self._names[name].python_name, variable, self._field.args[name].default_value))
            elif any(_variables(one.value)):
                self._later.append(name)
        direct = {name for name, _, _ in self._direct}
        now = [n for n, one in self._names.items() if one.python_name not in direct and n not in self._later]
        self._fixed = self._converted(now, None)

    def of(self, variables: VariableValues) -> dict[str, Any]:
        """The arguments of one request, by the resolver's names."""
        said = dict(self._fixed)
        for name, variable, default in self._direct:
            value = variables.coerced.get(variable, default)
            if value is not Undefined:
                said[name] = value
        if self._later:
            said |= self._converted(self._later, variables)
        return said

    def _is_plain(self, argument: ArgumentNode) -> bool:
        """Whether it is a variable whose coerced value is what the resolver takes, and which may be missing."""
        taken = self._field.args.get(argument.name.value)
        return (
            isinstance(argument.value, VariableNode)
            and taken is not None
            and isinstance(taken.type, GraphQLScalarType)
            and taken.default_value in (None, Undefined)
        )

    def _converted(self, names: list[str], variables: VariableValues | None) -> dict[str, Any]:
        if not names:
            return {}
        some = GraphQLField(self._field.type, args={name: self._field.args[name] for name in names})
        return convert_arguments(
            get_argument_values(some, self._node, variables),
            [self._names[name] for name in names],
            scalar_registry=self._schema.schema_converter.scalar_registry,
            config=self._schema.config,
        )


def _variables(value: ValueNode) -> Iterator[str]:
    match value:
        case VariableNode():
            yield value.name.value
        case ListValueNode():
            for one in value.values:
                yield from _variables(one)
        case ObjectValueNode():
            for field in value.fields:
                yield from _variables(field.value)
        case _:
            return
