"""Complaint cases over GraphQL: the list, one case as it is or was, its history, who set which field."""

from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from strawberry.utils.str_converters import to_camel_case

from api.asof import AsOf, Bounds, Then, folded, must_be_past
from api.clock import CLOCKS_OF_CASE, ComplaintClock, seconds_past
from api.context import Context, Info, in_thread
from api.history import LINES_OF_CASE, HistoryLine
from api.narrow import input_of, narrowed
from api.node import Node, node_of
from api.page import After, Asked, Before, Connection, ConsistentWith, First, Last, known_page, page_of
from api.row import closed_set, of_row
from api.scalars import BigInt
from domain.complaint import Category, Channel, Severity, Stage
from domain.kernel import Refused, text
from projections.asof import Blame, blame
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.complaint_questions import ORDERS, CaseFilter, CaseOrder, cases, cases_numbered
from projections.history import words
from projections.history_filter import HistoryFilter
from projections.page import Pager, Slice
from projections.personal import personal_columns
from projections.question import Question, ask_async
from projections.view import Key, Row
from projections.views import OF_CASES

T = TypeVar("T", bound=Row)

for kind in (Stage, Channel, Category, Severity, CaseOrder):
    closed_set(kind)


async def _as_it_was(context: Context, key: Key, bounds: Bounds) -> "Complaint | None":
    context.may_ask("complaintAsOf")
    await must_be_past(context, key[0], bounds)
    rows = await folded(context, COMPLAINTS, key, bounds)
    return _then(rows[0], bounds) if rows else None


@node_of(COMPLAINTS, "complaint", as_it_was=_as_it_was)
@of_row("投诉案件 – a complaint case, as the complaint list shows it.")
class Complaint(ComplaintRow, Node):
    """One case. `then` is set when it is shown as it was."""

    then: strawberry.Private[Then | None] = None

    @strawberry.field(description="逾期秒数 – elapsed seconds past the nearest running deadline; 0 while in time.")
    def overdue(self, info: Info) -> BigInt:
        """How late the case is, at the one moment of the request or the moment it is looked at."""
        return seconds_past(self.next_due_at, info.context.now if self.then is None else self.then.at)

    @strawberry.field(
        description="时限 – the case's clocks, in the order they began.", metadata={"link": CLOCKS_OF_CASE}
    )
    async def clocks(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[ComplaintClock]:
        """Every interval of every clock."""
        slice = Slice(first, after, last, before)
        if self.then is None:
            return await CLOCKS_OF_CASE.page(info.context, self, slice)
        rows = await folded(info.context, CLOCKS, self.complaint_id, self.then.bounds)
        return known_page(CLOCKS_OF_CASE.pager, [ComplaintClock(**vars(row), then=self.then) for row in rows], slice)

    @strawberry.field(description="履历 – the events of the case, in order.", metadata={"link": LINES_OF_CASE})
    async def history(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[HistoryLine]:
        """What happened, line by line."""
        slice = Slice(first, after, last, before)
        if self.then is None:
            return await LINES_OF_CASE.page(info.context, self, slice)
        which = HistoryFilter(stream=self.complaint_id, **self.then.bounds)
        return await page_of(info.context, LINES_OF_CASE.pager, slice, which.conditions())


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


@input_of(CaseFilter, "筛选 – which cases; what is left out does not narrow, a list says “one of”.")
class ComplaintFilter:
    """The list's filter."""


PAGERS = {order: Pager(COMPLAINTS, Complaint, by) for order, by in ORDERS.items()}


def cases_asked(
    context: Context,
    filter: ComplaintFilter | None = None,
    order_by: CaseOrder = CaseOrder.RECEIVED,
    descending: bool = True,
    **slice: Any,
) -> Asked[Complaint]:
    """What the list is asked for, of its resolver and of the planner alike."""
    which = narrowed(CaseFilter, context, {} if filter is None else vars(filter))
    return Asked(PAGERS[order_by, descending], Slice(**slice), which.conditions())


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
        await context.consistent(OF_CASES, consistent_with)
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
        asked = cases_asked(context, filter, order_by, descending, first=first, after=after, last=last, before=before)
        await context.consistent(OF_CASES, consistent_with)
        return await page_of(context, *asked)

    @strawberry.field(description="当时的案件 – the case as it was: folded anew from the events up to then.")
    async def complaint_as_of(self, info: Info, id: CaseId, as_of: AsOf) -> Complaint | None:
        """The case as it was; an error when it did not exist by then."""
        context = info.context
        context.may_ask("complaintAsOf")
        await must_be_past(context, id, as_of.bounds())
        return await case_as_of(context, id, as_of.bounds())

    @strawberry.field(description="逐项出处 – which event set each field of the case.")
    async def complaint_blame(self, info: Info, id: CaseId, as_of: AsOf | None = None) -> list[FieldBlame]:
        """Every field of the case with the event that set it, as of now or of then."""
        context = info.context
        context.may_ask("complaintBlame")
        bounds = as_of.bounds() if as_of is not None else {}
        await must_be_past(context, id, bounds)
        house, institution = context.reach.house, context.institution
        found: dict[str, Blame] = await in_thread(lambda: blame(house, COMPLAINTS, institution, id, **bounds))
        if not found:
            raise _none(id, bounds)
        row = COMPLAINTS.row(**{name: said.value for name, said in found.items()})
        personal = personal_columns(COMPLAINTS.row)
        return [
            _blamed(name, said, context.reveal(row, name) if name in personal else said.value)
            for name, said in found.items()
        ]


async def case_as_of(context: Context, id: UUID, bounds: Bounds, *, latest: bool = False) -> Complaint:
    """One case folded from its events up to the bounds; refused when there is none by then."""
    rows = await folded(context, COMPLAINTS, id, bounds)
    if not rows:
        raise _none(id, bounds)
    return _then(rows[0], bounds, latest=latest)


def _then(row: ComplaintRow, bounds: Bounds, *, latest: bool = False) -> Complaint:
    return Complaint(**vars(row), then=Then.of(bounds, row.last_at, latest=latest))


def unknown(asked: object, field: str = "id") -> Refused:
    """The same whether there is no such case or it is another institution's."""
    return Refused(
        "complaint.unknown",
        f"Your institution has no complaint {str(asked)[:60]}; look it up in the list by its number.",
        field=field,
    )


def _none(id: UUID, bounds: Bounds) -> Refused:
    if not bounds:
        return unknown(id)
    return Refused(
        "complaint.not_yet",
        f"Your institution had no complaint {id} then; check the id, or ask for a later moment.",
        field="as_of",
    )


def _blamed(name: str, said: Blame, value: Any) -> FieldBlame:
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


async def _ask(context: Context, question: Question[T]) -> list[T]:
    async with context.reading() as database:
        return await ask_async(database, question)
