"""What the planner knows of fields that are no columns: the questions it may answer, links and computed values.

A field that is not here, and has no column in its metadata, is resolved. Each question says, from the same arguments
as its resolver, what the resolver asks for; `tests/api/test_plan.py` compares the answers of both, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from api.clock import CLOCKS_DUE, CLOCKS_OF_CASE
from api.complaint import PAGERS, ComplaintFilter
from api.context import Context
from api.history import LINES, LINES_LATEST_FIRST, LINES_OF_CASE
from api.identity import of_view
from api.node import NODES_OF_VIEWS
from api.plan.sql import NOW, Ask, Link
from domain.clock import ClockKind
from domain.kernel import Refused, text
from projections.complaint_questions import CaseOrder, ClockFilter
from projections.history_filter import HistoryFilter
from projections.page import Condition, Pager, Slice
from projections.view import View
from projections.views import OF_CASES


@dataclass(frozen=True)
class Question:
    """A root field: the views it reads, which page it asks for, and whether it answers one row instead of a page."""

    reads: Sequence[View[Any]]
    ask: Callable[..., Ask]
    single: bool = False


def _complaints(
    context: Context,
    filter: ComplaintFilter | None = None,
    order_by: CaseOrder = CaseOrder.RECEIVED,
    descending: bool = True,
    **slice: Any,
) -> Ask:
    which = filter or ComplaintFilter()
    # the moment is asked for where it matters alone: an answer that is of none may be kept
    where = which.cases(context.now if which.overdue_only else context.moment).conditions()
    return Ask(PAGERS[order_by, descending], Slice(**slice), where)


def _complaint(_: Context, id: UUID | None = None, number: str | None = None) -> Ask:
    if (id is None) == (number is None):
        raise Refused("query.which", "Ask by `id` or by `number`, one of them.", field="id")
    if id is not None:
        where: list[Condition] = [("complaint_id = %s", id)]
    else:
        where = [("number = %s AND number <> ''", text(number or "", "number", longest=100))]
    return Ask(PAGERS[CaseOrder.NUMBER, False], Slice(first=1), where)


def _clocks(
    context: Context,
    kinds: list[ClockKind] | None = None,
    overdue_only: bool = False,
    responsible: UUID | None = None,
    **slice: Any,
) -> Ask:
    which = ClockFilter(
        kinds=kinds or tuple(ClockKind),
        overdue_at=context.now if overdue_only else None,
        responsible=responsible,
    )
    return Ask(CLOCKS_DUE, Slice(**slice), which.conditions())


def _history(
    _: Context,
    stream: UUID | None = None,
    actor: UUID | None = None,
    aggregate: str | None = None,
    after_position: int | None = None,
    descending: bool = False,
    **slice: Any,
) -> Ask:
    kind = None if aggregate is None else text(aggregate, "aggregate", longest=100)
    which = HistoryFilter(stream=stream, actor=actor, aggregate=kind, after_position=after_position)
    return Ask(LINES_LATEST_FIRST if descending else LINES, Slice(**slice), which.conditions())


QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        "complaints": Question(OF_CASES, _complaints),
        "complaint": Question(OF_CASES, _complaint, single=True),
        "complaintClocks": Question(OF_CASES, _clocks),
        "history": Question(OF_CASES, _history),
    }
)
"""By the name of the root field, which is also its name in `api.access.roles.QUERIES`."""

ROWS: Mapping[str, View[Any]] = MappingProxyType(NODES_OF_VIEWS)
"""The view whose rows a type shows."""

LINKS: Mapping[tuple[str, str], tuple[Link, Pager[Any]]] = MappingProxyType(
    {
        ("Complaint", "clocks"): (Link("complaint_id", "complaint_id"), CLOCKS_OF_CASE.pager),
        ("Complaint", "history"): (Link("stream_id", "complaint_id"), LINES_OF_CASE.pager),
    }
)
"""The pages of a row's own rows, by type and field."""


def _quoted(column: str) -> str:
    return f'"{column}"'


_PAST = f"greatest(0, trunc(extract(epoch FROM {NOW}::timestamptz - %s)))::bigint"
COMPUTED: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("Complaint", "overdue"): ("'\"' || coalesce(" + _PAST.replace("%s", "{0}.next_due_at") + ", 0) || '\"'"),
        ("ComplaintClock", "overdue"): (
            "'\"' || CASE WHEN {0}.stopped_at IS NOT NULL THEN {0}.late_seconds ELSE coalesce("
            + _PAST.replace("%s", "{0}.due_at")
            + ", 0) END || '\"'"
        ),
        **{
            (name, "id"): "'\"' || "
            + of_view(view).sql(["{0}." + column for column in map(_quoted, view.key)])
            + " || '\"'"
            for name, view in NODES_OF_VIEWS.items()
        },
    }
)
"""What a resolver computes, in SQL as JSON, by type and field; `{0}` is the row."""

ELEMENTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Change": {
            "field": "to_json(one.v->>'field')::text",
            "values": (
                "to_json(ARRAY(SELECT word.v FROM jsonb_array_elements_text(one.v->'values') WITH ORDINALITY"
                " AS word (v, n) ORDER BY word.n))::text"
            ),
            "personal": "one.v->>'personal'",
        }
    }
)
"""The fields of what a column holds several of, as `one.v`."""


__all__ = ["COMPUTED", "ELEMENTS", "LINKS", "QUESTIONS", "ROWS", "Question"]
