"""Clocks (时限): who had to have done what by when, and how it ended; one line per case, step and interval (CC-24).

A line gets its result once and keeps it: a restart is the next interval, so what was late stays late.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, assert_never
from uuid import UUID

from domain.clock import ClockKind, ClockStarted, ClockStopped, Outcome, Step
from domain.complaint_facts import CaseEvent
from projections.view import Key, Row, View


@dataclass(kw_only=True)
class ClockRow(Row):
    """One interval of one clock. Its fields are the columns of `complaint_clock`.

    While it runs, `stopped_at` and `outcome` are None. `late_seconds` is the time past `due_at`, 0 when in time.
    `policy` and `policy_version` name the policy applied, `rule` the rule it comes from; `assumed`: the rule book's
    figure is lost and a default stands in; `clamped`: the law allows less than the institution, so the law's was taken.
    """

    complaint_id: UUID
    step: Step
    interval: int
    kind: ClockKind
    responsible: UUID
    started_at: datetime
    counted_from: datetime
    due_at: datetime | None = None
    due_provisional: bool = False
    policy: UUID | None = None
    policy_version: int = 0
    rule: str = ""
    assumed: bool = False
    clamped: bool = False
    started_version: int
    stopped_at: datetime | None = None
    outcome: Outcome | None = None
    late_seconds: int = 0


class Moved(NamedTuple):
    """One interval of a case's clock that an event started or stopped."""

    event: CaseEvent
    what: ClockStarted | ClockStopped


def moves(event: CaseEvent) -> Iterator[tuple[Key, Moved]]:
    """The intervals an event moved; what it started may be among what it stopped, so starts come first."""
    for what in (*event.started, *event.stopped):
        yield (event.originator_id, what.step, what.interval), Moved(event, what)


def show(row: ClockRow | None, moved: Moved) -> ClockRow | None:
    """The interval once it has been started or stopped. A result that is there is never overwritten."""
    what = moved.what
    match what:
        case ClockStarted():
            return row or ClockRow(
                complaint_id=moved.event.originator_id,
                step=what.step,
                interval=what.interval,
                kind=what.kind,
                responsible=what.responsible,
                started_at=what.started_at,
                counted_from=what.counted_from,
                due_at=what.due_at,
                due_provisional=what.due_provisional,
                policy=what.policy,
                policy_version=what.policy_version,
                rule=what.rule,
                assumed=what.assumed,
                clamped=what.clamped,
                started_version=moved.event.originator_version,
            )
        case ClockStopped():
            assert row is not None, "an interval starts before it stops"
            if row.stopped_at is not None:
                return row
            after = copy(row)
            after.stopped_at = what.stopped_at
            after.outcome = what.outcome
            after.late_seconds = what.late_seconds
            return after
        case _:
            assert_never(what)


CLOCKS = View("complaint_clock", ClockRow, (CaseEvent,), show, ("complaint_id", "step", "interval"), moves)
