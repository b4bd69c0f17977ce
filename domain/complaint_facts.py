"""What happens in a complaint case (投诉案件): its events. Decisions and fold are in `domain/complaint.py`.

Texts that tell of the patient are personal data of the complainant. Every event carries the clock intervals it stopped
and started, as decided at the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from domain.clock import ClockStarted, ClockStopped
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
from domain.kernel import Event, StaffId, SubjectId
from domain.money import Money
from domain.personal import Personal
from domain.policy import Complexity


@dataclass(frozen=True, kw_only=True)
class CaseEvent(Event):
    """What every event of a case carries: the clock intervals it began and ended, each named by step and interval.

    An interval may begin and end in the same event, so `started` is to be read before `stopped`.
    """

    stopped: tuple[ClockStopped, ...] = ()
    started: tuple[ClockStarted, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComplaintReceived(CaseEvent, topic="complaint.received"):
    """Someone of the house heard the complaint and made the first record; they own it until it is accepted (CC-01..04).

    `received_at` is when the patient complained, the stamp's time when it was written down (CC-02).
    """

    received_at: datetime
    channel: Channel
    complainant_id: SubjectId
    complainant: Annotated[str, Personal("complainant_id")]
    phone: Annotated[str, Personal("complainant_id")]
    statement: Annotated[str, Personal("complainant_id")]
    departments: tuple[str, ...]
    accused: tuple[StaffId, ...]
    category: Category
    severity: Severity
    owner: StaffId


@dataclass(frozen=True, kw_only=True)
class ComplaintAccepted(CaseEvent, topic="complaint.accepted"):
    """The CS director filled the handling form 《患者投诉处理表》, gave the case number and handler (CC-05..09)."""

    number: str
    owner: StaffId
    accused: tuple[StaffId, ...]
    complainant_id: SubjectId
    cause: Annotated[str, Personal("complainant_id")]
    course: Annotated[str, Personal("complainant_id")]
    result: Annotated[str, Personal("complainant_id")]
    demand: Annotated[str, Personal("complainant_id")]
    persons_involved: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class FirstContactMade(CaseEvent, topic="complaint.first_contact_made"):
    """The patient was heard for the first time: their account and what they want (CC-22)."""

    complainant_id: SubjectId
    account: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class EvidenceGathered(CaseEvent, topic="complaint.evidence_gathered"):
    """A statement, record or other evidence was taken from the accused or related staff (CC-25, CC-49)."""

    complainant_id: SubjectId
    source: str
    content: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class InvestigationCompleted(CaseEvent, topic="complaint.investigation_completed"):
    """The internal investigation came to its findings (CC-21)."""

    complainant_id: SubjectId
    findings: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class ComplaintQualified(CaseEvent, topic="complaint.qualified"):
    """The CS or medical director said what kind of complaint it is (定性), from demand and reason (CC-06, CC-26)."""

    complainant_id: SubjectId
    demand: Annotated[str, Personal("complainant_id")]
    reason: Annotated[str, Personal("complainant_id")]
    complexity: Complexity
    category: Category
    severity: Severity
    is_dispute: bool


@dataclass(frozen=True, kw_only=True)
class ResponsibilityAttributed(CaseEvent, topic="complaint.responsibility_attributed"):
    """It was decided who is responsible, or why nobody is, apart from how the case is handled (CC-39)."""

    responsible: tuple[StaffId, ...]
    departments: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class RightsInformed(CaseEvent, topic="complaint.rights_informed"):
    """The patient was told the legal ways, the rules of sealing and how to see the records (B8)."""

    complainant_id: SubjectId
    how: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class PlanProposed(CaseEvent, topic="complaint.plan_proposed"):
    """A way to settle was worked out and handed to the person who may let it go (CC-27, CC-63)."""

    author: StaffId
    submitted_to: StaffId
    remedies: tuple[Remedy, ...]
    settlement: Settlement
    amount: Money
    complainant_id: SubjectId
    content: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class PlanReturned(CaseEvent, topic="complaint.plan_returned"):
    """The chief or the dean sent the plan back to be worked out again (CC-28)."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class PlanApproved(CaseEvent, topic="complaint.plan_approved"):
    """The chief or the dean let the plan go to the patient; negotiation begins, closing rests (CC-28, CC-29)."""

    approver: StaffId
    amount: Money


@dataclass(frozen=True, kw_only=True)
class NegotiationRecorded(CaseEvent, topic="complaint.negotiation_recorded"):
    """The patient was spoken with about the plan, without a result yet (CC-29, CC-49)."""

    complainant_id: SubjectId
    content: Annotated[str, Personal("complainant_id")]
    representatives: int = 1


@dataclass(frozen=True, kw_only=True)
class AgreementReached(CaseEvent, topic="complaint.agreement_reached"):
    """Patient and institution agreed how the complaint is settled (CC-29)."""

    settlement: Settlement
    amount: Money
    complainant_id: SubjectId
    terms: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class NegotiationFailed(CaseEvent, topic="complaint.negotiation_failed"):
    """No agreement came about; the case is disputed and may go to mediation or to court (B12, B13)."""

    complainant_id: SubjectId
    reason: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class DocumentsSigned(CaseEvent, topic="complaint.documents_signed"):
    """The patient signed the documents without which no money leaves the house (CC-68, B12)."""

    documents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FormalitiesCompleted(CaseEvent, topic="complaint.formalities_completed"):
    """The outcome was carried out: the cashier paid, or there was nothing to pay (CC-30, CC-31, CC-68).

    `settlement_expected` is when a bank transfer should have arrived; closing does not wait for it (CC-69, X3).
    `notified`: the posts told when there is nothing to pay (L5).
    """

    settlement: Settlement
    amount: Money
    payer: StaffId | None = None
    payment: Payment | None = None
    settlement_expected: datetime | None = None
    notified: str = ""


