"""The second half of a case: plan, negotiation, formalities, feedback, closing (CC-27..32, CC-53, CC-63..69)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from domain.clock import ClockKind, Outcome, Step
from domain.complaint_facts import (
    AgreementReached,
    CaseClosed,
    ComplaintQualified,
    DocumentsSigned,
    FeedbackGiven,
    FormalitiesCompleted,
    NegotiationFailed,
    NegotiationRecorded,
    PlanApproved,
    PlanProposed,
    PlanReturned,
    RightsInformed,
)
from domain.complaint_state import APPROVERS, DESK, DIRECTORS, CaseState, must_match, word
from domain.complaint_words import Payment, Remedy, Settlement, Stage
from domain.kernel import Refused, Role, StaffId, Stamp, text
from domain.money import NOTHING, Money
from domain.policy import ComplaintPolicy

REPRESENTATIVES_MAX = 5
"""At most so many people speak for each side (B12)."""

TALKING = (Stage.NEGOTIATING, Stage.DISPUTED)
AFTER_QUALIFICATION = (
    Stage.QUALIFIED,
    Stage.PLAN_PROPOSED,
    Stage.NEGOTIATING,
    Stage.DISPUTED,
    Stage.AGREED,
    Stage.SETTLED,
)


@dataclass(frozen=True, kw_only=True)
class Settling(CaseState):
    """Decisions from the plan to the closing."""

    def propose_plan(
        self,
        stamp: Stamp,
        policy: ComplaintPolicy,
        *,
        submitted_to: StaffId,
        remedies: Iterable[str],
        content: str,
        settlement: str = Settlement.NONE,
        amount: Money = NOTHING,
    ) -> PlanProposed | None:
        """Work out how to settle, with what the patient gets (CC-63), and hand it to the approver (CC-27).

        After a failed negotiation a new plan may be proposed.
        """
        stamp.must_hold(*DIRECTORS)
        draft = PlanProposed(
            **self.next(stamp),
            author=stamp.by,
            submitted_to=submitted_to,
            remedies=tuple(sorted({word(Remedy, remedy, "remedies") for remedy in remedies})),
            settlement=word(Settlement, settlement, "settlement"),
            amount=amount,
            complainant_id=self.complainant_id,
            content=text(content, "content"),
        )
        sentence = "A plan is proposed once the case is qualified, returned or disputed."
        if self.asked_twice(draft, Stage.QUALIFIED, Stage.DISPUTED, code="complaint.no_plan_now", sentence=sentence):
            return None
        if not draft.remedies:
            sentence = "Say what the patient gets, at least an explanation."
            raise Refused("complaint.no_remedy", sentence, field="remedies")
        must_match(draft.settlement, amount)
        if draft.settlement != Settlement.NONE and Remedy(draft.settlement) not in draft.remedies:
            raise Refused("complaint.remedy", f"Name {draft.settlement} among the remedies.", field="remedies")
        if submitted_to == stamp.by:
            sentence = "Whoever wrote the plan cannot approve it; submit it to another."
            raise Refused("complaint.own_plan", sentence, field="submitted_to")
        turn = self.turn(stamp)
        turn.next_step(Step.APPROVE, policy.deadline("complaint.step.approve", stamp.at), submitted_to)
        turn.resume(Step.CLOSE, self.owner)
        return replace(draft, **turn.moves())

    def return_plan(self, stamp: Stamp, policy: ComplaintPolicy, *, reason: str) -> PlanReturned | None:
        """Send the plan back with the reason (CC-28)."""
        stamp.must_hold(*APPROVERS)
        draft = PlanReturned(**self.next(stamp), reason=text(reason, "reason"))
        if self.asked_twice(
            draft, Stage.PLAN_PROPOSED, code="complaint.no_plan", sentence="There is no plan to return."
        ):
            return None
        self._must_not_be_author(stamp)
        turn = self.turn(stamp)
        turn.next_step(Step.PLAN, policy.deadline("complaint.step.plan", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def approve_plan(self, stamp: Stamp, policy: ComplaintPolicy) -> PlanApproved | None:
        """Let the plan go to the patient; another than its author decides (CC-28). Negotiation begins (CC-29).

        In a dispute the patient must have been told the legal ways first (B8).
        """
        stamp.must_hold(*APPROVERS)
        plan = self.last(PlanProposed)
        draft = PlanApproved(**self.next(stamp), approver=stamp.by, amount=plan.amount if plan else NOTHING)
        sentence = "There is no plan to approve."
        if self.asked_twice(draft, Stage.PLAN_PROPOSED, code="complaint.no_plan", sentence=sentence):
            return None
        if plan is None:
            raise Refused("complaint.no_plan", sentence)
        self._must_not_be_author(stamp)
        qualified = self.last(ComplaintQualified)
        if qualified is not None and qualified.is_dispute and self.last(RightsInformed) is None:
            raise Refused("complaint.rights_not_told", "Tell the patient the legal ways first and record it.")
        turn = self.turn(stamp)
        turn.next_step(Step.NEGOTIATE, policy.deadline("complaint.step.negotiate", stamp.at), self.owner)
        turn.stop(Step.CLOSE, Outcome.PAUSED)
        return replace(draft, **turn.moves())

    def _must_not_be_author(self, stamp: Stamp) -> None:
        plan = self.last(PlanProposed)
        if plan is not None and plan.author == stamp.by:
            raise Refused("complaint.own_plan", "Whoever wrote the plan cannot decide on it.")

    def record_negotiation(
        self, stamp: Stamp, policy: ComplaintPolicy, *, content: str, representatives: int = 1
    ) -> NegotiationRecorded | None:
        """The patient was spoken with (CC-29); the date to look again moves on. At most five speak for a side (B12)."""
        stamp.must_hold(*DESK)
        if not 1 <= representatives <= REPRESENTATIVES_MAX:
            sentence = f"One to {REPRESENTATIVES_MAX} people speak for the patient's side."
            raise Refused("complaint.representatives", sentence, field="representatives")
        draft = NegotiationRecorded(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            content=text(content, "content"),
            representatives=representatives,
        )
        if self.said(draft, at_the_same_time=True):
            return None
        sentence = "Negotiation starts when the plan is approved."
        if self.asked_twice(draft, *TALKING, code="complaint.not_negotiating", sentence=sentence):
            return None
        turn = self.turn(stamp)
        if self.stage == Stage.NEGOTIATING:
            turn.next_step(Step.NEGOTIATE, policy.deadline("complaint.step.negotiate", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def agree(
        self,
        stamp: Stamp,
        policy: ComplaintPolicy,
        *,
        terms: str,
        settlement: str = Settlement.NONE,
        amount: Money = NOTHING,
    ) -> AgreementReached | None:
        """Patient and institution agree, within what was approved; the closing clock runs on."""
        stamp.must_hold(*DESK)
        draft = AgreementReached(
            **self.next(stamp),
            settlement=word(Settlement, settlement, "settlement"),
            amount=amount,
            complainant_id=self.complainant_id,
            terms=text(terms, "terms"),
        )
        sentence = "An agreement comes out of a negotiation."
        if self.asked_twice(draft, *TALKING, code="complaint.not_negotiating", sentence=sentence):
            return None
        must_match(draft.settlement, amount)
        plan, approved = self.last(PlanProposed), self.last(PlanApproved)
        if plan is None or approved is None:
            raise Refused("complaint.no_plan", "No plan was approved; propose one first.")
        if draft.settlement not in (Settlement.NONE, plan.settlement):
            sentence = f"The approved plan says {plan.settlement}; have another plan approved."
            raise Refused("complaint.not_approved", sentence, field="settlement")
        if approved.amount < amount:
            sentence = f"No more than {approved.amount} was approved; have another plan approved."
            raise Refused("complaint.not_approved", sentence, field="amount")
        turn = self.turn(stamp)
        turn.next_step(Step.FORMALITIES, policy.deadline("complaint.step.formalities", stamp.at), self.owner)
        turn.resume(Step.CLOSE, self.owner)
        return replace(draft, **turn.moves())

    def fail_negotiation(self, stamp: Stamp, policy: ComplaintPolicy, *, reason: str) -> NegotiationFailed | None:
        """No agreement: the case is disputed until a new plan or a late agreement (B12)."""
        stamp.must_hold(*DIRECTORS, Role.CS_CHIEF)
        why = text(reason, "reason")
        draft = NegotiationFailed(**self.next(stamp), complainant_id=self.complainant_id, reason=why)
        sentence = "Only a negotiation can fail."
        if self.asked_twice(draft, Stage.NEGOTIATING, code="complaint.not_negotiating", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.next_step(Step.DISPUTE, policy.deadline("complaint.step.dispute", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def sign_documents(self, stamp: Stamp, *, documents: Iterable[str]) -> DocumentsSigned | None:
        """The patient signed (CC-68)."""
        stamp.must_hold(*DESK)
        signed = tuple(text(name, "documents", longest=500) for name in documents)
        if not signed:
            raise Refused("complaint.no_documents", "Name the documents that were signed.", field="documents")
        draft = DocumentsSigned(**self.next(stamp), documents=signed)
        if self.said(draft):
            return None
        sentence = "Documents are signed after the agreement and before the money is paid."
        if self.asked_twice(draft, Stage.AGREED, code="complaint.no_agreement", sentence=sentence):
            return None
        return replace(draft, **self.turn(stamp).moves())

    def complete_formalities(
        self, stamp: Stamp, policy: ComplaintPolicy, *, payment: str | None = None
    ) -> FormalitiesCompleted | None:
        """Carry out what was agreed. With nothing to pay the desk does it (CC-31); money is paid by a cashier who did
        not approve it, after the patient has signed (CC-68). A bank transfer arrives later (CC-69)."""
        agreement = self.last(AgreementReached)
        if agreement is None:
            raise Refused("complaint.no_agreement", "Reach an agreement first.")
        paid = agreement.settlement != Settlement.NONE
        stamp.must_hold(*((Role.CASHIER,) if paid else DESK))
        by = word(Payment, payment, "payment") if payment is not None else None
        bank = by == Payment.BANK_TRANSFER
        draft = FormalitiesCompleted(
            **self.next(stamp),
            settlement=agreement.settlement,
            amount=agreement.amount,
            payer=stamp.by if paid else None,
            payment=by,
            settlement_expected=policy.deadline("refund.bank_settlement", stamp.at).at if bank else None,
            notified="" if paid else policy.words("complaint.no_refund.notify"),
        )
        sentence = "The formalities follow the agreement, once."
        if self.asked_twice(draft, Stage.AGREED, code="complaint.no_formalities_now", sentence=sentence):
            return None
        if paid != (by is not None):
            raise Refused("complaint.payment", "Say how it is paid if there is money to pay.", field="payment")
        if paid:
            self._must_be_payable(stamp)
        turn = self.turn(stamp)
        turn.next_step(Step.FILE, policy.deadline("complaint.step.file", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def _must_be_payable(self, stamp: Stamp) -> None:
        if self.last(DocumentsSigned) is None:
            raise Refused("complaint.not_signed", "The patient must sign the documents before money leaves the house.")
        approved = self.last(PlanApproved)
        if approved is not None and approved.approver == stamp.by:
            raise Refused("complaint.payer_approved", "Whoever approved the plan cannot pay it out.")

    def give_feedback(self, stamp: Stamp, *, content: str) -> FeedbackGiven | None:
        """Tell the complainant the result (CC-53); the first time answers the law's clock (B2)."""
        stamp.must_hold(*DESK)
        told = text(content, "content")
        draft = FeedbackGiven(**self.next(stamp), complainant_id=self.complainant_id, content=told)
        if self.said(draft):
            return None
        sentence = "Feedback is given once the case is qualified and before it is closed."
        if self.asked_twice(draft, *AFTER_QUALIFICATION, code="complaint.no_feedback_now", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.stop(Step.FEEDBACK)
        return replace(draft, **turn.moves())

    def close(self, stamp: Stamp, policy: ComplaintPolicy, *, summary: str) -> CaseClosed | None:
        """Enter the case in the statistics and close it (CC-32); not without formalities and feedback (CC-53).

        A bank refund still under way does not hold it up (X3).
        """
        stamp.must_hold(Role.CS_DIRECTOR)
        formalities = self.last(FormalitiesCompleted)
        expected = formalities.settlement_expected if formalities is not None else None
        draft = CaseClosed(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            summary=text(summary, "summary"),
            copy_to=policy.words("complaint.close.copy_to"),
            settlement_pending=expected is not None and expected > stamp.at,
        )
        sentence = "A case is closed when its formalities are complete."
        if self.asked_twice(draft, Stage.SETTLED, code="complaint.no_formalities", sentence=sentence):
            return None
        if self.last(FeedbackGiven) is None:
            raise Refused("complaint.no_feedback", "Tell the complainant the result first.")
        turn = self.turn(stamp)
        turn.stop_all()
        handle_by = policy.deadline("complaint.step.internal_handling", stamp.at)
        turn.start(Step.INTERNAL_HANDLING, ClockKind.STEP, handle_by, self.owner)
        return replace(draft, **turn.moves())
