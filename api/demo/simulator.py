"""Plays the months of one institution, move by move in the order of time, in memory: commands ready to be stored."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from api.demo.group import FIRST_DAY, GROUP, LAST_MOMENT, OPENED, Hospital, People, Person, hire, new_id
from api.demo.story import Move, Moves, Story
from domain.complaint import COMPLAINT, ComplaintCase
from domain.institution import Institution, evolve, open_institution
from domain.kernel import Event, Role, Stamp
from domain.policy import POLICIES, Policies, complaint_policy, publish
from domain.series import COMPLAINT_SERIES, SERIES, NumberSeries, complaint_number_in, month, numbered
from domain.staff import enrol

Command = tuple[Event, ...]


@dataclass
class _Play:
    """A story under way."""

    story: Story
    moves: Moves
    rng: Random
    case: ComplaintCase | None = None


class Simulator:
    """One institution's months. The same seed gives the same commands, word for word."""

    def __init__(self, hospital: Hospital, seed: int) -> None:
        self.hospital = hospital
        self.cases = 0
        self._name = f"{seed}/{hospital.code}"
        self._rng = Random(self._name)  # noqa: S311 - a play, not a secret
        self.people: People = hire(self._rng, hospital.code)
        self._institution: Institution | None = None
        self._policies: Policies | None = None
        self._series: dict[str, NumberSeries] = {}

    def commands(self) -> Iterator[Command]:
        """Everything that happens, in order of time; every fact comes from a decision of the domain."""
        yield from self._opening()
        waiting: list[tuple[datetime, int, Move, _Play]] = []
        for number, play in enumerate(self._plays()):
            waiting.append((play.story.received_at, number, next(play.moves), play))
        waiting = [(move.at, number, move, play) for _, number, move, play in waiting]
        heapq.heapify(waiting)
        while waiting:
            at, number, move, play = heapq.heappop(waiting)
            if at > LAST_MOMENT:
                return
            self.cases += play.case is None  # what came in at the very end is not yet on record
            command = self._made(move, play)
            if command:
                yield command
            assert play.case is not None, "a story begins with its receipt"
            try:
                following = play.moves.send(play.case)
            except StopIteration:
                continue
            heapq.heappush(waiting, (following.at, number, following, play))

    def _opening(self) -> Iterator[Command]:
        hospital, admin = self.hospital, self.people.everybody[0]
        opened = open_institution(
            None,
            self._stamp(self._rng, admin, OPENED),
            code=hospital.code,
            name=hospital.name,
            group=GROUP,
            zone=hospital.zone,
        )
        assert opened is not None
        self._institution = evolve(None, opened)
        yield (opened,)
        for minutes, person in enumerate(self.people.everybody, 1):
            stamp = self._stamp(self._rng, admin, OPENED + timedelta(minutes=minutes))
            enrolled = enrol(
                None,
                stamp,
                id=person.id,
                name=person.name,
                number=person.number,
                roles=[person.role],
                department=person.department,
            )
            assert enrolled is not None
            yield (enrolled,)
        yield from self._publishing()

    def _publishing(self) -> Iterator[Command]:
        """The policies are decided on the day of opening, by the chief and with the dean's word, some for later."""
        chief, dean = self.people.one(Role.CS_CHIEF), self.people.one(Role.DEAN)
        for number, figures in enumerate(self.hospital.policies):
            published = publish(
                self._policies,
                self._stamp(self._rng, chief, OPENED + timedelta(hours=2, minutes=10 * number)),
                institution=self.hospital.code,
                values=figures.values(),
                effective_from=figures.effective_from,
                approved_by=dean.id,
            )
            assert published is not None
            self._policies = POLICIES.evolve(self._policies, published)
            yield (published,)

    def _plays(self) -> list[_Play]:
        received = sorted(self._received() for _ in range(self.hospital.cases))
        plays: list[_Play] = []
        for number, at in enumerate(received):
            rng = Random(f"{self._name}/{number}")  # noqa: S311 - a play, not a secret
            story = Story(rng, self.people, at, self.hospital.haste)
            plays.append(_Play(story, story.moves(), rng))
        return plays

    def _received(self) -> datetime:
        """Some day of the months, mostly in the morning; more in the last days, so that cases stand at every stage."""
        days = (LAST_MOMENT - FIRST_DAY).days
        day = self._rng.randrange(days) if self._rng.random() < 0.9 else days - self._rng.randrange(5)
        return FIRST_DAY + timedelta(days=day, seconds=int(self._rng.triangular(0, 10, 3) * 3600))

    def _made(self, move: Move, play: _Play) -> Command:
        assert self._institution is not None
        place = self._institution.place
        stamp = self._stamp(play.rng, move.by, move.at)
        policy = complaint_policy(self._policies, place, stamp.at)
        if move.numbered is None:
            assert move.decide is not None
            event = move.decide(play.case, stamp, policy)
            command = (event,) if event is not None else ()
        else:
            decide, case = move.numbered, play.case
            assert case is not None
            period = month(stamp.at, place.time_zone)
            command = numbered(
                self._series.get(period),
                stamp,
                lambda n: decide(case, stamp, policy, complaint_number_in(place.code, period, n)),
                institution=place.code,
                series=COMPLAINT_SERIES,
                period=period,
            )
            assert command is not None, "a case is accepted once"
            self._series[period] = SERIES.evolve(self._series.get(period), command[1])
        if command:
            play.case = COMPLAINT.evolve(play.case, command[0])
        return command

    def _stamp(self, rng: Random, by: Person, at: datetime) -> Stamp:
        return Stamp(by=by.id, at=at, command_id=new_id(rng), roles=frozenset({by.role}))