@dataclass(frozen=True, kw_only=True)
class FeedbackGiven(CaseEvent, topic="complaint.feedback_given"):
    """The result was told to the complainant (CC-53, B2)."""

    complainant_id: SubjectId
    content: Annotated[str, Personal("complainant_id")]


@dataclass(frozen=True, kw_only=True)
class CaseClosed(CaseEvent, topic="complaint.case_closed"):
    """The CS director entered the case in 《患者投诉案件统计表》 and closed it; `copy_to` gets a copy (CC-32)."""

    complainant_id: SubjectId
    summary: Annotated[str, Personal("complainant_id")]
    copy_to: str
    settlement_pending: bool = False


@dataclass(frozen=True, kw_only=True)
class InternalHandlingProposed(CaseEvent, topic="complaint.internal_handling_proposed"):
    """The chief proposed what follows for those found responsible, or gave the reason why nothing does (CC-34)."""

    persons: tuple[StaffId, ...]
    proposal: str


@dataclass(frozen=True, kw_only=True)
class ImprovementProposed(CaseEvent, topic="complaint.improvement_proposed"):
    """A way was worked out to keep the complaint from coming back, with who does it by when (CC-35, CC-37)."""

    proposer: StaffId
    measure: str
    responsible: StaffId
    execute_by: datetime


@dataclass(frozen=True, kw_only=True)
class ImprovementWaived(CaseEvent, topic="complaint.improvement_waived"):
    """It was decided, with the reason, that nothing needs improving (B6: the loop closes either way)."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ImprovementExecuted(CaseEvent, topic="complaint.improvement_executed"):
    """The improvement was carried out (CC-37)."""

    account: str


@dataclass(frozen=True, kw_only=True)
class ImprovementConfirmed(CaseEvent, topic="complaint.improvement_confirmed"):
    """Someone other than its author checked the improvement: it works, or another is needed (CC-37)."""

    effective: bool
    finding: str


@dataclass(frozen=True, kw_only=True)
class FollowUpMade(CaseEvent, topic="complaint.follow_up_made"):
    """The patient was visited or called after closing (CC-38, CC-54).

    `next_by` is when the next follow-up is due, if one is; `satisfaction` is 1 to 10, or None when not given.
    """

    complainant_id: SubjectId
    content: Annotated[str, Personal("complainant_id")]
    satisfaction: int | None = None
    next_by: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class CaseReopened(CaseEvent, topic="complaint.reopened"):
    """The problem is not solved, or new evidence came up: the case is handled again under its number (CC-52, B5)."""

    complainant_id: SubjectId
    reason: Annotated[str, Personal("complainant_id")]
    new_evidence: bool


@dataclass(frozen=True, kw_only=True)
class CaseEscalated(CaseEvent, topic="complaint.escalated"):
    """Whoever could not solve it took it up; the person told owns the case now (CC-17, CC-18)."""

    owner: StaffId
    level: EscalationLevel
    reason: str


@dataclass(frozen=True, kw_only=True)
class TransferOffered(CaseEvent, topic="complaint.transfer_offered"):
    """The owner offered the case to someone whose field it is, and stays its owner until they accept (CC-13)."""

    to: StaffId
    department: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TransferAccepted(CaseEvent, topic="complaint.transfer_accepted"):
    """The person the case was offered to took it over; its deadlines run on (CC-13)."""

    owner: StaffId
    department: str


@dataclass(frozen=True, kw_only=True)
class TransferDeclined(CaseEvent, topic="complaint.transfer_declined"):
    """The person the case was offered to did not take it; it stays with its owner (CC-13)."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ComplaintImported(CaseEvent, topic="complaint.imported"):
    """A case begun in another system was taken over with its own dates. `reference` is its name there.

    `responsible` is a pseudonym or post; names belong in staff records.
    """

    source: str
    reference: str
    number: str
    received_at: datetime
    channel: Channel
    complainant_id: SubjectId
    department: str
    owner: StaffId
    category: Category = Category.OTHER
    responsible: str = ""
    planned_close_by: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class WorkRecorded(CaseEvent, topic="complaint.work_recorded"):
    """One line of another system's log: an activity was done.

    `performer` is a pseudonym or post; names belong in staff records. `stage` says how
    far the case has come with it, where the mapping knows.
    """

    activity: str
    performer: str
    unit: str
    reference: str
    stage: Stage | None = None


@dataclass(frozen=True, kw_only=True)
class ImportedCaseEnded(CaseEvent, topic="complaint.imported_case_ended"):
    """The other system's log says the case ended, and when."""

    ended_at: datetime
    result: str = ""


ComplaintEvent = (
    ComplaintReceived
    | ComplaintAccepted
    | FirstContactMade
    | EvidenceGathered
    | InvestigationCompleted
    | ComplaintQualified
    | ResponsibilityAttributed
    | RightsInformed
    | PlanProposed
    | PlanReturned
    | PlanApproved
    | NegotiationRecorded
    | AgreementReached
    | NegotiationFailed
    | DocumentsSigned
    | FormalitiesCompleted
    | FeedbackGiven
    | CaseClosed
    | InternalHandlingProposed
    | ImprovementProposed
    | ImprovementWaived
    | ImprovementExecuted
    | ImprovementConfirmed
    | FollowUpMade
    | CaseReopened
    | CaseEscalated
    | TransferOffered
    | TransferAccepted
    | TransferDeclined
    | ComplaintImported
    | WorkRecorded
    | ImportedCaseEnded
)
