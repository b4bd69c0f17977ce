"""A complaint case (投诉案件), from the first word heard to the last follow-up: its state, and how events make it.

Events are in `complaint_facts`, decisions in the parts they belong to; both are named here for the rest of the house.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import assert_never, get_args

from domain.complaint_aftercare import Aftercare
from domain.complaint_custody import Custody, import_case
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
from domain.complaint_inquiry import Inquiry, receive
from domain.complaint_settlement import Settling
from domain.complaint_state import KEPT_ON_REOPENING
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
from domain.kernel import Fold


@dataclass(frozen=True, kw_only=True)
class ComplaintCase(Inquiry, Settling, Aftercare, Custody):
    """One complaint case, with every decision on it."""


def begin(event: ComplaintReceived | ComplaintImported) -> ComplaintCase:
    """The case as its first event leaves it."""
    return ComplaintCase(
        id=event.originator_id,
        received_at=event.received_at,
        complainant_id=event.complainant_id,
        owner=event.owner,
        stage=Stage.RECEIVED,
        number=event.number if isinstance(event, ComplaintImported) else None,
        accused=frozenset(event.accused) if isinstance(event, ComplaintReceived) else frozenset(),
    )


def evolve(case: ComplaintCase | None, event: ComplaintEvent) -> ComplaintCase:
    if isinstance(event, ComplaintReceived | ComplaintImported):
        case = begin(event)
    assert case is not None, "a case begins with its receipt or its import"
    case = replace(
        case,
        version=event.originator_version,
        clocks=case.clocks.after(event.stopped, event.started),
        facts=MappingProxyType({**case.facts, type(event): event}),
    )
    match event:
        case ComplaintAccepted():
            return replace(
                case,
                stage=Stage.INVESTIGATING,
                number=event.number,
                owner=event.owner,
                accused=frozenset(event.accused),
                offered_to=None,
            )
        case InvestigationCompleted():
            return replace(case, stage=Stage.INVESTIGATED)
        case ComplaintQualified() | PlanReturned():
            return replace(case, stage=Stage.QUALIFIED)
        case PlanProposed():
            return replace(case, stage=Stage.PLAN_PROPOSED)
        case PlanApproved():
            return replace(case, stage=Stage.NEGOTIATING)
        case NegotiationFailed():
            return replace(case, stage=Stage.DISPUTED)
        case AgreementReached():
            return replace(case, stage=Stage.AGREED)
        case FormalitiesCompleted():
            return replace(case, stage=Stage.SETTLED)
        case CaseClosed():
            return replace(case, stage=Stage.CLOSED)
        case InternalHandlingProposed():
            return replace(case, stage=Stage.INTERNALLY_HANDLED)
        case ImprovementProposed():
            return replace(case, stage=Stage.IMPROVING)
        case ImprovementExecuted():
            return replace(case, stage=Stage.IMPROVED)
        case ImprovementConfirmed():
            return replace(case, stage=Stage.FOLLOWING_UP if event.effective else Stage.INTERNALLY_HANDLED)
        case ImprovementWaived():
            return replace(case, stage=Stage.FOLLOWING_UP)
        case FollowUpMade():
            done = case.stage == Stage.FOLLOWING_UP and event.next_by is None
            return replace(case, stage=Stage.FINISHED, offered_to=None) if done else case
        case CaseReopened():
            kept = {kind: fact for kind, fact in case.facts.items() if kind in KEPT_ON_REOPENING or fact is event}
            return replace(case, stage=Stage.INVESTIGATING, facts=MappingProxyType(kept))
        case CaseEscalated() | TransferAccepted():
            return replace(case, owner=event.owner, offered_to=None)
        case TransferOffered():
            return replace(case, offered_to=event.to)
        case TransferDeclined():
            return replace(case, offered_to=None)
        case WorkRecorded():
            stage = event.stage or case.stage
            return replace(case, stage=stage, references=case.references | {event.reference})
        case ImportedCaseEnded():
            return replace(case, stage=Stage.FINISHED, offered_to=None)
        case (
            ComplaintReceived()
            | ComplaintImported()
            | FirstContactMade()
            | EvidenceGathered()
            | ResponsibilityAttributed()
            | RightsInformed()
            | NegotiationRecorded()
            | DocumentsSigned()
            | FeedbackGiven()
        ):
            return case
        case _:
            assert_never(event)


COMPLAINT = Fold("complaint", evolve, events=get_args(ComplaintEvent))

__all__ = [
    "COMPLAINT",
    "AgreementReached",
    "CaseClosed",
    "CaseEscalated",
    "CaseEvent",
    "CaseReopened",
    "Category",
    "Channel",
    "ComplaintAccepted",
    "ComplaintCase",
    "ComplaintEvent",
    "ComplaintImported",
    "ComplaintQualified",
    "ComplaintReceived",
    "DocumentsSigned",
    "EscalationLevel",
    "EvidenceGathered",
    "FeedbackGiven",
    "FirstContactMade",
    "FollowUpMade",
    "FormalitiesCompleted",
    "ImportedCaseEnded",
    "ImprovementConfirmed",
    "ImprovementExecuted",
    "ImprovementProposed",
    "ImprovementWaived",
    "InternalHandlingProposed",
    "InvestigationCompleted",
    "NegotiationFailed",
    "NegotiationRecorded",
    "Payment",
    "PlanApproved",
    "PlanProposed",
    "PlanReturned",
    "Remedy",
    "ResponsibilityAttributed",
    "RightsInformed",
    "Settlement",
    "Severity",
    "Stage",
    "TransferAccepted",
    "TransferDeclined",
    "TransferOffered",
    "WorkRecorded",
    "evolve",
    "import_case",
    "receive",
]
