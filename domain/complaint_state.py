"""What every decision on a complaint case needs to know, and the questions they all ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from domain.clock import Clocks, ClockStarted, Turn
from domain.complaint_facts import CaseEvent, ComplaintAccepted, ComplaintImported, ComplaintReceived, RightsInformed
from domain.complaint_words import Settlement, Stage
from domain.kernel import Refused, Role, StaffId, Stamp, State, SubjectId
from domain.money import NOTHING, Money

DESK = (Role.CS_AGENT, Role.CS_DIRECTOR, Role.CS_CHIEF, Role.MEDICAL_DIRECTOR)
"""Who handles cases."""

DIRECTORS = (Role.CS_DIRECTOR, Role.MEDICAL_DIRECTOR)
"""客服主任 and 医务部主任: qualify cases and work out plans (CC-26, CC-27)."""

APPROVERS = (Role.CS_CHIEF, Role.DEAN)
"""客服总监 and 院长: let a plan go (CC-28)."""

AFTER_CLOSING = (
    Stage.CLOSED,
    Stage.INTERNALLY_HANDLED,
    Stage.IMPROVING,
    Stage.IMPROVED,
    Stage.FOLLOWING_UP,
    Stage.FINISHED,
)
BEFORE_CLOSING = tuple(stage for stage in Stage if stage not in AFTER_CLOSING)
KEPT_ON_REOPENING = (ComplaintReceived, ComplaintAccepted, ComplaintImported, RightsInformed)

NOT_SAID = frozenset(f.name for f in fields(CaseEvent)) | {
    "settlement_expected",
    "settlement_pending",
    "notified",
    "copy_to",
}
"""What an event holds beside the decider's words: envelope, clocks, and consequences worked out from the policy."""

F = TypeVar("F", bound=CaseEvent)
W = TypeVar("W", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class CaseState(State):
    """One case. `facts` holds the last event of each kind, since receipt or since the last reopening."""

    received_at: datetime
    complainant_id: SubjectId
    owner: StaffId
    stage: Stage
    number: str | None = None
    accused: frozenset[StaffId] = frozenset()
    clocks: Clocks = field(default_factory=Clocks)
    offered_to: StaffId | None = None
    references: frozenset[str] = frozenset()
    facts: Mapping[type[CaseEvent], CaseEvent] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def running(self) -> ClockStarted | None:
        """The one step clock that runs until the case is finished (CC-64)."""
        return self.clocks.step

    @property
    def next_due(self) -> datetime | None:
        """The nearest deadline of all clocks now running: the stricter of institution and law (X2)."""
        return min((clock.due_at for clock in self.clocks.running if clock.due_at is not None), default=None)

    @property
    def imported(self) -> bool:
        """Whether the case began in another system."""
        return ComplaintImported in self.facts

    def last(self, kind: type[F]) -> F | None:
        """The last event of a kind in this round of handling."""
        found = self.facts.get(kind)
        assert found is None or isinstance(found, kind)
        return found

    def turn(self, stamp: Stamp) -> Turn:
        """Clocks to be moved by what the stamp says; refuses a fact from before the case."""
        if stamp.at < self.received_at:
            since = self.received_at.astimezone(UTC).isoformat(timespec="seconds")
            raise Refused("time.before_case", f"The complaint was received at {since}; check the time.", field="at")
        return Turn(self.clocks, stamp.at)

    def asked_twice(self, draft: CaseEvent, *stages: Stage, code: str, sentence: str) -> bool:
        """Whether this was decided already, in these words. Out of order and not said before: refused.

        In one of `stages` the decision is open and this is False.
        """
        if self.stage in stages:
            return False
        if self.said(draft):
            return True
        raise Refused(code, f"{sentence} The case is at “{self.stage}”.")

    def said(self, draft: CaseEvent, *, at_the_same_time: bool = False) -> bool:
        """Whether the last event of this kind says the same."""
        last = self.facts.get(type(draft))
        if last is None or (at_the_same_time and last.stamp.at != draft.stamp.at):
            return False
        return all(value == getattr(last, name) for name, value in vars(draft).items() if name not in NOT_SAID)

    def must_not_be_accused(self, person: StaffId, field: str) -> None:
        """A case is never owned by a person it is about (CC-48)."""
        if person in self.accused:
            raise Refused("complaint.accused_owner", "The complaint is about this person; name another.", field=field)


def moment(value: datetime, field: str) -> datetime:
    """The moment in UTC, or a refusal when it was said without its offset."""
    if value.tzinfo is None:
        raise Refused("time.no_zone", "Say the time with its offset, as in 2026-01-07T09:30:00+08:00.", field=field)
    return value.astimezone(UTC)


def word(kind: type[W], value: str, field: str) -> W:
    """One word of a closed list, or a refusal that names the list."""
    try:
        return kind(value)
    except ValueError:
        raise Refused("complaint.word", f"Say one of {', '.join(kind)}.", field=field) from None


def must_match(settlement: Settlement, amount: Money) -> None:
    """Money goes with a refund or a compensation, and with nothing else."""
    if (settlement == Settlement.NONE) != (amount == NOTHING):
        sentence = "Give an amount with a refund or compensation, and none without."
        raise Refused("complaint.amount", sentence, field="amount")
