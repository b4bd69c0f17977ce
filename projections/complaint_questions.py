"""What is asked of complaint cases and their clocks.

Lists are paged (`projections/page.py`) in an order that names its index, under the conditions of a filter
(`projections/filter.py`); what has a known end is a `Question`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated
from uuid import UUID

from domain.clock import ClockKind
from domain.complaint_words import Category, Channel, Severity, Stage
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.filter import Filter, Narrowing
from projections.page import Condition, Order
from projections.question import Question, question


class CaseOrder(StrEnum):
    """What the complaint list can be ordered by; ties are in the order of the cases' ids."""

    RECEIVED = "received"
    DUE = "due"
    NUMBER = "number"


_ORDERED = {
    CaseOrder.RECEIVED: Order(("received_at",), index="complaint_case_received"),
    CaseOrder.DUE: Order(("next_due_at",), index="complaint_case_due"),
    CaseOrder.NUMBER: Order(("number",), index="complaint_case_number"),
}
ORDERS: Mapping[tuple[CaseOrder, bool], Order] = MappingProxyType(
    {(by, down): replace(order, descending=down) for by, order in _ORDERED.items() for down in (False, True)}
)
"""The orders of the list, by what and whether descending. By due date, cases without one are the latest."""

CLOCKS_BY_DUE = Order(("due_at",), index="complaint_clock_running")
"""The order of the overdue board: what is due first comes first."""

CLOCKS_AS_BEGUN = Order(("started_at", "started_version"), index="complaint_clock_pkey", of_few=True)
"""The order of one case's clocks."""

_RECEIVED = "complaint_case_received"


@dataclass(frozen=True, kw_only=True)
class CaseFilter(Filter):
    """Which cases. Lists say "one of"; `text` is looked for without regard to upper and lower case."""

    stages: Annotated[Sequence[Stage] | None, Narrowing("stage = ANY(%s)", index="complaint_case_stage")] = None
    channels: Annotated[Sequence[Channel] | None, Narrowing("channel = ANY(%s)", index=_RECEIVED, walks=True)] = None
    categories: Annotated[Sequence[Category] | None, Narrowing("category = ANY(%s)", index=_RECEIVED, walks=True)] = (
        None
    )
    severities: Annotated[Sequence[Severity] | None, Narrowing("severity = ANY(%s)", index=_RECEIVED, walks=True)] = (
        None
    )
    owner: Annotated[UUID | None, Narrowing("owner = %s", index="complaint_case_owner")] = None
    department: Annotated[str | None, Narrowing("%s = ANY(departments)", index=_RECEIVED, walks=True)] = None
    overdue_at: Annotated[
        datetime | None,
        Narrowing(
            "CASE WHEN next_due_at IS NULL THEN 'infinity' ELSE next_due_at END < %s",
            index="complaint_case_due",
            said="逾期 – a running deadline has passed.",
            flag="overdue_only",
        ),
    ] = None
    received_from: Annotated[datetime | None, Narrowing("received_at >= %s", index=_RECEIVED, said="Included.")] = None
    received_before: Annotated[
        datetime | None, Narrowing("received_at < %s", index=_RECEIVED, said="Not included.")
    ] = None
    closed: Annotated[bool | None, Narrowing("(closed_at IS NOT NULL) = %s", index=_RECEIVED, walks=True)] = None
    source: Annotated[
        str | None, Narrowing("source = %s", index=_RECEIVED, walks=True, said="The import it came with.")
    ] = None
    text: Annotated[
        str | None,
        Narrowing(
            "strpos(lower(concat_ws(chr(10), number, reference)), lower(%s)) > 0",
            index=_RECEIVED,
            walks=True,
            said="Part of the number or of another system's reference.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ClockFilter(Filter):
    """Which running clocks: those overdue at a moment, those one person answers for (CC-24, CC-36).

    Each condition names the running clocks, which is what their indexes hold.
    """

    kinds: Annotated[
        Sequence[ClockKind] | None,
        Narrowing(
            "stopped_at IS NULL AND kind = ANY(%s)", index="complaint_clock_running", walks=True, said="时限种类"
        ),
    ] = None
    overdue_at: Annotated[
        datetime | None,
        Narrowing(
            "stopped_at IS NULL AND CASE WHEN due_at IS NULL THEN 'infinity' ELSE due_at END < %s",
            index="complaint_clock_running",
            said="只看逾期",
            flag="overdue_only",
        ),
    ] = None
    responsible: Annotated[
        UUID | None,
        Narrowing("stopped_at IS NULL AND responsible = %s", index="complaint_clock_responsible", said="责任人"),
    ] = None

    def conditions(self) -> list[Condition]:
        """The same in SQL; of every kind, where none is said."""
        return super().conditions() or ClockFilter(kinds=tuple(ClockKind)).conditions()


def cases(institution: str, ids: Sequence[UUID]) -> Question[ComplaintRow]:
    """The cases with these ids, those that there are, in the order of their ids."""
    return question(
        COMPLAINTS,
        """
        SELECT {columns}
        FROM complaint_case
        WHERE institution = %(institution)s AND complaint_id = ANY(%(ids)s)
        ORDER BY complaint_id
        """,
        institution=institution,
        ids=list(ids),
    )


def cases_numbered(institution: str, number: str) -> Question[ComplaintRow]:
    """The case with this number; several only if another system's numbers were taken over twice."""
    return question(
        COMPLAINTS,
        """
        SELECT {columns}
        FROM complaint_case
        WHERE institution = %(institution)s AND number = %(number)s AND number <> ''
        ORDER BY complaint_id
        """,
        institution=institution,
        number=number,
    )


def clocks_of(institution: str, cases: Sequence[UUID]) -> Question[ClockRow]:
    """Every interval of every clock of these cases, case by case in the order they began."""
    return question(
        CLOCKS,
        """
        SELECT {columns}
        FROM complaint_clock
        WHERE institution = %(institution)s AND complaint_id = ANY(%(cases)s)
        ORDER BY complaint_id, started_at, started_version, step, "interval"
        """,
        institution=institution,
        cases=list(cases),
    )


def clocks_late(institution: str, since: datetime, before: datetime, limit: int) -> Question[ClockRow]:
    """Intervals that ended late from `since` on and before `before`, the latest end first (CC-36)."""
    return question(
        CLOCKS,
        """
        SELECT {columns}
        FROM complaint_clock
        WHERE institution = %(institution)s AND outcome = 'late'
          AND stopped_at >= %(since)s AND stopped_at < %(before)s
        ORDER BY stopped_at DESC, complaint_id DESC, step DESC, "interval" DESC
        LIMIT %(limit)s
        """,
        institution=institution,
        since=since,
        before=before,
        limit=limit,
    )
