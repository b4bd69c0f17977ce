"""The planner: an operation over views as one SQL statement per question, its answer as bytes nobody resolves.

The first time an operation is asked, with these posts and these `@skip`/`@include` values, its selection is read into
pieces of SQL and kept; later requests coerce their variables, run and join. Whatever is not fully understood is
declined and resolved as ever: a field with permissions, extensions or a resolver that `api.plan.fields` does not know,
a directive other than the two, a request that will be refused. So what is refused is said by the resolvers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
import structlog
from graphql import (
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLNonNull,
    GraphQLSchema,
    OperationType,
    get_operation_ast,
    located_error,
)
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values
from psycopg import AsyncRawCursor
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext
from strawberry.types.arguments import convert_arguments

from api.context import Context
from api.plan.read import Chosen, Declined, Operation, Reader, Root
from api.plan.sql import Ask, Part, statement
from api.watch.account import Road, account
from domain.kernel import Refused
from projections.page import Slice

PLANS_KEPT = 500
SHAPES_KEPT = 50
"""How many statements are kept of one plan: with or without a cursor, forwards or backwards, by filter."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.plan")


class Kept(Generic[K, V]):
    """So many values, those last used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there."""
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        made = self._known[key] = make()
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return made


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
        """The answer, or None when it must be resolved."""
        try:
            result = await self._answer(asked)
        except (Declined, Refused, GraphQLError):
            self.tally.declined += 1
            account().road = Road.DECLINED
            return None
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
        operation = self._operations.get(named, lambda: _operation(asked))
        if operation is None:
            raise Declined("no question")
        whole: Any = asked.schema
        schema: GraphQLSchema = whole._schema
        variables = get_variable_values(schema, operation.definition.variable_definitions or (), asked.variables or {})
        if not isinstance(variables, VariableValues):
            raise Declined("variables")
        context: Context = asked.context
        flags = {name: variables.coerced.get(name) for name in operation.flags}
        key = *named, context.principal.roles, tuple(sorted(flags.items()))

        def read() -> Plan | Declined:
            try:
                return Plan(whole, Reader(schema, operation, flags).roots())
            except Declined as declined:
                return declined

        plan = self.plans.get(key, read)
        if isinstance(plan, Declined):
            raise Declined from plan
        return await plan.answer(context, variables)


def _operation(asked: ExecutionContext) -> Operation | None:
    document = asked.graphql_document
    found = None if document is None else get_operation_ast(document, asked.operation_name)
    if document is None or found is None or found.operation != OperationType.QUERY:
        return None
    return Operation(found, {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)})


class Plan:
    """One operation, read."""

    def __init__(self, schema: Any, roots: Sequence[tuple[str, Root | bytes]]) -> None:
        self._schema = schema
        self._roots = roots
        self._statements: Kept[Hashable, bytes] = Kept(SHAPES_KEPT)

    async def answer(self, context: Context, variables: VariableValues) -> ExecutionResult:
        """The answer of one request. Raises Declined, or Refused, when it must be resolved."""
        questions = [(root, self._asks(root, context, variables)) for _, root in self._roots if isinstance(root, Root)]
        for root, (_, position) in questions:
            try:
                await context.consistent(root.question.reads, position)
            except Refused as refused:
                if len(self._roots) > 1:
                    raise
                return _refused(root.chosen, refused)
        answers = iter([await self._ask(root, asks, context) for root, (asks, _) in questions])
        said = [b'"%b":%b' % (k.encode(), r if isinstance(r, bytes) else next(answers)) for k, r in self._roots]
        return ExecutionResult(orjson.Fragment(b"{%b}" % b",".join(said)), None)  # pyright: ignore[reportArgumentType]  the edge writes it as it is

    def _asks(self, root: Root, context: Context, variables: VariableValues) -> tuple[list[Ask], int | None]:
        """The pages asked for, and the position to wait for."""
        context.may_ask(root.chosen.name)
        given = self._arguments(root.chosen, variables)
        position: int | None = given.pop("consistent_with", None)
        slices = [Slice(**self._arguments(nested.chosen, variables)) for nested in root.within]
        within = [Ask(nested.pager, slice) for nested, slice in zip(root.within, slices, strict=True)]
        return [root.question.ask(context, **given), *within], position

    def _arguments(self, chosen: Chosen, variables: VariableValues) -> dict[str, Any]:
        """The arguments as the resolver would have them."""
        return convert_arguments(
            get_argument_values(chosen.known, chosen.nodes[0], variables),
            chosen.field.arguments,
            scalar_registry=self._schema.schema_converter.scalar_registry,
            config=self._schema.config,
        )

    async def _ask(self, root: Root, asks: list[Ask], context: Context) -> bytes:
        shape = id(root), *(ask.shape for ask in asks)
        query = self._statements.get(shape, lambda: statement(root.pages, asks))
        values = [context.institution, context.now]
        for ask in asks:
            values += ask.values
        async with context.reading() as database, AsyncRawCursor(database) as cursor:
            await cursor.execute(query, values, prepare=True)
            result = cursor.pgresult
            assert result is not None
            width = range(result.nfields)
            lines = [[result.get_value(n, place) for place in width] for n in range(result.ntuples)]
        rows = [line[1:] for line in lines if line[0] == b"t"]
        if root.question.single:
            if not rows:
                raise Declined("there is none")
            return rows[0][0] or b""
        count = (lines[0][-1] or b"") if lines else b""
        return _connection(root.pages.parts, rows, asks[0].slice, count)


def _connection(parts: Sequence[Part], rows: list[list[bytes | None]], slice: Slice, count: bytes) -> bytes:
    """The bytes of a page."""
    more = len(rows) > slice.size
    rows = rows[: slice.size]
    if slice.backwards:
        rows.reverse()
    cursor = sum(part.kind == "edges" for part in parts)
    known = {
        "has_next_page": _bool(slice.before is not None if slice.backwards else more),
        "has_previous_page": _bool(more if slice.backwards else slice.after is not None),
        "start_cursor": b'"%b"' % (rows[0][cursor] or b"") if rows else b"null",
        "end_cursor": b'"%b"' % (rows[-1][cursor] or b"") if rows else b"null",
    }
    said: list[bytes] = []
    place = 0
    for part in parts:
        match part.kind:
            case "edges":
                value = b"[%b]" % b",".join([row[place] or b"" for row in rows])
                place += 1
            case "count":
                value = b'"%b"' % count
            case "info":
                fields = [b'"%b":%b' % (k.encode(), known.get(what, what.encode())) for k, what in part.info]
                value = b"{%b}" % b",".join(fields)
            case _:
                value = "".join(map(str, part.pieces)).encode()
        said.append(b'"%b":%b' % (part.key.encode(), value))
    return b"{%b}" % b",".join(said)


def _bool(value: bool) -> bytes:
    return b"true" if value else b"false"


def _refused(chosen: Chosen, refused: Refused) -> ExecutionResult:
    """A question the resolver would refuse, said in its place without asking again."""
    error = located_error(refused, chosen.nodes, [chosen.key])
    known: Any = chosen.known
    return ExecutionResult(None if isinstance(known.type, GraphQLNonNull) else {chosen.key: None}, [error])


class Planned(SchemaExtension):
    """Puts the planner's answer in the place of resolving, inside Strawberry's own handling of a request."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    async def on_execute(self) -> AsyncGenerator[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Before execution: with a result there, nothing is resolved."""
        asked = self.execution_context
        if asked.result is None:
            asked.result = await self._planner.answer(asked)
        yield
