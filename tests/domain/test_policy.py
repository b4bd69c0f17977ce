"""Published policies: complete, versioned, applied by the date of the fact, never looser than the law."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.calendar import Unit
from domain.policy import (
    DEFAULT_VALUES,
    DEFAULTS,
    POLICIES,
    STATUTORY,
    Complexity,
    Policies,
    PolicyPublished,
    PolicyValue,
    complaint_policy,
    publish,
)
from tests.domain.given import BJ, BOSS, LI, MONDAY, POLICY, SY, WANG, given, refused, stamp
from tests.rules import rule

MAY = MONDAY + timedelta(days=60)


def values(**changed: Any) -> tuple[PolicyValue, ...]:
    """The defaults, with `step_evidence=(48, Unit.HOUR)` for `complaint.step.evidence`."""
    new = {"complaint." + key.replace("_", ".", 1): amount_unit for key, amount_unit in changed.items()}
    assert new.keys() <= DEFAULTS.keys()
    return tuple(
        replace(v, amount=new[v.key][0], unit=new[v.key][1], assumed=False) if v.key in new else v
        for v in DEFAULT_VALUES
    )


def published(known: Policies | None = None, at: datetime = MONDAY, **said: Any) -> PolicyPublished:
    words: dict[str, Any] = {"institution": "BJ", "values": DEFAULT_VALUES, "effective_from": at, "approved_by": WANG}
    event = publish(known, stamp(BOSS, at), **{**words, **said})
    assert event is not None
    return event


def test_a_published_policy_is_complete_and_asked_twice_is_answered_once() -> None:
    event = published()
    assert [value.key for value in event.values] == list(DEFAULTS)
    known = given(POLICIES, event)
    again = publish(
        known, stamp(BOSS), institution="BJ", values=DEFAULT_VALUES, effective_from=MONDAY, approved_by=WANG
    )
    assert again is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"values": DEFAULT_VALUES[1:]}, "policy.incomplete"),
        (
            {"values": (*DEFAULT_VALUES, PolicyValue(key="complaint.tea", unit=Unit.HOUR, amount=1))},
            "policy.unknown_key",
        ),
        ({"values": (*DEFAULT_VALUES, DEFAULT_VALUES[0])}, "policy.twice"),
        ({"values": values(step_evidence=(0, Unit.HOUR))}, "policy.amount"),
        ({"values": values(step_evidence=(None, Unit.HOUR))}, "policy.amount"),
        ({"values": values(step_evidence=(32, Unit.DAY_OF_MONTH))}, "policy.amount"),
        ({"values": values(step_evidence=(1, Unit.WORDS))}, "policy.amount"),
        ({"values": values(close_copy_to=(1, Unit.HOUR))}, "policy.words"),
        ({"approved_by": BOSS}, "policy.own_approval"),
        ({"effective_from": MONDAY - timedelta(seconds=1)}, "policy.backdated"),
        ({"effective_from": MONDAY.replace(tzinfo=None)}, "time.no_zone"),
    ],
)
def test_what_is_no_policy_is_refused(said: dict[str, Any], code: str) -> None:
    with refused(code):
        published(**said)


def test_only_leaders_publish() -> None:
    with refused("access.role"):
        publish(None, stamp(LI), institution="BJ", values=DEFAULT_VALUES, effective_from=MAY, approved_by=WANG)


@rule("OP-31")
def test_the_policy_in_force_when_it_happened_is_the_one_applied() -> None:
    first = published()
    later = published(given(POLICIES, first), values=values(step_evidence=(12, Unit.HOUR)), effective_from=MAY)
    known = given(POLICIES, first, later)
    hour = timedelta(hours=1)
    before, after = (complaint_policy(known, BJ, at) for at in (MAY - hour, MAY))
    assert before.deadline("complaint.step.evidence", MONDAY).at == MONDAY + 24 * hour
    assert after.deadline("complaint.step.evidence", MONDAY).at == MONDAY + 12 * hour
    assert (before.version, after.version) == (1, 2)
    assert after.deadline("complaint.step.evidence", MONDAY).policy_version == 2
    assert complaint_policy(known, BJ, MONDAY - hour).version == 0


@rule("OP-31")
def test_of_two_with_the_same_date_the_later_published_holds() -> None:
    first = published(effective_from=MAY)
    second = published(given(POLICIES, first), values=values(step_file=(12, Unit.HOUR)), effective_from=MAY)
    assert given(POLICIES, first, second).in_force(MAY) == second


@rule("OP-31")
def test_what_takes_effect_later_holds_though_it_was_published_first() -> None:
    first = published(effective_from=MAY)
    second = published(given(POLICIES, first), values=values(step_file=(12, Unit.HOUR)), effective_from=MONDAY)
    known = given(POLICIES, first, second)
    assert (known.in_force(MAY - timedelta(hours=1)), known.in_force(MAY)) == (second, first)


@rule("CC-23")
def test_closing_takes_seven_days_in_beijing_and_fourteen_outside() -> None:
    inside, outside = (replace(POLICY, place=place).closing(MONDAY).at for place in (BJ, SY))
    midnight = MONDAY.replace(hour=0)
    assert (inside, outside) == (midnight + timedelta(days=8), midnight + timedelta(days=15))


@pytest.mark.parametrize("key", STATUTORY)
def test_a_policy_looser_than_the_law_is_kept_but_the_law_is_applied(key: str) -> None:
    loose = replace(POLICY, values={**DEFAULTS, key: replace(DEFAULTS[key], amount=60, assumed=True)})
    strict = replace(POLICY, values={**DEFAULTS, key: replace(DEFAULTS[key], amount=1)})
    law, looser, stricter = (policy.deadline(key, MONDAY) for policy in (POLICY, loose, strict))
    assert (looser.at, looser.clamped, looser.rule) == (law.at, True, "B2")
    assert not looser.assumed, "what the law says is not assumed"
    assert not law.clamped
    assert not stricter.clamped
    assert stricter.at is not None
    assert law.at is not None
    assert stricter.at < law.at


def test_a_looser_figure_can_be_published() -> None:
    loose = tuple(replace(v, amount=60) if v.key in STATUTORY else v for v in DEFAULT_VALUES)
    known = given(POLICIES, published(values=loose))
    assert complaint_policy(known, BJ, MAY).feedback(Complexity.SIMPLE, MAY).clamped


@pytest.mark.parametrize("lost", ["L2", "L3", "L4", "L5", "L16"])
def test_figures_lost_in_the_rule_book_are_marked_as_assumed(lost: str) -> None:
    found = [value for value in DEFAULT_VALUES if value.note.startswith(f"{lost}:")]
    assert found
    assert all(value.assumed for value in found)
