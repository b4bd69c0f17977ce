"""After closing: internal handling, improvement, follow-up, and handling again (CC-34..38, CC-52, CC-54)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from domain.clock import ClockKind, Outcome, Step
from domain.complaint_facts import (
    CaseReopened,
    FollowUpMade,
    ImprovementConfirmed,
    ImprovementExecuted,
    ImprovementProposed,
    ImprovementWaived,
    InternalHandlingProposed,
    ResponsibilityAttributed,
)
from domain.complaint_inquiry import start_inquiry_clocks
from domain.complaint_state import AFTER_CLOSING, DESK, DIRECTORS, CaseState, moment
from domain.complaint_words import Stage
from domain.kernel import Refused, Role, StaffId, Stamp, text
from domain.policy import ComplaintPolicy, Deadline

SATISFACTION_MAX = 10


@dataclass(frozen=True, kw_only=True)
class Aftercare(CaseState):
    """Decisions after the closing."""

    def propose_internal_handling(
        self, stamp: Stamp, policy: ComplaintPolicy, *, persons: Iterable[StaffId], proposal: str
    ) -> InternalHandlingProposed | None:
        """Say what follows for those found responsible, or why nothing does (CC-34)."""
        stamp.must_hold(Role.CS_CHIEF)
        draft = InternalHandlingProposed(
            **self.next(stamp), persons=tuple(dict.fromkeys(persons)), proposal=text(proposal, "proposal")
        )
        sentence = "Internal handling follows the closing, once."
        if self.asked_twice(draft, Stage.CLOSED, code="complaint.not_closed", sentence=sentence):
            return None
        attributed = self.last(ResponsibilityAttributed)
        if attributed is None:
            raise Refused("complaint.no_attribution", "Attribute the responsibility first, if only to nobody.")
        if not set(draft.persons) <= set(attributed.responsible):
            sentence = "Only those found responsible can be handled; attribute the responsibility anew."
            raise Refused("complaint.not_responsible", sentence, field="persons")
        turn = self.turn(stamp)
        turn.next_step(Step.IMPROVE, policy.deadline("complaint.step.improve", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def propose_improvement(
        self, stamp: Stamp, *, measure: str, responsible: StaffId, execute_by: datetime
    ) -> ImprovementProposed | None:
        """Say how the complaint is kept from coming back, who does it, and by when (CC-35)."""
        stamp.must_hold(*DIRECTORS, Role.CS_CHIEF)
        draft = ImprovementProposed(
            **self.next(stamp),
            proposer=stamp.by,
            measure=text(measure, "measure"),
            responsible=responsible,
            execute_by=moment(execute_by, "execute_by"),
        )
        sentence = "Improvement is proposed after internal handling."
        if self.asked_twice(draft, Stage.INTERNALLY_HANDLED, code="complaint.no_improvement_now", sentence=sentence):
            return None
        if draft.execute_by <= stamp.at:
            raise Refused("complaint.execute_by", "Give a time that is still to come.", field="execute_by")
        turn = self.turn(stamp)
        turn.next_step(Step.EXECUTE, Deadline(draft.execute_by, rule="CC-37"), responsible)
        return replace(draft, **turn.moves())

    def waive_improvement(self, stamp: Stamp, policy: ComplaintPolicy, *, reason: str) -> ImprovementWaived | None:
        """Nothing needs improving, for this reason (B6)."""
        stamp.must_hold(*DIRECTORS, Role.CS_CHIEF)
        draft = ImprovementWaived(**self.next(stamp), reason=text(reason, "reason"))
        sentence = "Improvement is decided on after internal handling."
        if self.asked_twice(draft, Stage.INTERNALLY_HANDLED, code="complaint.no_improvement_now", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.next_step(Step.FOLLOW_UP, policy.deadline("complaint.follow_up", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def execute_improvement(self, stamp: Stamp, policy: ComplaintPolicy, *, account: str) -> ImprovementExecuted | None:
        """The improvement was carried out, says the one responsible for it or the desk (CC-37)."""
        plan = self.last(ImprovementProposed)
        if plan is None or stamp.by != plan.responsible:
            stamp.must_hold(*DESK)
        draft = ImprovementExecuted(**self.next(stamp), account=text(account, "account"))
        sentence = "Propose an improvement first."
        if self.asked_twice(draft, Stage.IMPROVING, code="complaint.no_improvement", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.next_step(Step.CONFIRM, policy.deadline("complaint.step.confirm", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def confirm_improvement(
        self, stamp: Stamp, policy: ComplaintPolicy, *, effective: bool, finding: str
    ) -> ImprovementConfirmed | None:
        """Check, as another than its author, whether the improvement works (CC-37); if not, another one is due."""
        stamp.must_hold(*DIRECTORS, Role.CS_CHIEF, Role.GM_OFFICE)
        draft = ImprovementConfirmed(**self.next(stamp), effective=effective, finding=text(finding, "finding"))
        sentence = "Carry the improvement out first."
        if self.asked_twice(draft, Stage.IMPROVED, code="complaint.not_improved", sentence=sentence):
            return None
        plan = self.last(ImprovementProposed)
        if plan is not None and plan.proposer == stamp.by:
            raise Refused("complaint.own_improvement", "Whoever proposed the improvement cannot confirm it.")
        turn = self.turn(stamp)
        if effective:
            turn.next_step(Step.FOLLOW_UP, policy.deadline("complaint.follow_up", stamp.at), self.owner)
        else:
            turn.next_step(Step.IMPROVE, policy.deadline("complaint.step.improve", stamp.at), self.owner)
        return replace(draft, **turn.moves())

    def follow_up(
        self, stamp: Stamp, *, content: str, satisfaction: int | None = None, next_by: datetime | None = None
    ) -> FollowUpMade | None:
        """Ask the patient after closing (CC-38, CC-54). Without `next_by` the case is finished.

        A follow-up before the improvement is through is kept, and moves nothing.
        """
        stamp.must_hold(*DESK)
        if satisfaction is not None and not 1 <= satisfaction <= SATISFACTION_MAX:
            raise Refused("complaint.satisfaction", "Satisfaction is 1 to 10, or left out.", field="satisfaction")
        draft = FollowUpMade(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            content=text(content, "content"),
            satisfaction=satisfaction,
            next_by=None if next_by is None else moment(next_by, "next_by"),
        )
        if self.said(draft, at_the_same_time=True):
            return None
        sentence = "Follow-up comes after closing."
        if self.asked_twice(draft, *AFTER_CLOSING, code="complaint.not_closed", sentence=sentence):
            return None
        turn = self.turn(stamp)
        if draft.next_by is not None and (self.stage != Stage.FOLLOWING_UP or draft.next_by <= stamp.at):
            sentence = "The next follow-up is planned once improvement is through, for a time to come."
            raise Refused("complaint.next_by", sentence, field="next_by")
        if self.stage == Stage.FOLLOWING_UP:
            turn.stop_step()
            if draft.next_by is not None:
                turn.start(Step.FOLLOW_UP, ClockKind.STEP, Deadline(draft.next_by, rule="CC-38"), self.owner)
        return replace(draft, **turn.moves())

    def reopen(
        self, stamp: Stamp, policy: ComplaintPolicy, *, reason: str, new_evidence: bool = False
    ) -> CaseReopened | None:
        """Handle the case again under its number (CC-52, B5): investigated anew, every clock from now on."""
        stamp.must_hold(*DESK, Role.DEAN)
        draft = CaseReopened(
            **self.next(stamp),
            complainant_id=self.complainant_id,
            reason=text(reason, "reason"),
            new_evidence=new_evidence,
        )
        sentence = "Only a closed case can be reopened."
        if self.asked_twice(draft, *AFTER_CLOSING, code="complaint.not_closed", sentence=sentence):
            return None
        turn = self.turn(stamp)
        turn.stop_step(Outcome.SUPERSEDED)
        turn.next_step(Step.EVIDENCE, policy.deadline("complaint.step.evidence", stamp.at), self.owner)
        start_inquiry_clocks(turn, policy, self.owner, stamp.at)
        turn.start(Step.CLOSE, ClockKind.CASE, policy.closing(stamp.at), self.owner)
        return replace(draft, **turn.moves())
