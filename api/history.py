"""The history over GraphQL: one line per event of any stream."""

from typing import Annotated
from uuid import UUID

import strawberry

from api.context import Context, Info
from api.page import After, Before, Connection, ConsistentWith, First, Last, connection
from api.row import of_row
from api.scalars import BigInt
from domain.kernel import text
from projections.history import BY_POSITION, BY_VERSION, HISTORY, HistoryRow
from projections.history_filter import HistoryFilter
from projections.page import Order, Pager, Slice


@strawberry.type(description="变动 – one field an event set, with its values in words.")
class Change:
    """As `projections.history.Change`."""

    field: str
    values: list[str] = strawberry.field(description="Several for a list; none for an empty one or a personal field.")
    personal: bool = strawberry.field(description="Personal: named, but its value is not kept here.")


@of_row(
    "履历 – one event of any stream: who, when it happened, when it was recorded, what it changed.",
    changes=list[Change],
)
class HistoryLine(HistoryRow):
    """One event, as the history shows it."""


LINES_OF_STREAM = Pager(HISTORY, HistoryLine, BY_VERSION)
LINES = Pager(HISTORY, HistoryLine, BY_POSITION)
LINES_LATEST_FIRST = Pager(HISTORY, HistoryLine, Order(BY_POSITION.columns, descending=True))


async def lines_of(context: Context, stream: UUID, slice: Slice) -> Connection[HistoryLine]:
    """A page of the history of one stream; many are asked for at once."""

    async def load(streams: list[UUID]) -> list[Connection[HistoryLine]]:
        async with context.reading() as database:
            pages = await LINES_OF_STREAM.pages(database, context.institution, "stream_id", streams, slice)
        return [connection(pages[s], lambda s=s: count_lines(context, HistoryFilter(stream=s))) for s in streams]

    return await context.loader(("history", slice), load).load(stream)


async def count_lines(context: Context, which: HistoryFilter) -> int:
    """How many lines there are of these."""
    async with context.reading() as database:
        return await LINES.count(database, context.institution, which.conditions())


async def page_of_lines(
    context: Context, pager: Pager[HistoryLine], which: HistoryFilter, slice: Slice
) -> Connection[HistoryLine]:
    """A page of the lines that meet a filter."""
    async with context.reading() as database:
        page = await pager.page(database, context.institution, slice, which.conditions())
    return connection(page, lambda: count_lines(context, which))


@strawberry.type
class HistoryQuery:
    """Questions about the history of the whole institution."""

    @strawberry.field(description="履历 – the institution's events, in the order it came to know of them.")
    async def history(
        self,
        info: Info,
        stream: Annotated[
            UUID | None, strawberry.argument(description="Only this case, person or other stream.")
        ] = None,
        actor: Annotated[UUID | None, strawberry.argument(description="Only what this person did.")] = None,
        aggregate: Annotated[
            str | None, strawberry.argument(description="Only one kind of stream, for example complaint.")
        ] = None,
        after_position: Annotated[BigInt | None, strawberry.argument(description="Only what came later.")] = None,
        descending: Annotated[bool, strawberry.argument(description="The latest first.")] = False,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        consistent_with: ConsistentWith = None,
    ) -> Connection[HistoryLine]:
        """A page of the institution's history."""
        context = info.context
        context.may_ask("history")
        await context.consistent([HISTORY], consistent_with)
        kind = None if aggregate is None else text(aggregate, "aggregate", longest=100)
        which = HistoryFilter(stream=stream, actor=actor, aggregate=kind, after_position=after_position)
        pager = LINES_LATEST_FIRST if descending else LINES
        return await page_of_lines(context, pager, which, Slice(first, after, last, before))
