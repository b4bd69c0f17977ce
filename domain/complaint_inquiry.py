"""The first half of a case: heard, accepted, investigated, qualified (CC-01..09, CC-21..26, CC-39)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from domain.clock import ClockKind, Clocks, Outcome, Step, Turn
from domain.complaint_facts import (
    ComplaintAccepted,
    ComplaintQualified,
    ComplaintReceived,
    EvidenceGathered,
    FirstContactMade,
    InvestigationCompleted,
    ResponsibilityAttributed,
    RightsInformed,
)
from domain.complaint_state import BEFORE_CLOSING, DESK, DIRECTORS, CaseState, moment, word
from domain.complaint_words import Category, Channel, Severity, Stage
from domain.kernel import Refused, Role, StaffId, Stamp, SubjectId, text
from domain.policy import ComplaintPolicy, Complexity

UNDER_INQUIRY = tuple(s for s in BEFORE_CLOSING if s not in (Stage.RECEIVED, Stage.AGREED, Stage.SETTLED))
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


def receive(
    known: CaseState | None,
    stamp: Stamp,
    policy: ComplaintPolicy,
    *,
    id: UUID,
    received_at: datetime,
    channel: str,
    complainant_id: SubjectId,
    complainant: str,
    statement: str,
    phone: str = "",
    departments: Iterable[str] = (),
    accused: Iterable[StaffId] = (),
    category: str = Category.OTHER,
    severity: str = Severity.ORDINARY,
    owner: StaffId | None = None,
) -> ComplaintReceived | None:
    """Make the first record; any employee may (CC-02). Who makes it owns the case, unless it names another `owner`.

    A person complained about may write the complaint down but must name someone else as owner (CC-48).
    """
    received_at = moment(received_at, "received_at")
    draft = ComplaintReceived(
        originator_id=id,
        originator_version=1,
        stamp=stamp,
        received_at=received_at,
        channel=word(Channel, channel, "channel"),
        complainant_id=complainant_id,
        complainant=text(complainant, "complainant", longest=200),
        phone=text(phone, "phone", required=False, longest=50),
        statement=text(statement, "statement"),
        departments=tuple(text(name, "departments", longest=200) for name in departments),
        accused=tuple(dict.fromkeys(accused)),
        category=word(Category, category, "category"),
        severity=word(Severity, severity, "severity"),
        owner=owner or stamp.by,
    )
    if known is not None:
        if known.said(draft):
            return None
        raise Refused("complaint.exists", "This case exists already; record it under a new id.", field="id")
    if received_at > stamp.at:
        sentence = "The complaint cannot be recorded before it is received."
        raise Refused("time.before_case", sentence, field="received_at")
    if received_at < EARLIEST:
        sentence = f"Nobody complained before {EARLIEST.year}; check the year of the time."
        raise Refused("time.too_early", sentence, field="received_at")
    if draft.owner in draft.accused:
        sentence = "The complaint is about the owner; hand it to a colleague and name them as owner."
        raise Refused("complaint.accused_owner", sentence, field="owner")
    turn = Turn(Clocks(), stamp.at)
    first_record = policy.deadline("complaint.intake.first_record", received_at)
    turn.start(Step.FIRST_RECORD, ClockKind.STEP, first_record, stamp.by, started_at=received_at)
    turn.next_step(Step.FORM, policy.deadline("complaint.step.form", stamp.at), draft.owner)
    start_inquiry_clocks(turn, policy, draft.owner, received_at)
    return replace(draft, **turn.moves())


def start_inquiry_clocks(turn: Turn, policy: ComplaintPolicy, owner: StaffId, since: datetime) -> None:
    """The clocks counted from receipt (or reopening): investigation, first contact, the law's time to answer."""
    investigate = policy.deadline("complaint.investigate.internal", since)
    turn.start(Step.INVESTIGATE, ClockKind.CASE, investigate, owner, counted_from=since)
    first_contact = policy.deadline("complaint.first_contact", since)
    turn.start(Step.FIRST_CONTACT, ClockKind.CASE, first_contact, owner, counted_from=since)
    turn.start(Step.FEEDBACK, ClockKind.STATUTORY, policy.feedback(None, since), owner, counted_from=since)


