"""The clocks of complaint cases over GraphQL: all of one case, and what runs and is due in the whole institution."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry

from api.asof import Bounds, Then, folded, must_be_past
from api.context import Context, Info
from api.link import ToMany, ToOne
from api.narrow import argument, narrowed
from api.node import Node, node_of
from api.page import After, Asked, Before, Connection, ConsistentWith, First, Last, page_of
from api.row import closed_set, of_row
from api.scalars import BigInt
from domain.clock import ClockKind
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS
from projections.complaint_questions import CLOCKS_AS_BEGUN, CLOCKS_BY_DUE, ClockFilter
from projections.page import Pager, Slice
from projections.view import Key
from projections.views import OF_CASES

if TYPE_CHECKING:
    from api.complaint import Complaint

closed_set(ClockKind)

CASE_OF_CLOCK = ToOne("complaint_id", COMPLAINTS, asks="complaint")


async def _as_it_was(context: Context, key: Key, bounds: Bounds) -> "ComplaintClock | None":
    context.may_ask("complaintAsOf")
    await must_be_past(context, key[0], bounds)
    rows = await folded(context, CLOCKS, key, bounds)
    cases = await folded(context, COMPLAINTS, key[0], bounds) if rows else []
    return ComplaintClock(**vars(rows[0]), then=Then.of(bounds, cases[0].last_at)) if cases else None


@node_of(CLOCKS, "complaintClocks", as_it_was=_as_it_was)
@of_row("时限 – one interval of one clock: who had to have done what by when, and how it ended.")
class ComplaintClock(ClockRow, Node):
    """One interval of a clock. `then` is set when it is shown as it was."""

    then: strawberry.Private[Then | None] = None

    @strawberry.field(
        description="逾期秒数 – elapsed seconds past the deadline, up to now while it runs; 0 while in time."
    )
    def overdue(self, info: Info) -> BigInt:
        """How late it is or was."""
        if self.stopped_at is not None:
            return BigInt(self.late_seconds)
        return seconds_past(self.due_at, info.context.now if self.then is None else self.then.at)

    @strawberry.field(
        description="投诉案件 – the case it is a clock of; null until the list shows it.",
        metadata={"link": CASE_OF_CLOCK},
    )
    async def complaint(self, info: Info) -> Annotated["Complaint", strawberry.lazy("api.complaint")] | None:
        """The case, as it was where the clock is shown as it was."""
        return await CASE_OF_CLOCK.row(info.context, self)


CLOCKS_DUE = Pager(CLOCKS, ComplaintClock, CLOCKS_BY_DUE)
CLOCKS_OF_CASE = ToMany("complaint_id", "complaint_id", Pager(CLOCKS, ComplaintClock, CLOCKS_AS_BEGUN))


def clocks_asked(
    context: Context,
    kinds: list[ClockKind] | None = None,
    overdue_only: bool = False,
    responsible: UUID | None = None,
    **slice: Any,
) -> Asked[ComplaintClock]:
    """What the board is asked for, of its resolver and of the planner alike."""
    given = {"kinds": kinds, "overdue_only": overdue_only, "responsible": responsible}
    return Asked(CLOCKS_DUE, Slice(**slice), narrowed(ClockFilter, context, given).conditions())


def seconds_past(due_at: datetime | None, moment: datetime) -> BigInt:
    """Elapsed seconds from a deadline to a moment; 0 while in time."""
    return BigInt(0 if due_at is None else max(0, int((moment - due_at).total_seconds())))


@strawberry.type
class ClockQuery:
    """Questions about clocks."""

    @strawberry.field(description="时限看板 – running clocks of all cases, what is due first comes first.")
    async def complaint_clocks(
        self,
        info: Info,
        kinds: Annotated[list[ClockKind] | None, argument(ClockFilter, "kinds")] = None,
        overdue_only: Annotated[bool, argument(ClockFilter, "overdue_only")] = False,
        responsible: Annotated[UUID | None, argument(ClockFilter, "responsible")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        consistent_with: ConsistentWith = None,
    ) -> Connection[ComplaintClock]:
        """A page of the board."""
        context = info.context
        context.may_ask("complaintClocks")
        asked = clocks_asked(
            context, kinds, overdue_only, responsible, first=first, after=after, last=last, before=before
        )
        await context.consistent(OF_CASES, consistent_with)
        return await page_of(context, *asked)
