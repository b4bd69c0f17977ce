"""Whose case it is: escalation and transfer (CC-13, CC-17, CC-18), and cases taken over from another system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.clock import ClockKind, Clocks, Step, Turn
from domain.complaint_facts import (
    CaseEscalated,
    ComplaintImported,
    ImportedCaseEnded,
    TransferAccepted,
    TransferDeclined,
    TransferOffered,
    WorkRecorded,
)
from domain.complaint_state import DESK, CaseState, moment, word
from domain.complaint_words import Category, Channel, EscalationLevel, Stage
from domain.kernel import Refused, Role, StaffId, Stamp, SubjectId, named, text
from domain.policy import Deadline

LOG = frozenset({ComplaintImported, WorkRecorded, ImportedCaseEnded})
UNFINISHED = tuple(stage for stage in Stage if stage != Stage.FINISHED)


def import_case(
    known: CaseState | None,
    stamp: Stamp,
    *,
    id: UUID,
    source: str,
    reference: str,
    number: str,
    received_at: datetime,
    channel: str,
    department: str,
    owner: StaffId,
    category: str = Category.OTHER,
    responsible: str = "",
    planned_close_by: datetime | None = None,
    complainant_id: SubjectId | None = None,
) -> ComplaintImported | None:
    """Take over a case from another system's log; its clocks run from its receipt there to the end planned there.

    Without `complainant_id` the complainant is a subject known only by source and reference.
    """
    stamp.must_hold(Role.ADMIN)
    source, reference = text(source, "source", longest=200), text(reference, "reference", longest=200)
    draft = ComplaintImported(
        originator_id=id,
        originator_version=1,
        stamp=stamp,
        source=source,
        reference=reference,
        number=text(number, "number", longest=40),
        received_at=moment(received_at, "received_at"),
        channel=word(Channel, channel, "channel"),
        complainant_id=complainant_id or named(source, reference, "complainant"),
        department=text(department, "department", required=False, longest=200),
        owner=owner,
        category=word(Category, category, "category"),
        responsible=text(responsible, "responsible", required=False, longest=200),
        planned_close_by=None if planned_close_by is None else moment(planned_close_by, "planned_close_by"),
    )
    if known is not None:
        if known.said(draft):
            return None
        raise Refused("complaint.exists", "This case exists already with other particulars.", field="reference")
    turn = Turn(Clocks(), draft.received_at)
    planned = Deadline(draft.planned_close_by, rule="import")
    turn.start(Step.IMPORTED_WORK, ClockKind.STEP, planned, owner)
    if draft.planned_close_by is not None:
        turn.start(Step.PLANNED, ClockKind.CASE, planned, owner)
    return replace(draft, **turn.moves())


@dataclass(frozen=True, kw_only=True)
class Custody(CaseState):
    """Decisions on who owns the case, and the rest of another system's log."""

    def escalate(self, stamp: Stamp, *, to: StaffId, level: str, reason: str) -> CaseEscalated | None:
        """Take the case up to someone who can solve it; they own it now, the deadlines run on (CC-17, CC-18)."""
        if stamp.by != self.owner:
            stamp.must_hold(*DESK)
        draft = CaseEscalated(
            **self.next(stamp),
            owner=to,
            level=word(EscalationLevel, level, "level"),
            reason=text(reason, "reason"),
        )
        if to == self.owner:
            if self.said(draft):
                return None
            raise Refused("complaint.owner_already", "This person owns the case already.", field="to")
        self._must_be_open()
        self.must_not_be_accused(to, "to")
        turn = self.turn(stamp)
        turn.hand_over(self.owner, to)
        return replace(draft, **turn.moves())

    def offer_transfer(self, stamp: Stamp, *, to: StaffId, department: str, reason: str) -> TransferOffered | None:
        """Offer the case to whose field it is; the owner stays owner until they accept (CC-13)."""
        draft = TransferOffered(
            **self.next(stamp),
            to=to,
            department=text(department, "department", longest=200),
            reason=text(reason, "reason"),
        )
        if self.offered_to is not None:
            if self.said(draft):
                return None
            sentence = "The case is offered already; wait for the answer."
            raise Refused("complaint.offered", sentence, field="to")
        self._must_be_open()
        if stamp.by != self.owner:
            raise Refused("complaint.not_owner", "Only the owner can offer the case.")
        if to == self.owner:
            raise Refused("complaint.owner_already", "This person owns the case already.", field="to")
        self.must_not_be_accused(to, "to")
        return replace(draft, **self.turn(stamp).moves())

    def accept_transfer(self, stamp: Stamp) -> TransferAccepted | None:
        """Take the offered case over, with its deadlines as they run (CC-13)."""
        offer = self.last(TransferOffered)
        draft = TransferAccepted(**self.next(stamp), owner=stamp.by, department=offer.department if offer else "")
        if self.offered_to is None and self.owner == stamp.by and self.said(draft):
            return None
        self._must_be_offered_to(stamp)
        self.must_not_be_accused(stamp.by, "by")
        turn = self.turn(stamp)
        turn.hand_over(self.owner, stamp.by)
        return replace(draft, **turn.moves())

    def decline_transfer(self, stamp: Stamp, *, reason: str) -> TransferDeclined | None:
        """Leave the offered case with its owner (CC-13)."""
        draft = TransferDeclined(**self.next(stamp), reason=text(reason, "reason"))
        if self.offered_to is None and self.said(draft):
            return None
        self._must_be_offered_to(stamp)
        return replace(draft, **self.turn(stamp).moves())

    def _must_be_offered_to(self, stamp: Stamp) -> None:
        if self.offered_to != stamp.by:
            raise Refused("complaint.not_offered", "The case is not offered to you.")
        self._must_be_open()

    def _must_be_open(self) -> None:
        if self.stage not in UNFINISHED:
            raise Refused("complaint.finished", "The case is finished; reopen it first.")

    def record_work(
        self, stamp: Stamp, *, activity: str, performer: str, unit: str, reference: str, stage: str | None = None
    ) -> WorkRecorded | None:
        """One line of the other system's log, with its own date, even one before receipt. Known lines add nothing."""
        stamp.must_hold(Role.ADMIN)
        draft = WorkRecorded(
            **self.next(stamp),
            activity=text(activity, "activity", longest=500),
            performer=text(performer, "performer", required=False, longest=200),
            unit=text(unit, "unit", required=False, longest=200),
            reference=text(reference, "reference", longest=200),
            stage=None if stage is None else word(Stage, stage, "stage"),
        )
        if draft.reference in self.references:
            return None
        self._must_be_elsewhere()
        if draft.stage == Stage.FINISHED:
            raise Refused("complaint.import_stage", "A case finishes by its end, not by a line.", field="stage")
        return draft

    def end_import(self, stamp: Stamp, *, ended_at: datetime, result: str = "") -> ImportedCaseEnded | None:
        """The other system's log says the case ended then; its clocks are judged by that moment."""
        stamp.must_hold(Role.ADMIN)
        ended_at = moment(ended_at, "ended_at")
        ended = text(result, "result", required=False, longest=500)
        draft = ImportedCaseEnded(**self.next(stamp), ended_at=ended_at, result=ended)
        if self.said(draft):
            return None
        self._must_be_elsewhere()
        turn = Turn(self.clocks, ended_at, lenient=True)
        turn.stop_all()
        return replace(draft, **turn.moves())

    def _must_be_elsewhere(self) -> None:
        """The other system's log goes on only until it ended there or was taken over here."""
        if not self.imported:
            raise Refused("complaint.not_imported", "This case was not begun in another system.")
        if set(self.facts) - LOG:
            raise Refused("complaint.taken_over", "This case is handled here now; record what is done as decisions.")
        if self.stage == Stage.FINISHED:
            raise Refused("complaint.import_ended", "The case has ended in the other system.", field="reference")
