"""One operation, read: what it asks the database with each request, and how its answer is put together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import orjson
from graphql import ExecutionResult, GraphQLNonNull, located_error
from graphql.execution.values import VariableValues

from api.context import Context
from api.plan import answer, personal, road
from api.plan.kept import Kept
from api.plan.lasting import lasting
from api.plan.read import Chosen, Declined, Root
from api.plan.sql import Ask
from api.plan.statement import columns, statement
from api.plan.wire import Lines, Statement, bound
from domain.kernel import Refused
from projections.page import Slice

SHAPES_KEPT = 50
"""How many statements are kept of one plan: with or without a cursor, forwards or backwards, by filter."""


class Plan:
    """One operation, read."""

    def __init__(self, roots: Sequence[tuple[str, Root | bytes]]) -> None:
        self._roots = roots
        self.questions = [root for _, root in roots if isinstance(root, Root)]
        self._statements: Kept[Hashable, bytes] = Kept(SHAPES_KEPT)

    async def answer(self, context: Context, variables: VariableValues) -> ExecutionResult:
        """The answer of one request. Raises Declined, or Refused, when it must be resolved."""
        asked = [self.asks(root, context, variables) for root in self.questions]
        for root, (_, position) in zip(self.questions, asked, strict=True):
            try:
                await context.consistent(root.question.reads, position)
            except Refused as refused:
                if len(self._roots) > 1:
                    raise
                return _none(root.chosen, refused)
        statements = [self.statement(r, asks, context) for r, (asks, _) in zip(self.questions, asked, strict=True)]
        context.passes |= not all(lasting(one.text) for one in statements)
        try:
            found = await road.answers(context, statements)
        except road.Unanswered as unanswered:
            return self._unanswered(unanswered)
        written = [
            _written(root, asks, lines) for root, (asks, _), lines in zip(self.questions, asked, found, strict=True)
        ]
        for root, (_, rows) in zip(self.questions, written, strict=True):
            personal.say(context, root.shown, columns(root.pages).shown, rows)
        answers = iter([text for text, _ in written])
        said = [b'"%b":%b' % (k.encode(), r if isinstance(r, bytes) else next(answers)) for k, r in self._roots]
        if not context.passes:  # said last: what turns out to be for the resolvers is not of views alone
            context.made_of = frozenset(view.name for root in self.questions for view in root.question.reads)
        return ExecutionResult(orjson.Fragment(b"{%b}" % b",".join(said)), None)  # pyright: ignore[reportArgumentType]  the edge writes it as it is

    def asks(self, root: Root, context: Context, variables: VariableValues) -> tuple[list[Ask], int | None]:
        """The pages asked for, and the position to wait for."""
        for question in root.asked:
            context.may_ask(question)
        given = root.chosen.arguments.of(variables)
        position: int | None = given.pop("consistent_with", None)
        slices = [Slice(**nested.chosen.arguments.of(variables)) for nested in root.within]
        within = [Ask(n.pager, slice, rows=n.rows) for n, slice in zip(root.within, slices, strict=True)]
        return [Ask(*root.question.ask(context, **given)), *within], position

    def statement(self, root: Root, asks: list[Ask], context: Context) -> Statement:
        """What is sent for a question and its pages."""
        shape = id(root), *[ask.shape for ask in asks]
        text = self._statements.get(shape, lambda: statement(root.pages, asks))
        values: list[Any] = [context.institution, context.moment]
        for ask in asks:
            values += ask.values
        return bound(text, values)

    def _unanswered(self, unanswered: road.Unanswered) -> ExecutionResult:
        """What the database could not answer, said once: the resolvers would only ask it again."""
        place = unanswered.place
        return _none(self.questions[place or 0].chosen, unanswered.problem)


def _written(root: Root, asks: list[Ask], lines: Lines) -> tuple[bytes, Lines]:
    """The bytes of one question's answer, and the lines that are in it."""
    if root.question.single:
        if not lines:
            raise Declined("there is none")
        return lines[0][0] or b"", lines[:1]
    return answer.page(root.pages.parts, lines, asks[0].slice, columns(root.pages))


def _none(chosen: Chosen, problem: Exception) -> ExecutionResult:
    """A question without an answer, said in its place as the resolver would."""
    error = located_error(problem, chosen.nodes, [chosen.key])
    known: Any = chosen.known
    return ExecutionResult(None if isinstance(known.type, GraphQLNonNull) else {chosen.key: None}, [error])
