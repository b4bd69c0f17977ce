"""Those who follow a list of cases, each with a filter of their own: what changed is read once for all of them.

A step's cases come from one statement together with the filters each of them meets, so a subscriber costs what they
are told. Whoever has nothing to be told in a step is told nothing; so that they can go on from somewhere after a lost
connection, they are told a bare position every QUIET_EVENTS.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import strawberry

from api.complaint import Complaint
from api.context import Context
from api.live.feed import QUIET_EVENTS, Feed, Message, Step, pages
from api.narrow import narrowed
from api.scalars import BigInt
from projections.changes import EVENTS_MAX, Changed, Changes, cases_after
from projections.complaint import COMPLAINTS
from projections.complaint_questions import CaseFilter
from projections.filter import narrowings

ROWS_MAX = 100
"""Most rows of one message."""
PAIRS_MAX = 250_000
"""Most pairs of an event and a filter one statement looks at; with more filters a step is shorter."""
ABSENT_MAX = 200_000
"""Most cases that are known not to meet a filter, in all of an institution's filters; about 40 MB."""


@strawberry.type(description="案件变动 – one case that changed.")
class ComplaintChange:
    """One case."""

    complaint_id: UUID
    position: BigInt = strawberry.field(description="机构内位置 – of the event that changed it last.")
    meets_filter: bool = strawberry.field(description="是否仍符合筛选 – if not, take it off the list.")
    complaint: Complaint | None = strawberry.field(
        description="The case as it is now; null when it does not meet the filter."
    )


@strawberry.type(
    description="案件变动 – the cases that changed and meet the filter, or may have met it before, each once, in order"
    " of position. Resume with `after` its position."
)
class ComplaintChanges(Message):
    """One message."""

    position: BigInt = strawberry.field(description="机构内位置 – everything asked for up to here has been told.")
    changes: list[ComplaintChange] = strawberry.field(
        description=f"At most {ROWS_MAX}; none where the position alone is told, after {QUIET_EVENTS} events that"
        " changed nothing here."
    )


class Absent(NamedTuple):
    """A case does not meet a filter: from the event at `since` on it did at no time, up to this version."""

    since: int
    version: int


class Absences:
    """The cases that are known not to meet one filter."""

    def __init__(self) -> None:
        self._known: dict[UUID, Absent] = {}

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, id: UUID, position: int, version: int, before: int) -> int:
        """Take note that a case does not meet the filter; the position since which it is known not to have.

        `position` and `version` are its own, `before` its version before the command that changed it last. Of a case
        that began by that command all is known, and of one that was looked at after each of its commands.
        """
        known = self._known.pop(id, None) or Absent(0, 0)
        if known.version < before:
            known = Absent(position, version)
        elif known.version < version:
            known = Absent(known.since, version)
        self._known[id] = known
        return known.since

    def forget(self, id: UUID) -> None:
        """A case meets the filter, or may do so at another moment."""
        self._known.pop(id, None)

    def keep(self, most: int) -> None:
        """Forget those that were seen longest ago, if there are more than so many."""
        while len(self._known) > most:
            del self._known[next(iter(self._known))]


@dataclass(eq=False)
class Wish:
    """One filter, and which cases are known not to meet it."""

    number: int
    filter: CaseFilter
    followers: int = 0
    absences: Absences = field(default_factory=Absences)

    def at(self, moment: datetime) -> CaseFilter:
        """The filter at this moment."""
        flags = [name for name, one in narrowings(CaseFilter) if one.flag and getattr(self.filter, name) is not None]
        return replace(self.filter, **dict.fromkeys(flags, moment)) if flags else self.filter

    def tells(self, changed: Changed[Complaint], after: int) -> bool:
        """Whether this change is for the list of whoever was told all up to `after`.

        It is if the case meets the filter, or may be on their list. It is not there if it did not meet the filter then,
        nor at any time since. What is not known, or was forgotten, is told.
        """
        case = changed.case
        if self.number in changed.steady:  # and now or then on the list as time goes by, without any event
            self.absences.forget(case.complaint_id)
            return True
        return self.absences.seen(case.complaint_id, case.position, case.version, changed.before) > after


