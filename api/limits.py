"""Limits on a document that Strawberry has no extension for."""

from graphql import FieldNode, GraphQLError, OperationDefinitionNode, ValidationContext, ValidationRule
from graphql.language import FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode, SelectionSetNode
from strawberry.extensions import AddValidationRules


class RootFieldsLimiter(AddValidationRules):
    """At most so many fields at the root of an operation, fragments included: each of them is a question of its own."""

    def __init__(self, fields_max: int) -> None:
        class RootFields(ValidationRule):
            def __init__(self, context: ValidationContext) -> None:
                super().__init__(context)
                fragments = {
                    d.name.value: d for d in context.document.definitions if isinstance(d, FragmentDefinitionNode)
                }
                for definition in context.document.definitions:
                    if isinstance(definition, OperationDefinitionNode):
                        count = root_fields(definition.selection_set, fragments, frozenset())
                        if count > fields_max:
                            context.report_error(
                                GraphQLError(
                                    f"The operation asks {count} questions; at most {fields_max} go into one.",
                                    definition,
                                )
                            )

        super().__init__([RootFields])


def root_fields(
    selected: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], within: frozenset[str]
) -> int:
    """How many fields a selection has, those of its fragments included; a fragment within itself counts once."""
    count = 0
    for selection in selected.selections:
        if isinstance(selection, FieldNode):
            count += 1
        elif isinstance(selection, InlineFragmentNode):
            count += root_fields(selection.selection_set, fragments, within)
        elif isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name in fragments and name not in within:
                count += root_fields(fragments[name].selection_set, fragments, within | {name})
    return count
