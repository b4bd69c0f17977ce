"""The demonstration: a small hospital group over some months of 2026, played through the public decisions.

The same seed gives the same history, byte for byte: ids, times and words follow from the seed alone, and what is done
is decided by the domain as it decides everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from api.demo.group import HOSPITALS, Hospital
from api.demo.simulator import Command, Simulator
from api.exchange.rows import Progress, no_progress
from domain.kernel import Refused, Role
from domain.store.casebook import Casebook, House

COMMANDS_AT_ONCE = 500


@dataclass(frozen=True)
class DemoStaff:
    """Somebody who may act in an institution of the demonstration."""

    institution: str
    id: UUID
    name: str
    number: str
    department: str
    roles: frozenset[Role]


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration holds; `new_events` of its events were added by this run."""

    institutions: tuple[str, ...]
    staff: tuple[DemoStaff, ...]
    cases: int
    events: int
    new_events: int


def demo(
    house: House, seed: int = 1, *, hospitals: tuple[Hospital, ...] = HOSPITALS, progress: Progress = no_progress
) -> DemoReport:
    """Play the demonstration of this seed into the house. Played already, it adds nothing.

    Raises Refused when an institution of its name is open that is not of this demonstration.
    """
    plays = [Simulator(hospital, seed) for hospital in hospitals]
    played = [list(play.commands()) for play in plays]
    total = sum(map(len, played))
    for play, commands in zip(plays, played, strict=True):
        _must_be_free(house.casebook(play.hospital.code), commands[0])
    done = new = 0
    for play, commands in zip(plays, played, strict=True):
        casebook = house.casebook(play.hospital.code)
        before = casebook.head()
        # appended in order, so whoever has the last one has them all
        if casebook.receipt(commands[-1][0].stamp.command_id) is None:
            for first in range(0, len(commands), COMMANDS_AT_ONCE):
                casebook.append_many(commands[first : first + COMMANDS_AT_ONCE])
                progress("playing", done + min(first + COMMANDS_AT_ONCE, len(commands)), total)
        done += len(commands)
        new += casebook.head() - before
        progress("playing", done, total)
    return DemoReport(
        institutions=tuple(play.hospital.code for play in plays),
        staff=tuple(person for play in plays for person in _staff(play)),
        cases=sum(play.cases for play in plays),
        events=sum(len(command) for commands in played for command in commands),
        new_events=new,
    )


def _must_be_free(casebook: Casebook, opening: Command) -> None:
    if casebook.head() and casebook.receipt(opening[0].stamp.command_id) is None:
        sentence = (
            f"{casebook.institution} keeps its own records here, or those of a demonstration with another seed;"
            " play the demonstration into an empty database."
        )
        raise Refused("demo.institution_taken", sentence, field="seed")


def _staff(play: Simulator) -> list[DemoStaff]:
    return [
        DemoStaff(play.hospital.code, p.id, p.name, p.number, p.department, frozenset({p.role}))
        for p in play.people.everybody
    ]


__all__ = ["DemoReport", "DemoStaff", "demo"]
