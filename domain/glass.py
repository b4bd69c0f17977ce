"""Break-glass (紧急查看): seeing one case's particulars unmasked, in need, for a while, with a reason (B22, B24).

Kept in the history of the person who looks, so it holds from the moment it is stored, and it is over by itself. What is
read meanwhile is in the log of reads, under the glass's id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar, assert_never
from uuid import UUID

from domain.complaint_facts import ResponsibilityAttributed
from domain.complaint_state import CaseState
from domain.credential import Holder
from domain.kernel import Event, Refused, Role, Stamp, text
from domain.policy import ComplaintPolicy

LOOKERS = (
    Role.GUIDE,
    Role.CONSULTANT,
    Role.DEAN,
    Role.GM_OFFICE,
    Role.CASHIER,
    Role.ACCOUNTANT,
    Role.AUDITOR,
)
"""Posts that may read cases and see some of it masked; the desk sees all of it anyway."""
REASON_LENGTH_MIN = 10
REASON_LENGTH_MAX = 500


@dataclass(frozen=True, kw_only=True)
class GlassBroken(Event, topic="staff.glass_broken"):
    """Somebody asked, in need, to see one case's personal particulars unmasked until a moment (B22, B24).

    `reason` is theirs and stays readable, so no patient's particulars belong in it; `policy_version` bounded the time.
    """

    glass_id: UUID
    case_id: UUID
    reason: str
    until: datetime
    policy_version: int = 0


@dataclass(frozen=True, kw_only=True)
class GlassMended(Event, topic="staff.glass_mended"):
    """Whoever broke the glass needed it no longer, before its time was over."""

    glass_id: UUID


GlassEvent = GlassBroken | GlassMended


@dataclass(frozen=True)
class Glass:
    """One broken glass: the case it shows, and until when."""

    id: UUID
    case_id: UUID
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Looker(Holder):
    """A person with the glasses they broke; those over before the last was broken are forgotten."""

    glasses: tuple[Glass, ...] = ()

    def break_glass(
        self,
        stamp: Stamp,
        policy: ComplaintPolicy,
        *,
        case: CaseState,
        case_id: UUID,
        reason: str,
        minutes: int,
    ) -> GlassBroken:
        """See the personal particulars of one case unmasked for so many minutes; every look is logged with it."""
        assert (stamp.by, case.id) == (self.id, case_id), "a glass is one's own, and of this case"
        stamp.must_hold(*LOOKERS)
        if self.id in conflicted(case):
            sentence = "The complaint is about you, so its particulars stay closed to you; ask somebody else to look."
            raise Refused("glass.accused", sentence, field="case_id")
        reason = text(reason, "reason", longest=REASON_LENGTH_MAX)
        if len(reason) < REASON_LENGTH_MIN:
            sentence = f"Say in at least {REASON_LENGTH_MIN} characters why you must see it now."
            raise Refused("glass.reason", sentence, field="reason")
        limit = policy.deadline("complaint.glass", stamp.at)
        assert limit.at is not None, "an amount of time ends"
        until = stamp.at + timedelta(minutes=min(max(minutes, 0), 10**6))
        if not stamp.at < until <= limit.at:
            most = int((limit.at - stamp.at).total_seconds() // 60)
            raise Refused("glass.minutes", f"Say for how many minutes, 1 to {most}.", field="minutes")
        for glass in self.glasses:
            if glass.case_id == case_id and glass.until > stamp.at:
                until_then = glass.until.isoformat(timespec="seconds")
                sentence = f"You see this case unmasked until {until_then} already; mend that glass first."
                raise Refused("glass.broken", sentence, field="case_id")
        return GlassBroken(
            **self.next(stamp),
            glass_id=stamp.command_id,
            case_id=case_id,
            reason=reason,
            until=until,
            policy_version=limit.policy_version,
        )

    def mend_glass(self, stamp: Stamp, *, glass_id: UUID) -> GlassMended | None:
        """See what the glass showed masked again, before its time is over; nothing if it is over."""
        assert stamp.by == self.id, "a glass is one's own"
        glass = next((one for one in self.glasses if one.id == glass_id), None)
        if glass is None:
            raise Refused(
                "glass.unknown", "You broke no such glass lately; name it by its command id.", field="glass_id"
            )
        return GlassMended(**self.next(stamp), glass_id=glass_id) if glass.until > stamp.at else None


L = TypeVar("L", bound=Looker)


def look(looker: L, event: GlassEvent) -> L:
    """The part of the person's fold that is about the glasses they broke."""
    match event:
        case GlassBroken():
            open_still = [one for one in looker.glasses if one.until > event.stamp.at]
            return replace(looker, glasses=(*open_still, Glass(event.glass_id, event.case_id, event.until)))
        case GlassMended():
            ended = [replace(g, until=event.stamp.at) if g.id == event.glass_id else g for g in looker.glasses]
            return replace(looker, glasses=tuple(ended))
        case _:
            assert_never(event)


def conflicted(case: CaseState) -> frozenset[UUID]:
    """Whom a case is about: those accused, and those found responsible for it."""
    found = case.last(ResponsibilityAttributed)
    return case.accused | frozenset(found.responsible if found is not None else ())
