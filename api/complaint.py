"""Complaint cases over GraphQL: the list, one case as it is or was, its clocks, its history, who set which field."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from strawberry.utils.str_converters import to_camel_case

from api.context import Context, Info, in_thread
from api.history import LINES_OF_STREAM, HistoryLine, lines_of, page_of_lines
from api.page import After, Before, Connection, ConsistentWith, First, Last, connection
from api.row import closed_set, of_row
from api.scalars import BigInt
from domain.clock import ClockKind
from domain.complaint import Category, Channel, Severity, Stage
from domain.kernel import Refused, text
from projections.asof import Blame, as_of, blame
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.complaint_questions import (
    CLOCKS_BY_DUE,
    ORDERS,
    CaseFilter,
    CaseOrder,
    ClockFilter,
    cases,
    cases_numbered,
)
from projections.history import HISTORY, words
from projections.history_filter import HistoryFilter
from projections.page import Order, Pager, Slice
from projections.question import Question, ask_async
from projections.view import Row, View

T = TypeVar("T", bound=Row)

for kind in (Stage, Channel, Category, Severity, ClockKind, CaseOrder):
    closed_set(kind)


@strawberry.input(one_of=True, description="何时 – the moment to look at; name exactly one.")
class AsOf:
    """The bound up to which events are folded."""

    version: BigInt | None = strawberry.field(default=strawberry.UNSET, description="案卷版本 – events of the case.")
    position: BigInt | None = strawberry.field(default=strawberry.UNSET, description="机构内位置 – a position.")
    occurred_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="发生时间 – what is known today of how things stood then."
    )
    recorded_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="记录时间 – what was known then."
    )

    def bounds(self) -> dict[str, Any]:
        """The one bound that was named."""
        return {name: value for name, value in vars(self).items() if value not in (strawberry.UNSET, None)}


@of_row("时限 – one interval of one clock: who had to have done what by when, and how it ended.")
class ComplaintClock(ClockRow):
    """One interval of a clock."""

    moment: strawberry.Private[datetime | None] = None

    @strawberry.field(
        description="逾期秒数 – elapsed seconds past the deadline, up to now while it runs; 0 while in time."
    )
    def overdue(self, info: Info) -> BigInt:
        """How late it is or was."""
        if self.stopped_at is not None:
            return BigInt(self.late_seconds)
        return _seconds_past(self.due_at, self.moment or info.context.now)


CLOCKS_OF_CASE = Pager(CLOCKS, ComplaintClock, Order(("started_at", "started_version")))
CLOCKS_DUE = Pager(CLOCKS, ComplaintClock, CLOCKS_BY_DUE)


@of_row("投诉案件 – a complaint case, as the complaint list shows it.")
class Complaint(ComplaintRow):
    """One case. `bounds` is set when it is shown as it was."""

    bounds: strawberry.Private[dict[str, Any] | None] = None

    @property
    def moment(self) -> datetime | None:
        """The time a case that is shown as it was is looked at; None for now."""
        if self.bounds is None:
            return None
        return self.bounds.get("occurred_at") or self.bounds.get("recorded_at") or self.last_at

    @strawberry.field(description="逾期秒数 – elapsed seconds past the nearest running deadline; 0 while in time.")
    def overdue(self, info: Info) -> BigInt:
        """How late the case is, at the one moment of the request or the moment it is looked at."""
        return _seconds_past(self.next_due_at, self.moment or info.context.now)

    @strawberry.field(description="时限 – the case's clocks, in the order they began.")
    async def clocks(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[ComplaintClock]:
        """Every interval of every clock."""
        slice = Slice(first, after, last, before)
        if self.bounds is None:
            return await _clocks_of(info.context, self.complaint_id, slice)
        rows = await _folded(info.context, CLOCKS, self.complaint_id, self.bounds)
        known = [ComplaintClock(**vars(row), moment=self.moment) for row in rows]
        return connection(CLOCKS_OF_CASE.page_of(known, slice), partial(_known, len(known)))

    @strawberry.field(description="履历 – the events of the case, in order.")
    async def history(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[HistoryLine]:
        """What happened, line by line."""
        slice = Slice(first, after, last, before)
        if self.bounds is None:
            return await lines_of(info.context, self.complaint_id, slice)
        which = HistoryFilter(stream=self.complaint_id, **self.bounds)
        return await page_of_lines(info.context, LINES_OF_STREAM, which, slice)


@strawberry.type(description="出处 – the event that gave a field of a case the value it has.")
class FieldBlame:
    """One field and its event."""

    field: str
    value: str | None = strawberry.field(description="In words; null when the field is empty.")
    position: BigInt
    version: BigInt
    topic: str
    actor: UUID
    occurred_at: datetime
    recorded_at: datetime


@strawberry.input(description="筛选 – which cases; what is left out does not narrow, a list says “one of”.")
class ComplaintFilter:
    """The list's filter."""

    stages: list[Stage] | None = None
    channels: list[Channel] | None = None
    categories: list[Category] | None = None
    severities: list[Severity] | None = None
    owner: UUID | None = None
    department: str | None = None
    overdue_only: bool = strawberry.field(default=False, description="逾期 – a running deadline has passed.")
    received_from: datetime | None = strawberry.field(default=None, description="Included.")
    received_before: datetime | None = strawberry.field(default=None, description="Not included.")
    closed: bool | None = None
    source: str | None = strawberry.field(default=None, description="The import it came with.")
    text: str | None = strawberry.field(
        default=None, description="Part of the number or of another system's reference."
    )

    def cases(self, now: datetime) -> CaseFilter:
        """The same for the view."""
        said = {name: _said(getattr(self, name), name) for name in ("department", "source", "text")}
        return CaseFilter(
            stages=self.stages or (),
            channels=self.channels or (),
            categories=self.categories or (),
            severities=self.severities or (),
            owner=self.owner,
            overdue_at=now if self.overdue_only else None,
            received_from=self.received_from,
            received_before=self.received_before,
            closed=self.closed,
            **said,
        )


