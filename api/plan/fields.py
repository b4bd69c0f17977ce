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

from api.clock import CLOCKS_OF_CASE, clocks_asked
from api.complaint import PAGERS, Complaint, cases_asked, unknown
from api.context import Context
from api.history import COMPLAINT_AGGREGATE, LINES_OF_CASE, lines_asked
from api.identity import of_view
from api.node import NODES_OF_VIEWS, may_see
from api.page import Asked
from api.plan.sql import NOW, Link
from domain.kernel import Refused, text
from projections.complaint_questions import CaseOrder
from projections.history import HISTORY
from projections.page import Condition, Pager, Slice
from projections.view import View
from projections.views import OF_CASES


@dataclass(frozen=True)
class Question:
    """A root field: the views it reads, and which page it asks for.

    One that answers one row instead of a page says in `none`, from the same arguments, what is refused when there is
    none.
    """

    reads: Sequence[View[Any]]
    ask: Callable[..., Asked[Any]]
    none: Callable[..., Refused] | None = None


def _complaint(_: Context, id: UUID | None = None, number: str | None = None) -> Asked[Complaint]:
    if (id is None) == (number is None):
        raise Refused("query.which", "Ask by `id` or by `number`, one of them.", field="id")
    if id is not None:
        where: list[Condition] = [("complaint_id = %s", id)]
    else:
        where = [("number = %s AND number <> ''", text(number or "", "number", longest=100))]
    return Asked(PAGERS[CaseOrder.NUMBER, False], Slice(first=1), where)


def _no_complaint(id: UUID | None = None, number: str | None = None) -> Refused:
    return unknown(number, "number") if id is None else unknown(id, "id")


QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        "complaints": Question(OF_CASES, cases_asked),
        "complaint": Question(OF_CASES, _complaint, _no_complaint),
        "complaintClocks": Question(OF_CASES, clocks_asked),
        "history": Question(OF_CASES, lines_asked),
    }
)
"""By the name of the root field, which is also its name in `api.access.roles.QUERIES`."""

ROWS: Mapping[str, View[Any]] = MappingProxyType(NODES_OF_VIEWS)
"""The view whose rows a type shows."""


def _lines_seen(context: Context) -> Sequence[Condition]:
    return () if may_see(context, "history") else [("aggregate = %s", COMPLAINT_AGGREGATE)]


CHOSEN: Mapping[str, Callable[[Context], Sequence[Condition]]] = MappingProxyType({HISTORY.name: _lines_seen})
"""Which nodes of a view whoever asks may see, where some are hidden from some (`api.node.chooses`), by its name."""

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
            "field": (
                "to_json(left(one.v->>'field', 1)"
                " || substr(replace(initcap((one.v->>'field') COLLATE \"C\"), '_', ''), 2))::text"
            ),
            "values": (
                "to_json(ARRAY(SELECT word.v FROM jsonb_array_elements_text(one.v->'values') WITH ORDINALITY"
                " AS word (v, n) ORDER BY word.n))::text"
            ),
            "personal": "one.v->>'personal'",
        }
    }
)
"""The fields of what a column holds several of, as `one.v`."""


__all__ = ["CHOSEN", "COMPUTED", "ELEMENTS", "LINKS", "QUESTIONS", "ROWS", "Question"]
