"""What is asked of complaint cases and their clocks.

Lists are paged (`projections/page.py`) in an order of ORDERS or CLOCKS_BY_DUE under the conditions of a filter; what
has a known end is a `Question`. Every order has its index in the migrations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from domain.clock import ClockKind
from domain.complaint_words import Category, Channel, Severity, Stage
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.page import Condition, Order
from projections.question import Question, question


class CaseOrder(StrEnum):
    """What the complaint list can be ordered by; ties are in the order of the cases' ids."""

    RECEIVED = "received"
    DUE = "due"
    NUMBER = "number"


_COLUMNS = {CaseOrder.RECEIVED: "received_at", CaseOrder.DUE: "next_due_at", CaseOrder.NUMBER: "number"}
ORDERS: Mapping[tuple[CaseOrder, bool], Order] = MappingProxyType(
    {(by, down): Order((column,), descending=down) for by, column in _COLUMNS.items() for down in (False, True)}
)
"""The orders of the list, by what and whether descending. By due date, cases without one are the latest."""

CLOCKS_BY_DUE = Order(("due_at",))
"""The order of the overdue board: what is due first comes first."""


@dataclass(frozen=True, kw_only=True)
class CaseFilter:
    """Which cases; what is None or empty does not narrow. Lists say "one of".

    `overdue_at`: cases with a running deadline that had passed at that moment. `received_from` is included,
    `received_before` is not. `text` is looked for in number and reference, without regard to upper and lower case.
    """

    stages: Sequence[Stage] = ()
    channels: Sequence[Channel] = ()
    categories: Sequence[Category] = ()
    severities: Sequence[Severity] = ()
    owner: UUID | None = None
    department: str | None = None
    overdue_at: datetime | None = None
    received_from: datetime | None = None
    received_before: datetime | None = None
    closed: bool | None = None
    source: str | None = None
    text: str | None = None

    def conditions(self) -> list[Condition]:
        """The same in SQL."""
        known: list[Condition] = [
            ("stage = ANY(%s)", _words(self.stages)),
            ("channel = ANY(%s)", _words(self.channels)),
            ("category = ANY(%s)", _words(self.categories)),
            ("severity = ANY(%s)", _words(self.severities)),
            ("owner = %s", self.owner),
            ("%s = ANY(departments)", self.department),
            ("coalesce(next_due_at, 'infinity') < %s", self.overdue_at),
            ("received_at >= %s", self.received_from),
            ("received_at < %s", self.received_before),
            ("(closed_at IS NOT NULL) = %s", self.closed),
            ("source = %s", self.source),
            ("strpos(lower(concat_ws(chr(10), number, reference)), lower(%s)) > 0", self.text or None),
        ]
        return [(text, value) for text, value in known if value is not None]


@dataclass(frozen=True, kw_only=True)
class ClockFilter:
    """Which running clocks: those overdue at a moment, those one person answers for (CC-24, CC-36)."""

    kinds: Sequence[ClockKind] = tuple(ClockKind)
    overdue_at: datetime | None = None
    responsible: UUID | None = None

    def conditions(self) -> list[Condition]:
        """The same in SQL; each names the running clocks, which is what their index holds."""
        known: list[Condition] = [
            ("stopped_at IS NULL AND kind = ANY(%s)", _words(self.kinds)),
            ("stopped_at IS NULL AND coalesce(due_at, 'infinity') < %s", self.overdue_at),
            ("stopped_at IS NULL AND responsible = %s", self.responsible),
        ]
        return [(text, value) for text, value in known if value is not None]


def _words(several: Sequence[StrEnum]) -> list[str] | None:
    return [word.value for word in several] or None


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