@dataclass(eq=False)
class Found:
    """What one look found for all the filters it asked for. What is equal for several of them is made once."""

    after: int
    changes: Changes[Complaint]
    asked: frozenset[int]
    _steps: dict[int, Step[ComplaintChanges]] = field(default_factory=dict[int, Step[ComplaintChanges]])
    _told: dict[tuple[int, bool], ComplaintChange] = field(default_factory=dict[tuple[int, bool], ComplaintChange])
    _messages: dict[tuple[int, ...], ComplaintChanges] = field(default_factory=dict[tuple[int, ...], ComplaintChanges])

    def step(self, wish: Wish, most: int) -> Step[ComplaintChanges]:
        """What there is to say to whoever follows with this filter."""
        if wish.number not in self._steps:
            self._steps[wish.number] = Step(self.changes.upto, self._said(wish, most))
        return self._steps[wish.number]

    def _said(self, wish: Wish, most: int) -> list[ComplaintChanges]:
        told = [
            self._change(changed.case, meets=wish.number in changed.meets)
            for changed in self.changes.cases
            if wish.tells(changed, self.after)
        ]
        wish.absences.keep(most)
        return [self._message(page, end) for page, end in pages(told, ROWS_MAX, self.changes.upto)]

    def _change(self, case: Complaint, *, meets: bool) -> ComplaintChange:
        key = (case.position, meets)
        if key not in self._told:
            self._told[key] = ComplaintChange(
                complaint_id=case.complaint_id,
                position=BigInt(case.position),
                meets_filter=meets,
                complaint=case if meets else None,
            )
        return self._told[key]

    def _message(self, page: list[ComplaintChange], end: int) -> ComplaintChanges:
        key = (end, *map(id, page))  # each change is one object, kept above
        if key not in self._messages:
            self._messages[key] = ComplaintChanges(position=BigInt(end), changes=page)
        return self._messages[key]


class Lists:
    """The lists that are followed in one process."""

    def __init__(self, feed: Feed, clock: Callable[[], datetime]) -> None:
        self._feed = feed
        self._clock = clock
        self._wishes: dict[str, dict[str, Wish]] = {}
        self._numbers = count(1)

    async def follow(self, context: Context, given: Mapping[str, Any], begin: int) -> AsyncGenerator[ComplaintChanges]:
        """Every message after `begin` for the filter that says what was given; never ends by itself."""
        institution = context.institution
        filter = narrowed(CaseFilter, context, given)
        with self._wished(institution, repr(sorted(given.items())), filter) as wish:

            async def read(after: int, upto: int) -> Step[ComplaintChanges]:
                key, found = (institution, "cases", after), None
                if upto - after <= EVENTS_MAX:  # whoever is far behind goes alone: the others have been there
                    found = await self._feed.once(key, lambda: self._found(context, after))
                if found is None or wish.number not in found.asked:
                    found = await self._feed.once((*key, wish.number), lambda: self._found(context, after, wish))
                return found.step(wish, ABSENT_MAX // len(self._wishes[institution]))

            async with aclosing(self._feed.follow(institution, [COMPLAINTS], begin, read, bare=_bare)) as messages:
                async for message in messages:
                    yield message

    async def _found(self, context: Context, after: int, *alone: Wish) -> Found:
        """What happened next, for all filters of the institution that are followed, or for one."""
        moment, institution = self._clock(), context.institution
        wishes = alone or tuple(self._wishes.get(institution, {}).values())
        filters = {wish.number: wish.at(moment) for wish in wishes}
        most = min(EVENTS_MAX, PAIRS_MAX // max(1, len(filters)) + 1)
        async with context.reading() as database:
            changes = await cases_after(database, Complaint, institution, after, filters, most)
        return Found(after, changes, frozenset(filters))

    @contextmanager
    def _wished(self, institution: str, given: str, filter: CaseFilter) -> Generator[Wish]:
        """Count a follower of this filter as long as this lasts; the last one takes what is known of it along."""
        wishes = self._wishes.setdefault(institution, {})
        wish = wishes.setdefault(given, Wish(next(self._numbers), filter))
        wish.followers += 1
        try:
            yield wish
        finally:
            wish.followers -= 1
            if not wish.followers:
                del wishes[given]
            if not wishes:
                del self._wishes[institution]


def _bare(position: int) -> ComplaintChanges:
    return ComplaintChanges(position=BigInt(position), changes=[])
