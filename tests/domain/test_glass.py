"""Break-glass: in need, with a reason, for a while, one case, and never one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st

from domain.complaint import ComplaintCase, Stage
from domain.glass import LOOKERS, GlassBroken, GlassMended
from domain.institution import ClosingZone, Place
from domain.kernel import Event, Role, StaffId, named
from domain.policy import DEFAULTS, ComplaintPolicy, PolicyValue, Unit, publish
from domain.staff import STAFF, Staff
from tests.domain.given import (
    BJ,
    BOSS,
    CASE,
    CHEN,
    DOCTOR,
    LI,
    MED,
    POLICY,
    given,
    hours,
    received,
    refused,
    stamp,
)
from tests.domain.test_staff import enrolled
from tests.rules import rule

REASON = "患者投诉到卫健委，今日须核对病情经过"


class Person:
    """Somebody who looks, and what happened to their glasses."""

    def __init__(self, id: StaffId = CHEN) -> None:
        first = enrolled(id=id)
        assert first is not None
        self.id = id
        self.events: list[Event] = [first]

    @property
    def now(self) -> Staff:
        return given(STAFF, *self.events)

    def breaks(
        self,
        at: float = 1,
        *roles: Role,
        case: ComplaintCase | None = None,
        policy: ComplaintPolicy = POLICY,
        **said: Any,
    ) -> GlassBroken:
        of = case or received().case
        words: dict[str, Any] = {"case_id": of.id, "reason": REASON, "minutes": 30, **said}
        event = self.now.break_glass(stamp(self.id, at, *roles), policy, case=of, **words)
        self.events.append(event)
        return event

    def mends(self, glass: UUID, at: float = 1.25) -> GlassMended | None:
        event = self.now.mend_glass(stamp(self.id, at), glass_id=glass)
        self.events += [event] if event is not None else []
        return event

    def sees(self, at: float) -> list[UUID]:
        return [glass.case_id for glass in self.now.glasses if glass.until > hours(at)]


@rule("B24")
def test_a_glass_shows_one_case_until_its_time_is_over_and_says_why() -> None:
    person = Person()
    event = person.breaks(1, minutes=30)
    assert event.reason == REASON
    assert event.until == hours(1.5).astimezone(event.until.tzinfo)
    assert event.glass_id == event.stamp.command_id
    assert (person.sees(1), person.sees(1.49), person.sees(1.5)) == ([CASE], [CASE], [])


def test_a_glass_is_mended_before_its_time_once() -> None:
    person = Person()
    glass = person.breaks(1, minutes=30).glass_id
    assert person.mends(glass, 1.25) is not None
    assert person.sees(1.25) == []
    assert person.mends(glass, 1.26) is None
    again = person.breaks(2, minutes=30).glass_id
    assert person.mends(again, 2.5) is None, "it was over by then"
    with refused("glass.unknown", "glass_id"):
        person.mends(named("no glass"))
    with refused("glass.unknown", "glass_id"):
        person.mends(glass)


def test_one_glass_for_a_case_at_a_time_and_several_for_several_cases() -> None:
    person = Person()
    person.breaks(1, minutes=30)
    with refused("glass.broken", "case_id"):
        person.breaks(1.25)
    other = received(id=named("BJ", "case", "2")).case
    person.breaks(1.25, case=other, minutes=60)
    assert person.sees(1.3) == [CASE, other.id]
    person.breaks(1.5)
    assert [glass.case_id for glass in person.now.glasses] == [other.id, CASE], "what is over is forgotten"


@pytest.mark.parametrize("reason", ["", "   ", "急", "九个字的理由不够的", "          x          "])
def test_a_reason_is_said_at_some_length(reason: str) -> None:
    with refused("glass.reason" if reason.strip() else "text.empty", "reason"):
        Person().breaks(reason=reason)


def test_a_reason_is_not_a_report() -> None:
    with refused("text.too_long", "reason"):
        Person().breaks(reason="理" * 501)
    assert Person().breaks(reason="理" * 500).reason == "理" * 500


@rule("B24", "OP-31")
@pytest.mark.parametrize(("minutes", "allowed"), [(-1, False), (0, False), (1, True), (60, True), (61, False)])
def test_the_policy_bounds_the_time(minutes: int, allowed: bool) -> None:
    if allowed:
        event = Person().breaks(minutes=minutes)
        assert event.until - event.stamp.at == timedelta(minutes=minutes)
        return
    with refused("glass.minutes", "minutes"):
        Person().breaks(minutes=minutes)


@sampled(minutes=st.integers())
def test_any_number_is_answered(minutes: int) -> None:
    with nullcontext() if 1 <= minutes <= 60 else refused("glass.minutes", "minutes"):
        event = Person().breaks(minutes=minutes)
        assert event.until - event.stamp.at == timedelta(minutes=minutes)


def test_an_institution_sets_its_own_time_and_the_event_names_that_policy() -> None:
    values = [PolicyValue(key=k, unit=v.unit, amount=v.amount, words=v.words) for k, v in DEFAULTS.items()]
    values = [v if v.key != "complaint.glass" else PolicyValue(key=v.key, unit=Unit.MINUTE, amount=5) for v in values]
    published = publish(None, stamp(BOSS), institution="BJ", values=values, effective_from=hours(2), approved_by=LI)
    assert published is not None
    policy = ComplaintPolicy(BJ, {v.key: v for v in published.values}, 3)
    assert Person().breaks(minutes=5, policy=policy).policy_version == 3
    with refused("glass.minutes", "minutes"):
        Person().breaks(minutes=6, policy=policy)


@rule("B24")
@pytest.mark.parametrize("role", Role)
def test_who_may_break_a_glass(role: Role) -> None:
    if role in LOOKERS:
        assert Person().breaks(1, role).case_id == CASE
        return
    with refused("access.role"):
        Person().breaks(1, role)


@rule("CC-48")
def test_nobody_looks_into_a_case_that_is_about_them() -> None:
    """Neither whom it accuses nor whom it found responsible."""
    with refused("glass.accused", "case_id"):
        Person(DOCTOR).breaks()
    found = received(accused=()).up_to(Stage.QUALIFIED)
    found.then(lambda case: case.attribute_responsibility(stamp(LI, 9), responsible=(CHEN,), reason="未复核"))
    with refused("glass.accused", "case_id"):
        Person(CHEN).breaks(10, case=found.case)
    assert Person(DOCTOR).breaks(10, Role.CONSULTANT, case=received(accused=(MED,)).case).case_id == CASE


def test_a_glass_is_ones_own_and_of_the_case_it_names() -> None:
    with pytest.raises(AssertionError):
        Person().now.break_glass(stamp(LI), POLICY, case=received().case, case_id=CASE, reason=REASON, minutes=1)
    with pytest.raises(AssertionError):
        Person().breaks(case_id=named("BJ", "case", "2"))


def test_the_time_is_elapsed_time_whatever_the_zone() -> None:
    place = Place("UR", ClosingZone.OUTSIDE, "Asia/Urumqi")
    event = Person().breaks(minutes=60, policy=ComplaintPolicy(place, DEFAULTS))
    assert isinstance(event.until, datetime)
    assert event.until - event.stamp.at == timedelta(hours=1)


def examples() -> Iterator[Event]:
    """One event of each kind, for those that are kept."""
    person = Person()
    glass = person.breaks(policy=ComplaintPolicy(BJ, DEFAULTS, 2))
    person.mends(glass.glass_id)
    yield from person.events
