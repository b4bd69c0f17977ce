"""Reads an operation's selection for the planner, or declines it.

What it reads is what GraphQL's execution would visit: fields in the order of their first mention, fragments merged,
`@skip` and `@include` decided. It declines at the first thing it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    FieldNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    NamedTypeNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    is_abstract_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField

from api.access.mask import sees
from api.identity import of_view
from api.link import ToOne
from api.node import chooses
from api.page import Connection
from api.plan import personal
from api.plan.arguments import Arguments
from api.plan.fields import CHOSEN, COMPUTED, ELEMENTS, LINKS, QUESTIONS, ROWS
from api.plan.operation import Operation
from api.plan.personal import Shown
from api.plan.selection import Chosen, Declined, Nested, Nodes, Root, Rows
from api.plan.sql import Link, Pages, Part, Piece, Scope, column, cursor, joined, members, nested, other
from domain.kernel import Role
from projections.page import Pager
from projections.personal import personal_columns
from projections.view import View

_SCALARS = {
    "String": "text",
    "BigInt": "bigint",
    "DateTime": "timestamp with time zone",
    "UUID": "uuid",
    "Yuan": "numeric",
    "Boolean": "boolean",
}
"""The column type of each scalar the planner writes."""


class Reader:
    """Reads one operation with the values of its flags."""

    def __init__(
        self, schema: Any, operation: Operation, flags: Mapping[str, Any], roles: frozenset[Role] = frozenset()
    ) -> None:
        """`schema` is Strawberry's; `roles` are the posts of whoever asks, who sees what these see."""
        self._whole = schema
        self._schema: GraphQLSchema = schema._schema
        self._operation = operation
        self._flags = flags
        self._within: list[Nested] = []
        self._asked: list[str] = []
        self._shown: list[Shown] = []
        self._roles = roles

    def roots(self) -> list[tuple[str, Root | Nodes | bytes]]:
        """The fields of the operation: questions, or text that is always the same. Raises Declined."""
        if self._operation.definition.directives:
            raise Declined("a directive on the operation")
        query = self._schema.query_type
        assert query is not None
        found: list[tuple[str, Root | Nodes | bytes]] = []
        for chosen in self._chosen(query, [self._operation.definition.selection_set]):
            if isinstance(chosen, str):
                found.append((chosen, f'"{query.name}"'.encode()))
            else:
                found.append((chosen.key, self._root(chosen)))
        return found

    def _root(self, chosen: Chosen) -> Root | Nodes:
        if chosen.name in ("node", "nodes"):
            return Nodes(chosen, {view.name: self._nodes(name, view, chosen) for name, view in ROWS.items()})
        question = QUESTIONS.get(chosen.name)
        if question is None:
            raise Declined(chosen.name)
        type_: GraphQLObjectType = chosen.type
        if question.none is not None:
            return Root(chosen, question, self._rows(chosen, lambda: [self._only(type_, chosen)]))
        return Root(chosen, question, self._rows(chosen, lambda: self._connection(type_, chosen)))

    def _nodes(self, name: str, view: View[Any], chosen: Chosen) -> Rows | Declined:
        """Declined for those of this view alone: it may be that none is asked for."""
        type_ = self._schema.type_map[name]
        assert isinstance(type_, GraphQLObjectType)
        id = Part("id", "edges", [lambda scope: of_view(view).sql([f'{scope.alias}."{key}"' for key in view.key])])
        try:
            if chooses(view) and view.name not in CHOSEN:
                raise Declined(f"whoever sees some of {name} may not see all")
            return self._rows(chosen, lambda: [id, self._only(type_, chosen)])
        except Declined as declined:
            return declined

    def _only(self, type_: GraphQLObjectType, chosen: Chosen) -> Part:
        return Part(chosen.key, "edges", self._row(type_, chosen))

    def _rows(self, chosen: Chosen, parts: Callable[[], Sequence[Part]]) -> Rows:
        self._within, self._asked, self._shown = [], [chosen.name], []
        read = parts()
        pages = Pages(0, read, shown=[one.whose for one in self._shown])
        return Rows(pages, self._within, self._asked, self._shown)

    def _chosen(self, type_: GraphQLObjectType, selected: Sequence[SelectionSetNode]) -> list[Chosen | str]:
        """The fields in order; `__typename` as its key alone."""
        nodes: dict[str, list[FieldNode]] = {}
        for one in selected:
            self._collect(type_, one, nodes, set())
        return [self._known(type_, key, several) for key, several in nodes.items()]

    def _known(self, type_: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> Chosen | str:
        name = nodes[0].name.value
        if name == "__typename":
            return key
        known = type_.fields.get(name)
        field = known.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF) if known is not None else None
        if known is None or not isinstance(field, StrawberryField):
            raise Declined(name)
        if field.permission_classes or field.extensions or field.directives:
            raise Declined(f"{type_.name}.{name} has permissions, extensions or directives")
        return Chosen(key, nodes, known, field, Arguments(self._whole, nodes[0], known, field))

    def _collect(
        self, type_: GraphQLObjectType, selected: SelectionSetNode, nodes: dict[str, list[FieldNode]], seen: set[str]
    ) -> None:
        for selection in selected.selections:
            if not self._included(selection):
                continue
            match selection:
                case FieldNode():
                    nodes.setdefault((selection.alias or selection.name).value, []).append(selection)
                case InlineFragmentNode():
                    if self._is_of(type_, selection.type_condition):
                        self._collect(type_, selection.selection_set, nodes, seen)
                case FragmentSpreadNode():
                    name = selection.name.value
                    fragment = self._operation.fragments.get(name)
                    if fragment is None or fragment.directives:
                        raise Declined("a fragment with a directive")
                    if name not in seen:
                        seen.add(name)
                        if self._is_of(type_, fragment.type_condition):
                            self._collect(type_, fragment.selection_set, nodes, seen)
                case _:
                    raise Declined(type(selection).__name__)

    def _is_of(self, type_: GraphQLObjectType, condition: NamedTypeNode | None) -> bool:
        """Whether a fragment is of this type: by its name, or by an interface or union it belongs to."""
        if condition is None or condition.name.value == type_.name:
            return True
        other = self._schema.get_type(condition.name.value)
        return is_abstract_type(other) and self._schema.is_sub_type(other, type_)

    def _included(self, selection: SelectionNode) -> bool:
        included = True
        for directive in selection.directives or ():
            if directive.name.value not in ("skip", "include"):
                raise Declined(f"@{directive.name.value}")
            included &= self._holds(directive) == (directive.name.value == "include")
        return included

    def _holds(self, directive: DirectiveNode) -> bool:
        value: Any = next(iter(directive.arguments or ())).value
        said = self._flags.get(value.name.value) if isinstance(value, VariableNode) else None
        if isinstance(value, BooleanValueNode):
            said = value.value
        if not isinstance(said, bool):
            raise Declined("a directive without a value")
        return said

    def _below(self, type_: GraphQLObjectType, chosen: Chosen) -> list[Chosen | str]:
        return self._chosen(type_, [node.selection_set for node in chosen.nodes if node.selection_set is not None])

    def _connection(self, type_: GraphQLObjectType, chosen: Chosen) -> list[Part]:
        _must_be_of(type_, Connection)
        parts: list[Part] = []
        for one in self._below(type_, chosen):
            if isinstance(one, str):
                parts.append(Part(one, "text", [f'"{type_.name}"']))
                continue
            if one.name == "edges" and one.unresolved:
                parts.append(Part(one.key, "edges", self._edge(one.type, one)))
            elif one.name == "pageInfo" and one.unresolved:
                parts.append(Part(one.key, "info", info=self._info(one.type, one)))
            elif one.name == "totalCount":
                parts.append(Part(one.key, "count"))
            else:
                raise Declined(one.name)
        return parts

    def _edge(self, type_: GraphQLObjectType, chosen: Chosen) -> list[Piece]:
        fields: list[tuple[str, Sequence[Piece]]] = []
        for one in self._below(type_, chosen):
            if isinstance(one, str):
                fields.append((one, [f'"{type_.name}"']))
                continue
            if one.name == "cursor" and one.unresolved:
                fields.append((one.key, ['"', cursor, '"']))
            elif one.name == "node" and one.unresolved:
                fields.append((one.key, self._row(one.type, one)))
            else:
                raise Declined(one.name)
        return members(fields)

    def _info(self, type_: GraphQLObjectType, chosen: Chosen) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for one in self._below(type_, chosen):
            if isinstance(one, str):
                found.append((one, f'"{type_.name}"'))
            elif one.unresolved:
                found.append((one.key, one.field.python_name))
            else:
                raise Declined(one.name)
        return found

    def _row(self, type_: GraphQLObjectType, chosen: Chosen) -> list[Piece]:
        fields: list[tuple[str, Sequence[Piece]]] = []
        for one in self._below(type_, chosen):
            if isinstance(one, str):
                fields.append((one, [f'"{type_.name}"']))
            else:
                fields.append((one.key, [self._field(type_, one)]))
        return members(fields)

    def _field(self, type_: GraphQLObjectType, chosen: Chosen) -> Piece:
        if chosen.unresolved:
            return self._column(type_, chosen)
        place = type_.name, chosen.name
        if place in COMPUTED:
            text = COMPUTED[place]
            return lambda scope: text.replace("{0}", scope.alias)
        if place in LINKS:
            return self._link(chosen, *LINKS[place])
        if isinstance(link := chosen.field.metadata.get("link"), ToOne):
            return self._one(chosen, link)
        raise Declined(".".join(place))

    def _one(self, chosen: Chosen, link: ToOne) -> Piece:
        (key,) = link.view.key
        self._asked.append(link.asks)
        place = len(self._asked), link.view.name, key, link.column
        outside, self._shown = self._shown, []
        row = self._row(chosen.type, chosen)
        self._shown = [*outside, *(one.within(*place) for one in self._shown)]
        return other(row, *place)

    def _link(self, chosen: Chosen, link: Link, pager: Pager[Any]) -> Piece:
        type_: GraphQLObjectType = chosen.type
        self._within.append(Nested(chosen, pager))
        index, shown = len(self._within), len(self._shown)
        parts = self._connection(type_, chosen)
        if len(self._shown) > shown:
            raise Declined("personal data within the pages of a row: whose it is would be asked twice")
        rows = any(part.kind in ("edges", "info") for part in parts)
        self._within[index - 1] = Nested(chosen, pager, rows)
        return nested(Pages(index, parts, link))

    def _column(self, type_: GraphQLObjectType, chosen: Chosen) -> Piece:
        view, name = ROWS.get(type_.name), chosen.field.metadata.get("column")
        if view is None or name is None:
            raise Declined(f"{type_.name}.{chosen.name} is no column")
        (known,) = (c for c in view.columns if c.name == name)
        shown = chosen.type
        if name in personal_columns(view.row):
            if shown.name != "String" or known.type != "text":
                raise Declined(f"{type_.name}.{chosen.name} is personal, and no text")
            if not sees(self._roles, view.name, name):
                return personal.masked(view, name)
            self._shown.append(personal.shown(view, name))
        if isinstance(shown, GraphQLObjectType) and known.type == "jsonb":
            return self._elements(shown, chosen, name)
        if isinstance(shown, GraphQLEnumType):
            kind = shown.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
            if not isinstance(kind, StrawberryEnumDefinition) or any(
                value.name != str(value.value).upper() for value in kind.values
            ):
                raise Declined(f"the names of {shown.name} are not its words")
            expected = "text"
        else:
            expected = _SCALARS.get(shown.name)
        if known.type.removesuffix("[]") != expected:
            raise Declined(f"{type_.name}.{chosen.name} is shown as {shown.name}")
        return column(known, isinstance(shown, GraphQLEnumType))

    def _elements(self, type_: GraphQLObjectType, chosen: Chosen, name: str) -> Piece:
        """The elements of a column that holds objects."""
        forms = ELEMENTS.get(type_.name)
        if forms is None:
            raise Declined(type_.name)
        fields: list[tuple[str, Sequence[Piece]]] = []
        for one in self._below(type_, chosen):
            if isinstance(one, str):
                fields.append((one, [f'"{type_.name}"']))
            elif one.name in forms:
                fields.append((one.key, [_constant(forms[one.name])]))
            else:
                raise Declined(one.name)
        pieces = members(fields)

        def several(scope: Scope) -> str:
            return (
                f"'[' || array_to_string(ARRAY(SELECT {joined(pieces, scope)} FROM jsonb_array_elements("
                f"{scope.alias}.\"{name}\") WITH ORDINALITY AS one (v, n) ORDER BY one.n), ',') || ']'"
            )

        return several


def _constant(text: str) -> Piece:
    return lambda _: text


def _must_be_of(type_: GraphQLObjectType, generic: type[Any]) -> None:
    """Decline unless the type is made from this generic one."""
    definition = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if isinstance(definition, StrawberryObjectDefinition):
        made_from = definition.concrete_of or definition
        if made_from.origin is generic:
            return
    raise Declined(type_.name)


__all__ = ["Declined", "Reader"]
