"""The history over GraphQL: one line per event of any stream."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
from strawberry.utils.str_converters import to_camel_case

from api.context import Context, Info
from api.link import ToMany, ToOne
from api.narrow import argument, narrowed
from api.node import Node, may_see, node_of
from api.page import After, Asked, Before, Connection, ConsistentWith, First, Last, page_of
from api.row import of_row
from api.scalars import BigInt
from projections.complaint import COMPLAINTS
from projections.history import BY_POSITION, BY_VERSION, HISTORY, HistoryRow
from projections.history import Change as Said
from projections.history_filter import HistoryFilter
from projections.page import Pager, Slice
from projections.views import OF_CASES

if TYPE_CHECKING:
    from api.complaint import Complaint

COMPLAINT_AGGREGATE = "complaint"
"""The kind of stream a case is."""


def _shown(root: Said) -> str:
    return to_camel_case(root.field)


@strawberry.type(description="变动 – one field an event set, with its values in words.")
class Change:
    """As `projections.history.Change`, its field under the name GraphQL has for it."""

    field: str = strawberry.field(resolver=_shown, description="The event's field, by its name in the schema.")
    values: list[str] = strawberry.field(description="Several for a list; none for an empty one or a personal field.")
    personal: bool = strawberry.field(description="Personal: named, but its value is not kept here.")


CASE_OF_LINE = ToOne("stream_id", COMPLAINTS, asks="complaint")


def _sees(context: Context, line: HistoryRow) -> bool:
    """Whoever may not ask for the history sees in it what cases show: their own lines."""
    return may_see(context, "history") or (line.aggregate == COMPLAINT_AGGREGATE and may_see(context, "complaint"))


@node_of(HISTORY, "history", "complaint", sees=_sees)
@of_row(
    "履历 – one event of any stream: who, when it happened, when it was recorded, what it changed.",
    changes=list[Change],
)
class HistoryLine(HistoryRow, Node):
    """One event, as the history shows it."""

    @strawberry.field(
        description="投诉案件 – the case it is of; null for the line of another kind of stream.",
        metadata={"link": CASE_OF_LINE},
    )
    async def complaint(self, info: Info) -> Annotated["Complaint", strawberry.lazy("api.complaint")] | None:
        """The case as it is now."""
        return await CASE_OF_LINE.row(info.context, self)


LINES = Pager(HISTORY, HistoryLine, BY_POSITION)
LINES_LATEST_FIRST = Pager(HISTORY, HistoryLine, replace(BY_POSITION, descending=True))
LINES_OF_CASE = ToMany("complaint_id", "stream_id", Pager(HISTORY, HistoryLine, BY_VERSION))


def lines_asked(
    context: Context,
    stream: UUID | None = None,
    actor: UUID | None = None,
    aggregate: str | None = None,
    after_position: int | None = None,
    descending: bool = False,
    **slice: Any,
) -> Asked[HistoryLine]:
    """What the history is asked for, of its resolver and of the planner alike."""
    given = {"stream": stream, "actor": actor, "aggregate": aggregate, "after_position": after_position}
    which = narrowed(HistoryFilter, context, given)
    return Asked(LINES_LATEST_FIRST if descending else LINES, Slice(**slice), which.conditions())


@strawberry.type
class HistoryQuery:
    """Questions about the history of the whole institution."""

    @strawberry.field(description="履历 – the institution's events, in the order it came to know of them.")
    async def history(
        self,
        info: Info,
        stream: Annotated[UUID | None, argument(HistoryFilter, "stream")] = None,
        actor: Annotated[UUID | None, argument(HistoryFilter, "actor")] = None,
        aggregate: Annotated[str | None, argument(HistoryFilter, "aggregate")] = None,
        after_position: Annotated[BigInt | None, argument(HistoryFilter, "after_position")] = None,
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
        slice = {"first": first, "after": after, "last": last, "before": before}
        asked = lines_asked(context, stream, actor, aggregate, after_position, descending, **slice)
        await context.consistent(OF_CASES, consistent_with)
        return await page_of(context, *asked)
