"""The subscriptions of the schema: what changed after a position, in messages that each say theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from api.complaint import CaseId, ComplaintFilter, unknown
from api.context import Context, Info
from api.history import HistoryLine
from api.institution import ViewLag, view_lags
from api.live.feed import Feed, Message, Step, pages, patiently
from api.live.lists import ROWS_MAX, ComplaintChanges, Lists
from api.narrow import narrowed
from api.scalars import BigInt
from domain.kernel import Refused, text
from projections.changes import Moved, case_exists, head, lines_after, streams_moved
from projections.complaint_questions import CaseFilter
from projections.history import HISTORY
from projections.history_filter import HistoryFilter
from projections.page import Condition

LAG_SECONDS = 1.0
"""How often the lag of the views is looked at, and at most said."""


@dataclass
class LiveContext(Context):
    """A subscription as it begins. Each of its messages is answered with a context of its own.

    `question` is what it asked for, so that it can be asked again whether it may.
    """

    question: str = ""
    feed: Feed | None = None
    lists: Lists | None = None
    clock: Callable[[], datetime] | None = None


@strawberry.type(description="新履历 – events in order of position. Resume with `after` this message's position.")
class HistoryLines(Message):
    """One message."""

    position: BigInt = strawberry.field(description="机构内位置 – everything asked for up to here has been told.")
    lines: list[HistoryLine] = strawberry.field(description=f"One to {ROWS_MAX}.")


@strawberry.type(description="视图进度 – how far each view is behind, whenever that changed.")
class ViewLags(Message):
    """One message."""

    position: BigInt = strawberry.field(description="机构内位置 – where the institution's history ends.")
    views: list[ViewLag]


AfterPosition = Annotated[
    BigInt | None,
    strawberry.argument(
        description="续接位置 – only what came after this position: that of the last message, or of a command; without"
        " it, what happens from now on."
    ),
]


@strawberry.type
class LiveSubscription:
    """What can be followed."""

    @strawberry.subscription(description="案件履历 – the events of one case, as they happen.")
    async def complaint_history(
        self, info: Info, id: CaseId, after: AfterPosition = None
    ) -> AsyncIterator[HistoryLines]:
        """New lines of one case's history."""
        context = _allowed(info, "complaintHistory")
        async with context.reading() as database:
            if not await case_exists(database, context.institution, id):
                raise unknown(id)
        begin = await _begin(context, after)

        async def read(after: int, upto: int) -> Step[HistoryLines]:
            async def look() -> Moved:
                async with context.reading() as database:
                    return await streams_moved(database, context.institution, after, upto)

            # one look tells all who follow a case of this institution whether there is anything to read for them
            moved = await _feed(context).once((context.institution, "streams", after), look)
            if id not in moved.streams:
                return Step(moved.upto, [])
            where: list[Condition] = [("stream_id = %s", id)]
            return await _feed(context).once(
                (context.institution, "case", id, after), lambda: _lines(context, after, moved.upto, where)
            )

        return _feed(context).follow(context.institution, [HISTORY], begin, read)

    @strawberry.subscription(
        description="投诉列表变动 – the cases that changed and meet the filter, or may have met it before, as they are"
        " now. What only time changes is no change."
    )
    async def complaints_changed(
        self, info: Info, filter: ComplaintFilter | None = None, after: AfterPosition = None
    ) -> AsyncIterator[ComplaintChanges]:
        """Cases that changed, each with whether it meets the filter."""
        context = _allowed(info, "complaintsChanged")
        which = {} if filter is None else vars(filter)
        narrowed(CaseFilter, context, which)  # refuses now what is wrong with it
        begin = await _begin(context, after)
        assert context.lists is not None
        return context.lists.follow(context, which, begin)

    @strawberry.subscription(description="新履历 – the institution's events, in the order it came to know of them.")
    async def history_appended(
        self,
        info: Info,
        stream: Annotated[
            UUID | None, strawberry.argument(description="Only this case, person or other stream.")
        ] = None,
        actor: Annotated[UUID | None, strawberry.argument(description="Only what this person did.")] = None,
        aggregate: Annotated[
            str | None, strawberry.argument(description="Only one kind of stream, for example complaint.")
        ] = None,
        after: AfterPosition = None,
    ) -> AsyncIterator[HistoryLines]:
        """New lines of the institution's history."""
        context = _allowed(info, "historyAppended")
        kind = None if aggregate is None else text(aggregate, "aggregate", longest=100)
        which = HistoryFilter(stream=stream, actor=actor, aggregate=kind)
        begin = await _begin(context, after)

        async def read(after: int, upto: int) -> Step[HistoryLines]:
            return await _feed(context).once(
                (context.institution, which, after), lambda: _lines(context, after, upto, which.conditions())
            )

        return _feed(context).follow(context.institution, [HISTORY], begin, read)

    @strawberry.subscription(
        description="视图进度 – how far each view has read, now and whenever that changed, once a second at most."
    )
    async def view_lag_changed(self, info: Info) -> AsyncIterator[ViewLags]:
        """The lag of the views; a state and not a history, so there is nothing to resume."""
        return _lags(_allowed(info, "viewLagChanged"))


def _allowed(info: Info, question: str) -> LiveContext:
    context = info.context
    assert isinstance(context, LiveContext), "subscriptions are answered by api.live"
    context.question = question
    context.may_ask(question)
    return context


def _feed(context: LiveContext) -> Feed:
    assert context.feed is not None
    return context.feed


async def _begin(context: Context, after: int | None) -> int:
    """The position to begin after; refused when the history does not go so far."""
    async with context.reading() as database:
        ends = await head(database, context.institution)
    if after is None:
        return ends
    if not 0 <= after <= ends:
        raise Refused(
            "view.no_such_position",
            f"Your institution's history ends at position {ends}; resume after the position of a message or a command.",
            field="after",
        )
    return after


async def _lines(context: Context, after: int, upto: int, where: Sequence[Condition]) -> Step[HistoryLines]:
    async with context.reading() as database:
        found = await lines_after(database, HistoryLine, context.institution, after, upto, where)
    messages = [
        HistoryLines(position=BigInt(end), lines=lines) for lines, end in pages(found.lines, ROWS_MAX, found.upto)
    ]
    return Step(found.upto, messages)


async def _lags(context: LiveContext) -> AsyncIterator[ViewLags]:
    feed, clock, said = _feed(context), context.clock, None
    assert clock is not None
    while True:
        found = await patiently(lambda: feed.once((context.institution, "lag"), lambda: view_lags(context, clock())))
        state = [(one.view, one.position, one.head, one.parked, one.alive) for one in found]
        if state != said:
            said = state
            yield ViewLags(position=max((one.head for one in found), default=BigInt(0)), views=found)
        await asyncio.sleep(LAG_SECONDS)
