"""Subscriptions as they are asked for: let in by the same gate as questions, answered message by message.

Each message is a GraphQL execution of its own: with the moment it is, the posts its reader holds now, and nothing
remembered from the message before. Equal subscriptions of people with the same posts are answered once.
"""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# an Executor is generic in a context that graphql-core itself never names

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    create_source_event_stream,
    get_operation_ast,
    parse,
    validate,
    visit,
)

from api.access.doorkeeper import Unauthenticated
from api.access.read_log import Asking, Road, purpose_of
from api.access.roles import Principal
from api.chinese.sentences import SENTENCES
from api.context import Context, Reach
from api.edge.asked import Asked, Unacceptable
from api.edge.documents import Documents
from api.edge.fault import presentable, wrapped
from api.limits import DOCUMENTS_KEPT, Gate, without_suggestion
from api.live.feed import Feed, Message, patiently, shared
from api.live.guest import Guest
from api.live.lists import Lists
from api.live.subscription import LiveContext
from api.schema import Schema
from api.settings import Environment

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.live")


class Ended(Exception):
    """A subscription that did not begin, or cannot go on: errors as GraphQL says them."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


def ended(code: str, sentence: str) -> Ended:
    """One error of ours."""
    return Ended([{"message": sentence, "extensions": {"code": code, "sentenceZh": SENTENCES[code]}}])


class Said(NamedTuple):
    """A message as it leaves, and the context in which it was made: what it showed is logged for each reader."""

    payload: str
    context: Context


@dataclass(frozen=True)
class Operation:
    """A subscription that was let in. `key` is what two have in common whose messages are the same text."""

    executor: Executor[Any]
    context: LiveContext
    key: Hashable


def shown_variables(document: DocumentNode, definition: OperationDefinitionNode) -> frozenset[str]:
    """The variables a message's text may depend on: those used elsewhere than in the root field's own arguments.

    The arguments say which messages there are. What each of them says follows from it and from what is selected.
    """
    parts: list[Node] = [part for part in document.definitions if isinstance(part, FragmentDefinitionNode)]
    for field in definition.selection_set.selections:
        if not isinstance(field, FieldNode):
            parts.append(field)
            continue
        parts += field.directives or ()
        if field.selection_set is not None:
            parts.append(field.selection_set)
    uses = Uses()
    for part in parts:
        visit(part, uses)
    return frozenset(uses.names)


class Uses(Visitor):
    """Which variables are used in what it visits."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        """Called for every use."""
        self.names.add(node.name.value)


class Subscriptions:
    """Answers subscriptions, whatever carries them."""

    def __init__(
        self,
        reach: Reach,
        schema: Schema,
        gate: Gate,
        documents: Documents,
        feed: Feed,
        clock: Callable[[], datetime],
    ) -> None:
        self._reach = reach
        self._schema = schema._schema
        self._gate = gate
        self._documents = documents
        self._feed = feed
        self._lists = Lists(feed, clock)
        self._clock = clock
        self._develops = reach.settings.environment == Environment.DEVELOPMENT
        self._document = lru_cache(maxsize=DOCUMENTS_KEPT)(self._checked)

    async def messages(self, asked: Asked, guest: Guest, purpose: str | None = None) -> AsyncGenerator[str]:
        """The payload of each message as JSON, without end; `purpose` is what the header X-Purpose said.

        Raises Ended, and Unauthenticated when the token ended.
        """
        correlation, said = uuid4().hex, 0
        log = _log.bind(correlation=correlation)
        code, principal = "left", None
        try:
            principal = await guest.principal()
            context = LiveContext(
                self._reach,
                principal,
                self._clock(),
                correlation,
                feed=self._feed,
                lists=self._lists,
                clock=self._clock,
            )
            operation = self._admitted(asked, context, purpose)
            source = await self._source(operation.executor)
            who = {"institution": principal.institution, "staff": str(principal.staff_id)}
            log = log.bind(subscription=context.question, **who)
            log.info("subscribed")
            async with aclosing(source):  # pyright: ignore[reportArgumentType]  all sources are generators
                async for message in source:
                    principal = await patiently(guest.principal)
                    yield await self._said(operation, message, principal)
                    said += 1
        except Unauthenticated as problem:
            code = problem.code
            raise
        except Ended as problem:
            code = problem.errors[0]["extensions"]["code"]
            raise
        except Unacceptable as problem:
            code = problem.code
            raise ended(problem.code, str(problem)) from None
        except Exception as problem:
            error = problem if isinstance(problem, GraphQLError) else wrapped(problem)
            unanswered = self._unanswered([error], correlation, principal)
            code = unanswered.errors[0]["extensions"]["code"]
            raise unanswered from None
        finally:
            log.info("unsubscribed", code=code, messages=said)

    def _admitted(self, asked: Asked, context: LiveContext, header: str | None) -> Operation:
        principal = context.principal
        asked = self._documents.chosen(asked, principal)
        name = asked.operation_name or None  # an operation without a name cannot be named
        assert asked.query is not None
        purpose = purpose_of(header, asked.extensions)
        context.asking = Asking.of(asked.query, asked.operation_name, Road.SUBSCRIPTION, purpose)
        self._gate.admit(asked.query, name, asked.variables, principal)
        document, errors = self._document(asked.query)
        if document is None:
            raise self._unanswered(errors, context.correlation, principal)
        definition = get_operation_ast(document, name)
        if definition is None:
            raise Unacceptable(400, "request.operation", "Name one of the operations in the document.")
        if definition.operation != OperationType.SUBSCRIPTION:
            raise Unacceptable(
                405, "live.subscription", "This is for subscriptions; send questions and commands by POST to /graphql."
            )
        if errors:
            raise self._unanswered(errors, context.correlation, principal)
        executor: list[GraphQLError] | Executor[Any] = Executor.build(
            self._schema,
            document,
            context_value=context,
            raw_variable_values=asked.variables,
            operation_name=name,
        )
        if not isinstance(executor, Executor):
            raise self._unanswered(executor, context.correlation, principal)
        shown = shown_variables(document, definition)
        variables = {name: value for name, value in (asked.variables or {}).items() if name in shown}
        return Operation(executor, context, (asked.query, name, orjson.dumps(variables, option=orjson.OPT_SORT_KEYS)))

    def _checked(self, query: str) -> tuple[DocumentNode | None, list[GraphQLError]]:
        """The document, None if it cannot be read, and what is wrong with it."""
        try:
            document = parse(query, max_tokens=self._reach.settings.tokens_max)
        except GraphQLError as problem:
            return None, [problem]
        return document, validate(self._schema, document)

    async def _source(self, executor: Executor[Any]) -> AsyncIterable[Message]:
        source = create_source_event_stream(executor)
        if inspect.isawaitable(source):
            source = await source
        if not isinstance(source, AsyncIterable):
            assert source.errors
            raise source.errors[0]
        return source

    async def _said(self, operation: Operation, message: Message, principal: Principal) -> str:
        context = self._context(operation, principal)
        context.may_ask(operation.context.question)
        key = (operation.key, principal.roles, principal.scopes, context.glasses)
        if key not in message.said:
            message.said[key] = shared(self._executed(operation, message, self._context(operation, principal)))
        said: Said = await asyncio.shield(message.said[key])
        context.reads.include(said.context.reads)
        await context.log_reads()
        return said.payload

    def _context(self, operation: Operation, principal: Principal) -> Context:
        correlation, asking = operation.context.correlation, operation.context.asking
        return Context(self._reach, principal, self._clock(), correlation, asking=asking)

    async def _executed(self, operation: Operation, message: Message, context: Context) -> Said:
        executor: Executor[Any] = operation.executor.build_per_event_executor(message)
        executor.context_value = context
        async with asyncio.timeout(self._reach.settings.request_seconds):
            result = executor.execute_operation()
            if inspect.isawaitable(result):
                result = await result
        assert isinstance(result, ExecutionResult), "nothing is deferred"
        errors = [presentable(error, context.correlation, at_length=self._develops) for error in result.errors or ()]
        said = ({"errors": errors} if errors else {}) | {"data": result.data}
        return Said(orjson.dumps(said).decode(), context)

    def _unanswered(self, errors: list[GraphQLError], correlation: str, principal: Principal | None) -> Ended:
        said = [presentable(error, correlation, at_length=self._develops) for error in errors]
        if principal is not None and not self._gate.explores(principal):
            said = [{**error, "message": without_suggestion(error["message"])} for error in said]
        return Ended(said)
