"""The planner: an operation over views as one SQL statement per question, its answer as bytes nobody resolves.

The first time an operation is asked, with these posts and these `@skip`/`@include` values, its selection is read into
pieces of SQL and kept; later requests coerce their variables, run and join. Whatever is not fully understood is
declined and resolved as ever: a field with permissions, extensions or a resolver that `api.plan.fields` does not know,
a directive other than the two, a request that will be refused. So what is refused is said by the resolvers.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationType,
    get_operation_ast,
)
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.types import ExecutionContext

from api.access.proof import Refuted
from api.context import Context
from api.plan.kept import Kept
from api.plan.operation import Operation
from api.plan.plan import Plan
from api.plan.read import Declined, Reader
from api.plan.wire import Unsendable
from api.watch.account import Road, account
from domain.kernel import Refused

PLANS_KEPT = 500

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.plan")


@dataclass
class Tally:
    """How many operations were answered by plans, declined, and declined because planning itself failed."""

    planned: int = 0
    declined: int = 0
    failed: int = 0


class Planner:
    """Answers what it can of the operations of one schema."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.plans: Kept[Hashable, Plan | Declined] = Kept(PLANS_KEPT)
        self._operations: Kept[Hashable, Operation | None] = Kept(PLANS_KEPT)

    async def answer(self, asked: ExecutionContext) -> ExecutionResult | None:
        """The answer, or None when it must be resolved. Raises Refuted."""
        try:
            result = await self._answer(asked)
        except (Declined, Refused, Unsendable, GraphQLError):
            self.tally.declined += 1
            account().road = Road.DECLINED
            return None
        except Refuted:
            raise
        except Exception as problem:
            # resolving says what is wrong, if anything is
            _log.warning("not planned", error=type(problem).__name__)
            self.tally.failed += 1
            account().road = Road.DECLINED
            return None
        self.tally.planned += 1
        account().road = Road.PLANNED
        return result

    async def _answer(self, asked: ExecutionContext) -> ExecutionResult:
        named = asked.query, asked.operation_name
        operation = self._operations.get(named, lambda: operation_of(asked.graphql_document, asked.operation_name))
        if operation is None:
            raise Declined("no question")
        whole: Any = asked.schema
        schema: GraphQLSchema = whole._schema
        known = operation.definition.variable_definitions or ()
        variables = get_variable_values(schema, known, asked.variables or {}, max_errors=1)
        if not isinstance(variables, VariableValues):
            raise Declined("variables")
        context: Context = asked.context
        if context.glasses:
            raise Declined("a glass is broken: what is masked follows from the row")
        flags = {name: variables.coerced.get(name) for name in operation.flags}
        key = *named, context.principal.roles, tuple(sorted(flags.items()))

        def read() -> Plan | Declined:
            try:
                return Plan(Reader(whole, operation, flags, context.principal.roles).roots())
            except Declined as declined:
                return declined

        plan = self.plans.get(key, read)
        if isinstance(plan, Declined):
            raise Declined from plan
        return await plan.answer(context, variables)


def operation_of(document: DocumentNode | None, name: str | None) -> Operation | None:
    """The question of this name in a document, or its only one; None if it has none."""
    found = None if document is None else get_operation_ast(document, name)
    if document is None or found is None or found.operation != OperationType.QUERY:
        return None
    return Operation(found, {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)})
