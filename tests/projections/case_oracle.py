"""What the complaint list must show of a case, worked out from its whole history instead of by folding."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from domain.clock import ClockKind, Outcome
from domain.complaint import (
    COMPLAINT,
    AgreementReached,
    CaseClosed,
    CaseEscalated,
    CaseReopened,
    ComplaintAccepted,
    ComplaintEvent,
    ComplaintImported,
    ComplaintQualified,
    ComplaintReceived,
    FeedbackGiven,
    FollowUpMade,
    FormalitiesCompleted,
    ImportedCaseEnded,
    PlanApproved,
    PlanProposed,
    ResponsibilityAttributed,
    RightsInformed,
    Stage,
    TransferAccepted,
    WorkRecorded,
)
from domain.kernel import replay

E = TypeVar("E")


def last(events: Sequence[ComplaintEvent], *kinds: type[E]) -> E | None:
    """The last event of these kinds."""
    return next((e for e in reversed(events) if isinstance(e, kinds)), None)


def shown(events: Sequence[ComplaintEvent]) -> dict[str, Any]:
    """Every field of the row but those the fold keeps."""
    case = replay(COMPLAINT, events)
    assert case is not None
    first, latest = events[0], events[-1]
    assert isinstance(first, ComplaintReceived | ComplaintImported)
    heard = first if isinstance(first, ComplaintReceived) else None
    taken_over = first if isinstance(first, ComplaintImported) else None
    accepted = last(events, ComplaintAccepted)
    demanded = last(events, ComplaintAccepted, ComplaintQualified)
    qualified = last(events, ComplaintQualified)
    severe = last(events, ComplaintQualified, ComplaintReceived)
    formalities = last(events, FormalitiesCompleted)
    pending = last(events, FormalitiesCompleted, CaseClosed)
    rights = last(events, RightsInformed)
    escalated = last(events, CaseEscalated)
    asked = [e.satisfaction for e in events if isinstance(e, FollowUpMade) and e.satisfaction is not None]
    stopped = [end.outcome for e in events for end in e.stopped]
    clock = case.running
    # the present round of handling: since receipt, or since the last reopening
    begins = max(i for i, e in enumerate(events) if i == 0 or isinstance(e, CaseReopened))
    round_ = events[begins:]
    plan = last(round_, PlanProposed)
    approved = last(round_, PlanProposed, PlanApproved)
    agreed = last(round_, AgreementReached)
    paid = last(round_, FormalitiesCompleted)
    responsible = last(round_, ResponsibilityAttributed)
    told = last(round_, FeedbackGiven)
    closed = last(round_, CaseClosed, ImportedCaseEnded)
    return {
        "complaint_id": first.originator_id,
        "number": case.number or "",
        "source": taken_over and taken_over.source,
        "reference": taken_over and taken_over.reference,
        "stage": case.stage,
        "channel": first.channel,
        "received_at": first.received_at,
        "accepted_at": accepted and accepted.stamp.at,
        "complainant_id": first.complainant_id,
        "complainant": heard and heard.complainant,
        "phone": heard and heard.phone,
        "statement": heard and heard.statement,
        "demand": demanded and demanded.demand,
        "reason": qualified and qualified.reason,
        "result": closed and (closed.summary if isinstance(closed, CaseClosed) else closed.result or None),
        "departments": _departments(events),
        "accused": accepted.accused if accepted else heard.accused if heard else (),
        "category": qualified.category if qualified else first.category,
        "severity": severe.severity if severe else "ordinary",
        "complexity": qualified and qualified.complexity,
        "is_dispute": bool(qualified and qualified.is_dispute),
        "owner": case.owner,
        "offered_to": case.offered_to,
        "imported_responsible": (taken_over and taken_over.responsible) or None,
        "planned_close_by": taken_over and taken_over.planned_close_by,
        "responsible": responsible.responsible if responsible else (),
        "plan_author": plan and plan.author,
        "plan_submitted_to": plan and plan.submitted_to,
        "plan_approver": approved.approver if isinstance(approved, PlanApproved) else None,
        "plan_settlement": plan and plan.settlement,
        "plan_amount": plan and plan.amount.yuan,
        "plan_remedies": plan.remedies if plan else (),
        "agreed_settlement": agreed and agreed.settlement,
        "agreed_amount": agreed and agreed.amount.yuan,
        "payment": paid and paid.payment,
        "payer": paid and paid.payer,
        "settlement_pending": _pending(pending),
        "settlement_expected_at": formalities and formalities.settlement_expected,
        "rights_informed_at": rights and rights.stamp.at,
        "feedback_at": told and told.stamp.at,
        "clock_step": clock and clock.step,
        "clock_interval": clock and clock.interval,
        "clock_responsible": clock and clock.responsible,
        "clock_started_at": clock and clock.started_at,
        "clock_due_at": clock and clock.due_at,
        "clock_provisional": bool(clock and clock.due_provisional),
        "clock_assumed": bool(clock and clock.assumed),
        "clock_clamped": bool(clock and clock.clamped),
        "deadline_steps": tuple(step for _, step in _deadlines(events)),
        "deadlines": tuple(at for at, _ in _deadlines(events)),
        "next_due_at": case.next_due,
        "clocks_met": stopped.count(Outcome.MET),
        "clocks_late": stopped.count(Outcome.LATE),
        "closed_at": closed and (closed.stamp.at if isinstance(closed, CaseClosed) else closed.ended_at),
        "finished_at": _finished_at(events) if case.stage == Stage.FINISHED else None,
        "reopened_count": sum(isinstance(e, CaseReopened) for e in events),
        "escalation_level": escalated and escalated.level,
        "satisfaction": asked[-1] if asked else None,
        "follow_up_by": _follow_up_by(events),
        "last_topic": latest.topic,
        "last_work": (work := last(events, WorkRecorded)) and work.activity,
        "last_actor": latest.stamp.by,
        "last_at": latest.stamp.at,
    }


def _departments(events: Sequence[ComplaintEvent]) -> tuple[str, ...]:
    """Those named at first or attributed last, and those that have taken the case over since."""
    named: list[str] = []
    for event in events:
        if isinstance(event, ComplaintReceived | ResponsibilityAttributed) and event.departments:
            named = list(event.departments)
        elif isinstance(event, ComplaintImported | TransferAccepted) and event.department:
            named = [*named, event.department]
    return tuple(dict.fromkeys(named))


def _pending(latest: FormalitiesCompleted | CaseClosed | None) -> bool:
    if isinstance(latest, FormalitiesCompleted):
        return latest.settlement_expected is not None
    return latest is not None and latest.settlement_pending


def _deadlines(events: Sequence[ComplaintEvent]) -> list[tuple[datetime, str]]:
    ended = {(end.step, end.interval) for e in events for end in e.stopped}
    begun = [clock for e in events for clock in e.started if (clock.step, clock.interval) not in ended]
    return sorted((clock.due_at, clock.step) for clock in begun if clock.due_at is not None)


def _at_follow_up(events: Sequence[ComplaintEvent]) -> list[FollowUpMade]:
    """The follow-ups that were made when it was their turn."""
    return [
        event
        for i, event in enumerate(events)
        if isinstance(event, FollowUpMade) and replay(COMPLAINT, events[:i]).stage == Stage.FOLLOWING_UP  # pyright: ignore[reportOptionalMemberAccess]
    ]


def _finished_at(events: Sequence[ComplaintEvent]) -> datetime:
    ended = last(events, ImportedCaseEnded)
    made = _at_follow_up(events)
    if made and (ended is None or made[-1].originator_version > ended.originator_version):
        return made[-1].stamp.at
    assert ended is not None
    return ended.ended_at


def _follow_up_by(events: Sequence[ComplaintEvent]) -> datetime | None:
    """When the next follow-up is planned: what the last one said, unless the case was reopened since."""
    made = _at_follow_up(events)
    reopened = last(events, CaseReopened)
    if not made or (reopened and reopened.originator_version > made[-1].originator_version):
        return None
    return made[-1].next_by


def step_clocks(events: Sequence[ComplaintEvent]) -> int:
    """How many step clocks run: one while the case is open, none when it is finished (CC-64)."""
    ended = {(end.step, end.interval) for e in events for end in e.stopped}
    return sum(
        clock.kind == ClockKind.STEP and (clock.step, clock.interval) not in ended
        for e in events
        for clock in e.started
    )
