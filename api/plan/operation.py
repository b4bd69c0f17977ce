"""An operation with what belongs to it, before its selection is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)


@dataclass
class Operation:
    """An operation with the fragments of its document. `flags`: the variables `@skip` and `@include` ask for."""

    definition: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    flags: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.flags = frozenset(_flags(self.definition.selection_set, self.fragments, set()))


def _flags(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[str]
) -> Iterator[str]:
    for selection in selected.selections:
        for directive in selection.directives or ():
            for argument in directive.arguments or ():
                if isinstance(argument.value, VariableNode):
                    yield argument.value.name.value
        if isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name in fragments and name not in seen:
                seen.add(name)
                yield from _flags(fragments[name].selection_set, fragments, seen)
        elif isinstance(selection, FieldNode | InlineFragmentNode) and selection.selection_set is not None:
            yield from _flags(selection.selection_set, fragments, seen)
