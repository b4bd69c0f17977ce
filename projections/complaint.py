"""Complaint cases (投诉案件) as the complaint list shows them: one line per case (CC-03, CC-04, CC-36, CC-64).

What a row says of the person who complained is personal and marked so; masks are compiled from the marks. Whether a
deadline has passed is not in the row: a fold reads no clock, so whoever shows the row compares `next_due_at` with now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, assert_never
from uuid import UUID

from domain.clock import ClockKind, Outcome, Step
from domain.complaint_facts import (
    AgreementReached,
    CaseClosed,
    CaseEscalated,
    CaseEvent,
    CaseReopened,
    ComplaintAccepted,
    ComplaintEvent,
    ComplaintImported,
    ComplaintQualified,
    ComplaintReceived,
    DocumentsSigned,
    EvidenceGathered,
    FeedbackGiven,
    FirstContactMade,
    FollowUpMade,
    FormalitiesCompleted,
    ImportedCaseEnded,
    ImprovementConfirmed,
    ImprovementExecuted,
    ImprovementProposed,
    ImprovementWaived,
    InternalHandlingProposed,
    InvestigationCompleted,
    NegotiationFailed,
    NegotiationRecorded,
    PlanApproved,
    PlanProposed,
    PlanReturned,
    ResponsibilityAttributed,
    RightsInformed,
    TransferAccepted,
    TransferDeclined,
    TransferOffered,
    WorkRecorded,
)
from domain.complaint_words import (
    Category,
    Channel,
    EscalationLevel,
    Payment,
    Remedy,
    Settlement,
    Severity,
    Stage,
)
from domain.personal import Personal
from domain.policy import Complexity
from projections.view import Row, View


@dataclass(kw_only=True)
class ComplaintRow(Row):
    """One case as it stands. Its fields are the columns of `complaint_case`; amounts are yuan.

    `number` is empty until the case is accepted. `clock_…` is the one step clock that runs while the case is open;
    `deadlines` are those of all its running clocks, soonest first, with their steps in `deadline_steps`.
    """

    complaint_id: UUID
    number: str = ""
    source: str | None = None
    reference: str | None = None
    stage: Stage
    channel: Channel
    received_at: datetime
    accepted_at: datetime | None = None
    complainant_id: UUID
    complainant: Annotated[str | None, Personal("complainant_id")] = None
    phone: Annotated[str | None, Personal("complainant_id")] = None
    statement: Annotated[str | None, Personal("complainant_id")] = None
    demand: Annotated[str | None, Personal("complainant_id")] = None
    reason: Annotated[str | None, Personal("complainant_id")] = None
    result: Annotated[str | None, Personal("complainant_id")] = None
    departments: tuple[str, ...] = ()
    accused: tuple[UUID, ...] = ()
    category: Category
    severity: Severity
    complexity: Complexity | None = None
    is_dispute: bool = False
    owner: UUID
    offered_to: UUID | None = None
    imported_responsible: str | None = None
    planned_close_by: datetime | None = None

    responsible: tuple[UUID, ...] = ()
    plan_author: UUID | None = None
    plan_submitted_to: UUID | None = None
    plan_approver: UUID | None = None
    plan_settlement: Settlement | None = None
    plan_amount: Decimal | None = None
    plan_remedies: tuple[Remedy, ...] = ()
    agreed_settlement: Settlement | None = None
    agreed_amount: Decimal | None = None
    payment: Payment | None = None
    payer: UUID | None = None
    settlement_pending: bool = False
    settlement_expected_at: datetime | None = None
    rights_informed_at: datetime | None = None
    feedback_at: datetime | None = None

    clock_step: Step | None = None
    clock_interval: int | None = None
    clock_responsible: UUID | None = None
    clock_started_at: datetime | None = None
    clock_due_at: datetime | None = None
    clock_provisional: bool = False
    clock_assumed: bool = False
    clock_clamped: bool = False
    deadline_steps: tuple[Step, ...] = ()
    deadlines: tuple[datetime, ...] = ()
    next_due_at: datetime | None = None
    clocks_met: int = 0
    clocks_late: int = 0

    closed_at: datetime | None = None
    finished_at: datetime | None = None
    reopened_count: int = 0
    escalation_level: EscalationLevel | None = None
    satisfaction: int | None = None
    follow_up_by: datetime | None = None
    last_topic: str
    last_work: str | None = None
    last_actor: UUID
    last_at: datetime


def show(row: ComplaintRow | None, event: ComplaintEvent) -> ComplaintRow | None:
    """The case after one more event; the row given is left as it was."""
    if row is None:
        after = _begun(event)
    else:
        # `replace` would make its sixty fields anew for every event, at ten times the price
        after = object.__new__(ComplaintRow)
        after.__dict__.update(row.__dict__)
        _happened(after, event)
    after.last_topic = event.topic
    after.last_actor = event.stamp.by
    after.last_at = event.stamp.at
    if event.started or event.stopped:
        _clocks_moved(after, event)
    return after


def _begun(event: ComplaintEvent) -> ComplaintRow:
    assert isinstance(event, ComplaintReceived | ComplaintImported), "a case begins with its receipt"
    begun = ComplaintRow(
        complaint_id=event.originator_id,
        stage=Stage.RECEIVED,
        channel=event.channel,
        received_at=event.received_at,
        complainant_id=event.complainant_id,
        category=event.category,
        severity=Severity.ORDINARY,
        owner=event.owner,
        last_topic=event.topic,
        last_actor=event.stamp.by,
        last_at=event.stamp.at,
    )
    _happened(begun, event)
    return begun


def _happened(after: ComplaintRow, event: ComplaintEvent) -> None:
    """Set what the event says on a row that nobody else holds."""
    match event:
        case WorkRecorded():
            after.last_work = event.activity
            after.stage = event.stage or after.stage
        case ComplaintReceived():
            after.severity = event.severity
            after.complainant = event.complainant
            after.phone = event.phone
            after.statement = event.statement
            after.departments = event.departments
            after.accused = event.accused
        case ComplaintImported():
            after.source = event.source
            after.reference = event.reference
            after.number = event.number
            after.departments = (event.department,) if event.department else ()
            after.imported_responsible = event.responsible or None
            after.planned_close_by = event.planned_close_by
        case ComplaintAccepted():
            after.stage = Stage.INVESTIGATING
            after.accepted_at = event.stamp.at
            after.number = event.number
            after.owner = event.owner
            after.offered_to = None
            after.accused = event.accused
            after.demand = event.demand
        case InvestigationCompleted():
            after.stage = Stage.INVESTIGATED
        case ComplaintQualified():
            after.stage = Stage.QUALIFIED
            after.demand = event.demand
            after.reason = event.reason
            after.complexity = event.complexity
            after.category = event.category
            after.severity = event.severity
            after.is_dispute = event.is_dispute
        case ResponsibilityAttributed():
            after.responsible = event.responsible
            after.departments = event.departments or after.departments
        case RightsInformed():
            after.rights_informed_at = event.stamp.at
        case PlanProposed():
            after.stage = Stage.PLAN_PROPOSED
            after.plan_author = event.author
            after.plan_submitted_to = event.submitted_to
            after.plan_approver = None
            after.plan_settlement = event.settlement
            after.plan_amount = event.amount.yuan
            after.plan_remedies = event.remedies
        case PlanReturned():
            after.stage = Stage.QUALIFIED
        case PlanApproved():
            after.stage = Stage.NEGOTIATING
            after.plan_approver = event.approver
        case AgreementReached():
            after.stage = Stage.AGREED
            after.agreed_settlement = event.settlement
            after.agreed_amount = event.amount.yuan
        case NegotiationFailed():
            after.stage = Stage.DISPUTED
        case FormalitiesCompleted():
            after.stage = Stage.SETTLED
            after.payment = event.payment
            after.payer = event.payer
            after.settlement_expected_at = event.settlement_expected
            after.settlement_pending = event.settlement_expected is not None
        case FeedbackGiven():
            after.feedback_at = event.stamp.at
        case CaseClosed():
            after.stage = Stage.CLOSED
            after.closed_at = event.stamp.at
            after.result = event.summary
            after.settlement_pending = event.settlement_pending
        case InternalHandlingProposed():
            after.stage = Stage.INTERNALLY_HANDLED
        case ImprovementProposed():
            after.stage = Stage.IMPROVING
        case ImprovementExecuted():
            after.stage = Stage.IMPROVED
        case ImprovementWaived():
            after.stage = Stage.FOLLOWING_UP
        case ImprovementConfirmed():
            after.stage = Stage.FOLLOWING_UP if event.effective else Stage.INTERNALLY_HANDLED
        case FollowUpMade():
            after.satisfaction = event.satisfaction if event.satisfaction is not None else after.satisfaction
            if after.stage == Stage.FOLLOWING_UP:
                after.follow_up_by = event.next_by
                if event.next_by is None:
                    _finished(after, event.stamp.at)
        case CaseReopened():
            _reopened(after)
        case CaseEscalated():
            after.owner = event.owner
            after.offered_to = None
            after.escalation_level = event.level
        case TransferOffered():
            after.offered_to = event.to
        case TransferAccepted():
            after.owner = event.owner
            after.offered_to = None
            if event.department and event.department not in after.departments:
                after.departments = (*after.departments, event.department)
        case TransferDeclined():
            after.offered_to = None
        case ImportedCaseEnded():
            after.closed_at = event.ended_at
            after.result = event.result or None
            _finished(after, event.ended_at)
        case FirstContactMade() | EvidenceGathered() | NegotiationRecorded() | DocumentsSigned():
            pass
        case _:
            assert_never(event)


def _finished(after: ComplaintRow, at: datetime) -> None:
    after.stage = Stage.FINISHED
    after.finished_at = at
    after.offered_to = None


def _reopened(after: ComplaintRow) -> None:
    """Handled again under the same number (CC-52): how it was settled in the round before is in the history.

    What kind of complaint it is stands until it is said anew, and a refund still under way stays so.
    """
    after.stage = Stage.INVESTIGATING
    after.reopened_count += 1
    after.closed_at = after.finished_at = after.follow_up_by = after.feedback_at = None
    after.result = None
    after.responsible = ()
    after.plan_author = after.plan_submitted_to = after.plan_approver = None
    after.plan_settlement = after.plan_amount = None
    after.plan_remedies = ()
    after.agreed_settlement = after.agreed_amount = None
    after.payment = after.payer = None


def _clocks_moved(after: ComplaintRow, event: CaseEvent) -> None:
    """What the event stopped no longer runs; what it started runs, unless the same event stopped it again."""
    due = dict(zip(after.deadline_steps, after.deadlines, strict=True))
    ended = {(end.step, end.interval) for end in event.stopped}
    for end in event.stopped:
        due.pop(end.step, None)
        after.clocks_met += end.outcome == Outcome.MET
        after.clocks_late += end.outcome == Outcome.LATE
    if (after.clock_step, after.clock_interval) in ended:
        after.clock_step = after.clock_interval = after.clock_responsible = None
        after.clock_started_at = after.clock_due_at = None
        after.clock_provisional = after.clock_assumed = after.clock_clamped = False
    for clock in event.started:
        if (clock.step, clock.interval) in ended:
            continue
        if clock.due_at is not None:
            due[clock.step] = clock.due_at
        if clock.kind == ClockKind.STEP:
            after.clock_step = clock.step
            after.clock_interval = clock.interval
            after.clock_responsible = clock.responsible
            after.clock_started_at = clock.started_at
            after.clock_due_at = clock.due_at
            after.clock_provisional = clock.due_provisional
            after.clock_assumed = clock.assumed
            after.clock_clamped = clock.clamped
    soonest_first = sorted(due.items(), key=lambda step_due: (step_due[1], step_due[0]))
    after.deadline_steps = tuple([step for step, _ in soonest_first])
    after.deadlines = tuple([at for _, at in soonest_first])
    after.next_due_at = after.deadlines[0] if after.deadlines else None


COMPLAINTS = View("complaint_case", ComplaintRow, (CaseEvent,), show, ("complaint_id",))
