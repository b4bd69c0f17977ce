"""A small aggregate for the store's own tests: a tally somebody opens and adds to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

from domain.kernel import Event, Fold, Role, Stamp, State
from domain.personal import Personal


@dataclass(frozen=True)
class Slip:
    """A value inside an event."""

    role: Role
    at: datetime
    amount: Decimal
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class TallyOpened(Event, topic="test.tally_opened"):
    """Somebody opened a tally."""

    owner_id: UUID
    owner: Annotated[str, Personal("owner_id")]
    witness_id: UUID | None = None
    witness: Annotated[str | None, Personal("witness_id")] = None
    slips: tuple[Slip, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TallyAdded(Event, topic="test.tally_added"):
    """Somebody added to it."""

    amount: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tally(State):
    """How much has been added, and by how many events."""

    total: int = 0

    def add(self, stamp: Stamp, amount: int, note: str = "") -> TallyAdded:
        """Add to the tally."""
        return TallyAdded(**self.next(stamp), amount=amount, note=note)


def evolve(tally: Tally | None, event: TallyOpened | TallyAdded) -> Tally:
    tally = replace(tally or Tally(id=event.originator_id), version=event.originator_version)
    return replace(tally, total=tally.total + event.amount) if isinstance(event, TallyAdded) else tally


TALLY = Fold("tally", evolve, events=(TallyOpened, TallyAdded))
ACTOR = UUID("00000000-0000-4000-8000-00000000000a")
OWNER = UUID("00000000-0000-4000-8000-0000000000aa")


def stamp(at: datetime | None = None, command_id: UUID | None = None) -> Stamp:
    """A new command, now."""
    return Stamp(by=ACTOR, at=at or datetime.now(UTC), command_id=command_id or uuid4())


def opened(id: UUID, said: Stamp | None = None, owner: str = "王小明") -> TallyOpened:
    """The first event of a tally."""
    return TallyOpened(originator_id=id, originator_version=1, stamp=said or stamp(), owner_id=OWNER, owner=owner)


def added(id: UUID, version: int, said: Stamp | None = None, amount: int = 1, note: str = "") -> TallyAdded:
    """A later event of a tally."""
    return TallyAdded(originator_id=id, originator_version=version, stamp=said or stamp(), amount=amount, note=note)
