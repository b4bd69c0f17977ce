"""One operation, read: what it asks the database with each request, and how its answer is put together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Any

import orjson
from graphql import ExecutionResult, GraphQLError
from graphql.execution.values import VariableValues

from api.context import Context
from api.plan import personal, road
from api.plan.kept import Kept
from api.plan.lasting import lasting
from api.plan.selection import Nodes, Root, Rows
from api.plan.sql import Ask
from api.plan.statement import statement
from api.plan.turn import OfNodes, OfRows, Said, Turn
from api.plan.wire import Statement, bound
from domain.kernel import Refused

SHAPES_KEPT = 50
"""How many statements are kept of one plan: with or without a cursor, forwards or backwards, by filter."""


class Plan:
    """One operation, read."""

    def __init__(self, roots: Sequence[tuple[str, Root | Nodes | bytes]]) -> None:
        self._roots = roots
        self._questions = [root for _, root in roots if not isinstance(root, bytes)]
        self._statements: Kept[Hashable, bytes] = Kept(SHAPES_KEPT)

    async def answer(self, context: Context, variables: VariableValues) -> ExecutionResult:
        """The answer of one request. Raises Declined, or Refused, when it must be resolved."""
        turns = [
            OfRows(root, context, variables) if isinstance(root, Root) else OfNodes(root, context, variables)
            for root in self._questions
        ]
        said = await self._said(context, turns)
        errors: list[GraphQLError] = []
        for one in said:
            errors += one.errors
            if one.text is None:
                return ExecutionResult(None, errors)
        for one in said:
            for columns, first, lines in one.shown:
                personal.say(context, columns, first, lines)
        answers = iter(said)
        texts = [b'"%b":%b' % (k.encode(), r if isinstance(r, bytes) else next(answers).text) for k, r in self._roots]
        if not context.passes and not errors:  # said last: what turns out to be for the resolvers is not of views alone
            context.made_of = frozenset(view.name for turn in turns for view in turn.reads)
        return ExecutionResult(orjson.Fragment(b"{%b}" % b",".join(texts)), errors or None)  # pyright: ignore[reportArgumentType]  the edge writes it as it is

    async def _said(self, context: Context, turns: Sequence[Turn]) -> list[Said]:
        """What each question says in its place; after one without which there is no answer, maybe nothing."""
        refused: dict[int, Said] = {}
        for place, turn in enumerate(turns):
            try:
                await context.consistent(turn.reads, turn.position)
            except Refused as problem:
                refused[place] = turn.nothing(problem)
                if turn.needed:
                    return [*refused.values()]
        asked = [turn for place, turn in enumerate(turns) if place not in refused]
        statements = [self._statement(rows, asks, context) for turn in asked for rows, asks in turn.sends]
        context.passes |= not all(lasting(one.text) for one in statements)
        found = iter(await road.each(context, statements, [turn.needed for turn in asked for _ in turn.sends]))
        return [
            refused[place] if place in refused else turn.said([*islice(found, len(turn.sends))])
            for place, turn in enumerate(turns)
        ]

    def _statement(self, rows: Rows, asks: Sequence[Ask], context: Context) -> Statement:
        """What is sent for the rows of a question and the pages within."""
        shape = id(rows), *[ask.shape for ask in asks]
        text = self._statements.get(shape, lambda: statement(rows.pages, asks))
        values: list[Any] = [context.institution, context.moment]
        for ask in asks:
            values += ask.values
        return bound(text, values)