def _said(value: str | None, field: str) -> str | None:
    return None if value is None else text(value, field, required=False, longest=200) or None


PAGERS = {order: Pager(COMPLAINTS, Complaint, by) for order, by in ORDERS.items()}

CaseId = Annotated[UUID, strawberry.argument(description="案件标识")]


@strawberry.type
class ComplaintQuery:
    """Questions about complaint cases."""

    @strawberry.field(description="投诉案件 – one case, by its id or by its number.")
    async def complaint(
        self,
        info: Info,
        id: Annotated[UUID | None, strawberry.argument(description="案件标识")] = None,
        number: Annotated[str | None, strawberry.argument(description="案件编号")] = None,
        consistent_with: ConsistentWith = None,
    ) -> Complaint | None:
        """One case as the list has it; an error with code complaint.unknown when there is none."""
        context = info.context
        context.may_ask("complaint")
        if (id is None) == (number is None):
            raise Refused("query.which", "Ask by `id` or by `number`, one of them.", field="id")
        await context.consistent([COMPLAINTS, CLOCKS, HISTORY], consistent_with)
        if id is not None:
            question = cases(context.institution, [id])
        else:
            question = cases_numbered(context.institution, text(number or "", "number", longest=100))
        found = await _ask(context, question.made_as(Complaint))
        if not found:
            raise unknown(id if id is not None else number, "id" if id is not None else "number")
        return found[0]

    @strawberry.field(description="投诉列表 – cases, page by page.")
    async def complaints(
        self,
        info: Info,
        filter: ComplaintFilter | None = None,
        order_by: CaseOrder = CaseOrder.RECEIVED,
        descending: bool = True,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        consistent_with: ConsistentWith = None,
    ) -> Connection[Complaint]:
        """A page of the list."""
        context = info.context
        context.may_ask("complaints")
        slice = Slice(first, after, last, before)
        where = (filter or ComplaintFilter()).cases(context.now).conditions()
        await context.consistent([COMPLAINTS, CLOCKS, HISTORY], consistent_with)
        pager = PAGERS[order_by, descending]
        async with context.reading() as database:
            page = await pager.page(database, context.institution, slice, where)
        return connection(page, partial(_count, context, pager, where))

    @strawberry.field(description="时限看板 – running clocks of all cases, what is due first comes first.")
    async def complaint_clocks(
        self,
        info: Info,
        kinds: Annotated[list[ClockKind] | None, strawberry.argument(description="时限种类")] = None,
        overdue_only: Annotated[bool, strawberry.argument(description="只看逾期")] = False,
        responsible: Annotated[UUID | None, strawberry.argument(description="责任人")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        consistent_with: ConsistentWith = None,
    ) -> Connection[ComplaintClock]:
        """A page of the board."""
        context = info.context
        context.may_ask("complaintClocks")
        await context.consistent([CLOCKS], consistent_with)
        which = ClockFilter(
            kinds=kinds or tuple(ClockKind),
            overdue_at=context.now if overdue_only else None,
            responsible=responsible,
        ).conditions()
        async with context.reading() as database:
            page = await CLOCKS_DUE.page(database, context.institution, Slice(first, after, last, before), which)
        return connection(page, partial(_count, context, CLOCKS_DUE, which))

    @strawberry.field(description="当时的案件 – the case as it was: folded anew from the events up to then.")
    async def complaint_as_of(self, info: Info, id: CaseId, as_of: AsOf) -> Complaint | None:
        """The case as it was; an error when it did not exist by then."""
        context = info.context
        context.may_ask("complaintAsOf")
        return await case_as_of(context, id, as_of.bounds())

    @strawberry.field(description="逐项出处 – which event set each field of the case.")
    async def complaint_blame(self, info: Info, id: CaseId, as_of: AsOf | None = None) -> list[FieldBlame]:
        """Every field of the case with the event that set it, as of now or of then."""
        context = info.context
        context.may_ask("complaintBlame")
        bounds = as_of.bounds() if as_of is not None else {}
        house, institution = context.reach.house, context.institution
        found: dict[str, Blame] = await in_thread(lambda: blame(house, COMPLAINTS, institution, id, **bounds))
        if not found:
            raise _none(id, bounds)
        return [_blamed(name, said) for name, said in found.items()]


async def case_as_of(context: Context, id: UUID, bounds: dict[str, Any]) -> Complaint:
    """One case folded from its events up to the bounds; refused when there is none by then."""
    rows = await _folded(context, COMPLAINTS, id, bounds)
    if not rows:
        raise _none(id, bounds)
    return Complaint(**vars(rows[0]), bounds=bounds)


def unknown(asked: object, field: str = "id") -> Refused:
    """The same whether there is no such case or it is another institution's."""
    return Refused(
        "complaint.unknown",
        f"Your institution has no complaint {str(asked)[:60]}; look it up in the list by its number.",
        field=field,
    )


def _none(id: UUID, bounds: dict[str, Any]) -> Refused:
    if not bounds:
        return unknown(id)
    return Refused(
        "complaint.not_yet",
        f"Your institution had no complaint {id} then; check the id, or ask for a later moment.",
        field="as_of",
    )


def _blamed(name: str, said: Blame) -> FieldBlame:
    value = said.value
    shown = ", ".join(words(v) for v in value) if isinstance(value, tuple) else None if value is None else words(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  a row's tuples hold what its words are made of
    return FieldBlame(
        field=to_camel_case(name),
        value=shown or None,
        position=BigInt(said.position),
        version=BigInt(said.version),
        topic=said.topic,
        actor=said.actor,
        occurred_at=said.occurred_at,
        recorded_at=said.recorded_at,
    )


def _seconds_past(due_at: datetime | None, moment: datetime) -> BigInt:
    return BigInt(0 if due_at is None else max(0, int((moment - due_at).total_seconds())))


async def _folded(context: Context, view: View[T], id: UUID, bounds: dict[str, Any]) -> list[T]:
    house, institution = context.reach.house, context.institution
    return await in_thread(lambda: as_of(house, view, institution, id, **bounds))


async def _clocks_of(context: Context, case: UUID, slice: Slice) -> Connection[ComplaintClock]:
    """A page of one case's clocks; many are asked for at once."""

    async def load(asked: list[UUID]) -> list[Connection[ComplaintClock]]:
        async with context.reading() as database:
            pages = await CLOCKS_OF_CASE.pages(database, context.institution, "complaint_id", asked, slice)
        return [connection(pages[id], _counting(context, id)) for id in asked]

    return await context.loader(("clocks", slice), load).load(case)


def _counting(context: Context, case: UUID) -> Callable[[], Awaitable[int]]:
    return partial(_count, context, CLOCKS_OF_CASE, [("complaint_id = %s", case)])


async def _known(count: int) -> int:
    return count


async def _count(context: Context, pager: Pager[Any], where: Any) -> int:
    async with context.reading() as database:
        return await pager.count(database, context.institution, where)


async def _ask(context: Context, question: Question[T]) -> list[T]:
    async with context.reading() as database:
        return await ask_async(database, question)