@dataclass(frozen=True, kw_only=True)
class Inquiry(CaseState):
    """Decisions up to the qualification."""

    def accept(
        self,
        stamp: Stamp,
        policy: ComplaintPolicy,
        *,
        number: str,
        cause: str,
        course: str,
        demand: str,
        result: str = "",
        persons_involved: str = "",
        handler: StaffId | None = None,
        accused: Iterable[StaffId] = (),
    ) -> ComplaintAccepted | None:
        """Fill the handling form and give the case number and handler (CC-05, CC-07, CC-09); the closing clock starts.

        `accused` adds people to those the first record named. A case that has a number keeps it.
        """
        stamp.must_hold(Role.CS_DIRECTOR, Role.CS_CHIEF)
        number = text(number, "number", longest=40)
        draft = ComplaintAccepted(
            **self.next(stamp),
            number=self.number or number,
            owner=handler or stamp.by,
            accused=tuple(sorted(self.accused | set(accused))),
            complainant_id=self.complainant_id,
            cause=text(cause, "cause"),
            course=text(course, "course"),
            result=text(result, "result", required=False),
            demand=text(demand, "demand"),
            persons_involved=text(persons_involved, "persons_involved", required=False),
        )
        taken_over = self.imported and self.last(ComplaintAccepted) is None
        stages = BEFORE_CLOSING if taken_over else (Stage.RECEIVED,)
        if self.asked_twice(draft, *stages, code="complaint.accepted", sentence="It is accepted already."):
            return None
        if draft.owner in draft.accused:
            sentence = "The complaint is about this person; name another handler."
            raise Refused("complaint.accused_owner", sentence, field="handler")
        turn = self.turn(stamp)
        turn.next_step(Step.EVIDENCE, policy.deadline("complaint.step.evidence", stamp.at), draft.owner)
        turn.stop(
            Step.CLOSE, Outcome.SUPERSEDED
        )  # runs already when an imported case was reopened before it is accepted
        turn.hand_over(self.owner, draft.owner)
        turn.start(Step.CLOSE, ClockKind.CASE, policy.closing(stamp.at), draft.owner)
        return replace(draft, **turn.moves())

    def make_first_contact(self, stamp: Stamp, *, account: str) -> FirstContactMade | None:
        """The patient was heard (CC-22)."""
        stamp.must_hold(*DESK)
        heard = text(account, "account")
        draft = FirstContactMade(**self.next(stamp), complainant_id=self.complainant_id, account=heard)
        open_in = () if self.last(FirstContactMade) is not None else BEFORE_CLOSING
        sentence = "The first contact was made already; record what is said now as negotiation or evidence."
        if self.asked_twice(draft, *open_in, code="complaint.contact_made", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.stop(Step.FIRST_CONTACT)
        return replace(draft, **turn.moves())

    def gather_evidence(self, stamp: Stamp, *, source: str, content: str) -> EvidenceGathered | None:
        """A statement or record was taken (CC-25, CC-49); as often as there is something to take."""
        stamp.must_hold(*DESK)
        draft = EvidenceGathered(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            source=text(source, "source", longest=500),
            content=text(content, "content"),
        )
        if self.said(draft, at_the_same_time=True):
            return None
        sentence = "Evidence is gathered after acceptance and before an agreement."
        if self.asked_twice(draft, *UNDER_INQUIRY, code="complaint.no_inquiry", sentence=sentence):
            return None
        return replace(draft, **self.turn(stamp).moves())

    def complete_investigation(
        self, stamp: Stamp, policy: ComplaintPolicy, *, findings: str
    ) -> InvestigationCompleted | None:
        """Close the internal investigation; it needs evidence and the first contact (CC-21, CC-22)."""
        stamp.must_hold(*DIRECTORS)
        found = text(findings, "findings")
        draft = InvestigationCompleted(**self.next(stamp), complainant_id=self.complainant_id, findings=found)
        sentence = "Only a case under investigation can be found on."
        if self.asked_twice(draft, Stage.INVESTIGATING, code="complaint.not_investigating", sentence=sentence):
            return None
        if self.last(EvidenceGathered) is None:
            raise Refused("complaint.no_evidence", "Gather evidence first.")
        if self.last(FirstContactMade) is None:
            raise Refused("complaint.no_contact", "Hear the patient first and record the first contact.")
        turn = self.turn(stamp)
        evidence = self.clocks.of(Step.EVIDENCE)
        since = evidence.counted_from if evidence is not None else stamp.at
        qualify_by = policy.deadline("complaint.step.qualify", since)
        turn.next_step(Step.QUALIFY, qualify_by, self.owner, counted_from=since)
        turn.stop(Step.INVESTIGATE)
        return replace(draft, **turn.moves())

    def qualify(
        self,
        stamp: Stamp,
        policy: ComplaintPolicy,
        *,
        reason: str,
        complexity: str,
        category: str,
        severity: str,
        is_dispute: bool,
        demand: str | None = None,
    ) -> ComplaintQualified | None:
        """Say what kind of complaint it is (CC-26). Needs demand (from the form or said here) and reason (CC-06).

        The complexity sets the law's time to answer, still counted from receipt (B2).
        """
        stamp.must_hold(*DIRECTORS)
        form = self.last(ComplaintAccepted)
        demand = demand if demand is not None else form.demand if form is not None else ""
        draft = ComplaintQualified(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            demand=text(demand, "demand"),
            reason=text(reason, "reason"),
            complexity=word(Complexity, complexity, "complexity"),
            category=word(Category, category, "category"),
            severity=word(Severity, severity, "severity"),
            is_dispute=is_dispute,
        )
        sentence = "Complete the investigation first; a case is qualified once."
        if self.asked_twice(draft, Stage.INVESTIGATED, code="complaint.not_investigated", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.next_step(Step.PLAN, policy.deadline("complaint.step.plan", stamp.at), self.owner)
        feedback = self.clocks.of(Step.FEEDBACK)
        if feedback is not None:
            since = feedback.counted_from
            answer_by = policy.feedback(draft.complexity, since)
            if answer_by.at != feedback.due_at:
                turn.stop(Step.FEEDBACK, Outcome.SUPERSEDED)
                turn.start(Step.FEEDBACK, ClockKind.STATUTORY, answer_by, feedback.responsible, counted_from=since)
        return replace(draft, **turn.moves())

    def attribute_responsibility(
        self, stamp: Stamp, *, responsible: Iterable[StaffId], reason: str, departments: Iterable[str] = ()
    ) -> ResponsibilityAttributed | None:
        """Say who is responsible, or that nobody is, with the reason (CC-39); may be said anew until handled."""
        stamp.must_hold(*DIRECTORS, Role.CS_CHIEF)
        draft = ResponsibilityAttributed(
            **self.next(stamp),
            responsible=tuple(dict.fromkeys(responsible)),
            departments=tuple(text(name, "departments", longest=200) for name in departments),
            reason=text(reason, "reason"),
        )
        if self.said(draft):
            return None
        stages = [s for s in (*BEFORE_CLOSING, Stage.CLOSED) if s not in (Stage.RECEIVED, Stage.INVESTIGATING)]
        sentence = "Responsibility is attributed after the investigation and before internal handling."
        if self.asked_twice(draft, *stages, code="complaint.no_attribution_now", sentence=sentence):
            return None
        return replace(draft, **self.turn(stamp).moves())

    def inform_rights(self, stamp: Stamp, *, how: str) -> RightsInformed | None:
        """Tell the patient the legal ways before a dispute is negotiated (B8)."""
        stamp.must_hold(*DESK)
        draft = RightsInformed(**self.next(stamp), complainant_id=self.complainant_id, how=text(how, "how"))
        if self.said(draft):
            return None
        sentence = "The patient's rights are told before the case is closed."
        if self.asked_twice(draft, *BEFORE_CLOSING, code="complaint.closed", sentence=sentence):
            return None
        return replace(draft, **self.turn(stamp).moves())
