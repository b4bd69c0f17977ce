"""Clocks: who must have done what by when, and how it ended (CC-24, CC-64).

A clock runs in *intervals*, numbered per case and step. An interval that has stopped keeps its result for ever; a
restart is the next interval. What starts and stops is written into the event that caused it, so a later policy cannot
rewrite an old promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.kernel import StaffId


class Step(StrEnum):
    """What a clock measures."""

    FIRST_RECORD = "first_record"  # CC-02
    FORM = "form"  # CC-09
    EVIDENCE = "evidence"  # CC-25
    QUALIFY = "qualify"  # CC-26
    PLAN = "plan"  # CC-27
    APPROVE = "approve"  # CC-28
    NEGOTIATE = "negotiate"  # CC-29
    DISPUTE = "dispute"  # B13
    FORMALITIES = "formalities"  # CC-30
    FILE = "file"  # CC-32
    INTERNAL_HANDLING = "internal_handling"  # CC-34
    IMPROVE = "improve"  # CC-35
    EXECUTE = "execute"  # CC-37
    CONFIRM = "confirm"  # CC-37
    FOLLOW_UP = "follow_up"  # CC-38
    IMPORTED_WORK = "imported_work"
    INVESTIGATE = "investigate"  # CC-21
    FIRST_CONTACT = "first_contact"  # CC-22
    CLOSE = "close"  # CC-23
    PLANNED = "planned"
    FEEDBACK = "feedback"  # B2


class ClockKind(StrEnum):
    """`step`: exactly one while the case is open. `case`: beside it, over several steps. `statutory`: the law's."""

    STEP = "step"
    CASE = "case"
    STATUTORY = "statutory"


class Outcome(StrEnum):
    """How an interval ended: in time, too late, or without a verdict of its own."""

    MET = "met"
    LATE = "late"
    PAUSED = "paused"
    SUPERSEDED = "superseded"
    ABANDONED = "abandoned"


@dataclass(frozen=True, kw_only=True)
class ClockStarted:
    """One interval of a clock began to run.

    `counted_from` is the moment the time allowed is counted from; it may lie before `started_at` when an earlier
    interval of the same duty was replaced. `due_provisional`: the year's holidays were not announced yet. `policy` and
    `policy_version` name the policy applied (version 0: the house's defaults), `rule` the rule it comes from.
    `assumed`: the rule book's figure is lost and a default stands in. `clamped`: the law allows less than the
    institution's own figure, so the law's was taken.
    """

    step: Step
    kind: ClockKind
    interval: int
    responsible: StaffId
    started_at: datetime
    counted_from: datetime
    due_at: datetime | None
    due_provisional: bool = False
    policy: UUID | None = None
    policy_version: int = 0
    rule: str = ""
    assumed: bool = False
    clamped: bool = False


@dataclass(frozen=True, kw_only=True)
class ClockStopped:
    """One interval of a clock ended. `late_seconds` is the elapsed time past `due_at`, 0 when in time."""

    step: Step
    kind: ClockKind
    interval: int
    responsible: StaffId
    started_at: datetime
    due_at: datetime | None
    stopped_at: datetime
    outcome: Outcome
    late_seconds: int = 0
