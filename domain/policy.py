"""The complaint policy: how long each step may take here, from when, on whose authority (requirements §4, §9; OP-31).

A published policy is complete and is never edited, only followed by the next. The one in force when a fact happened is
the one applied to it, and the fact names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from domain.calendar import Duration, Unit, due
from domain.institution import Place
from domain.kernel import Event, Fold, Refused, Role, StaffId, Stamp, State, named, text

COMPLAINT_POLICY = "complaint"
AMOUNT_MAX = 10_000


class Complexity(StrEnum):
    """How hard a complaint is, decided at qualification; the law's time to answer follows from it (B2)."""

    SIMPLE = "simple"
    COMPLEX = "complex"
    CROSS_DEPARTMENT = "cross_department"


@dataclass(frozen=True, kw_only=True)
class PolicyValue:
    """One figure of a policy: `amount` of `unit`, or `words` where the unit is `words`.

    `rule` is the catalogue's ID. `assumed`: the rule book's own figure is lost or silent and this is a default.
    """

    key: str
    unit: Unit
    amount: int | None = None
    words: str = ""
    rule: str = ""
    assumed: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PolicyPublished(Event, topic="policy.published"):
    """A complete complaint policy was published and holds from its effective date until the next one's (OP-31)."""

    name: str
    values: tuple[PolicyValue, ...]
    effective_from: datetime
    approved_by: StaffId


@dataclass(frozen=True)
class Deadline:
    """A deadline that was worked out, and all that is needed to explain it later.

    `clamped`: the institution allows longer than the law does, so the law's time was taken.
    """

    at: datetime | None
    provisional: bool = False
    policy: UUID | None = None
    policy_version: int = 0
    rule: str = ""
    assumed: bool = False
    clamped: bool = False


@dataclass(frozen=True)
class ComplaintPolicy:
    """The complaint policy in force at an institution at some moment. Version 0 is the house's defaults."""

    place: Place
    values: Mapping[str, PolicyValue]
    version: int = 0

    @property
    def id(self) -> UUID:
        """The stream the policy was published in."""
        return policy_id(self.place.code)

    def deadline(self, key: str, start: datetime) -> Deadline:
        """When the period of this key ends if it starts at `start`; the law's limit, where there is one, wins."""
        value = self.values[key]
        assert value.amount is not None, f"{key} is not a duration"
        ends = due(start, Duration(value.amount, value.unit), self.place.calendar, self.place.time_zone)
        law = STATUTORY.get(key)
        clamped = False
        if law is not None:
            limit = due(start, law.duration, self.place.calendar, self.place.time_zone)
            if limit.at < ends.at:
                ends, clamped = limit, True
        return Deadline(
            ends.at,
            ends.provisional,
            policy=self.id,
            policy_version=self.version,
            rule=law.source if law is not None and clamped else value.rule,
            assumed=value.assumed and not clamped,
            clamped=clamped,
        )

    def closing(self, start: datetime) -> Deadline:
        """The closing deadline counted from acceptance, by the zone the institution lies in (CC-23)."""
        return self.deadline(f"complaint.close.{self.place.zone}", start)

    def feedback(self, complexity: Complexity | None, received_at: datetime) -> Deadline:
        """When the complainant must have an answer (B2); before qualification the shorter time runs."""
        return self.deadline(f"complaint.feedback.{complexity or Complexity.COMPLEX}", received_at)

    def words(self, key: str) -> str:
        """The words of this key."""
        return self.values[key].words


@dataclass(frozen=True)
class Limit:
    """What the law allows at most."""

    duration: Duration
    source: str


STATUTORY: Mapping[str, Limit] = MappingProxyType(
    {
        "complaint.feedback.simple": Limit(Duration(5, Unit.WORKING_DAY), "B2"),
        "complaint.feedback.complex": Limit(Duration(5, Unit.WORKING_DAY), "B2"),
        "complaint.feedback.cross_department": Limit(Duration(10, Unit.WORKING_DAY), "B2"),
    }
)
"""Limits of 《医疗机构投诉管理办法》; an institution may be stricter, never looser."""


def _value(key: str, amount: int, unit: Unit, rule: str, assumed: str = "") -> PolicyValue:
    return PolicyValue(key=key, amount=amount, unit=unit, rule=rule, assumed=bool(assumed), note=assumed)


DEFAULT_VALUES: tuple[PolicyValue, ...] = (
    _value("complaint.intake.first_record", 1, Unit.HOUR, "CC-02", "L2: the time cell is garbled"),
    _value("complaint.step.form", 4, Unit.HOUR, "CC-09", "L2: the time cell is garbled"),
    _value("complaint.investigate.internal", 3, Unit.WORKING_DAY, "CC-21"),
    _value("complaint.first_contact", 3, Unit.WORKING_DAY, "CC-22"),
    _value("complaint.step.evidence", 24, Unit.HOUR, "CC-25"),
    _value("complaint.step.qualify", 24, Unit.HOUR, "CC-26", "L16: inside the 24 h of step 3, from its start"),
    _value("complaint.step.plan", 24, Unit.HOUR, "CC-27", "L3: merged cell, 24 h for each of both steps"),
    _value("complaint.step.approve", 24, Unit.HOUR, "CC-28", "L3: merged cell, 24 h for each of both steps"),
    _value("complaint.step.negotiate", 7, Unit.CALENDAR_DAY, "CC-29", "the patient's calendar: a date to look again"),
    _value("complaint.step.dispute", 30, Unit.WORKING_DAY, "B13", "the time of mediation: a date to look again"),
    _value("complaint.step.formalities", 48, Unit.HOUR, "CC-30"),
    _value("complaint.step.file", 24, Unit.HOUR, "CC-32"),
    _value("complaint.step.internal_handling", 48, Unit.HOUR, "CC-34"),
    _value("complaint.step.improve", 1, Unit.WEEK, "CC-35"),
    _value("complaint.step.confirm", 1, Unit.WEEK, "CC-37", "the rule names no time"),
    _value("complaint.follow_up", 7, Unit.CALENDAR_DAY, "CC-38", "the rule says periodic"),
    _value("complaint.close.beijing", 7, Unit.CALENDAR_DAY, "CC-23", "the rule does not say which days"),
    _value("complaint.close.outside", 14, Unit.CALENDAR_DAY, "CC-23", "the rule does not say which days"),
    _value("complaint.feedback.simple", 5, Unit.WORKING_DAY, "B2"),
    _value("complaint.feedback.complex", 5, Unit.WORKING_DAY, "B2"),
    _value("complaint.feedback.cross_department", 10, Unit.WORKING_DAY, "B2"),
    _value("complaint.glass", 60, Unit.MINUTE, "B24", "no source names a time: an hour to look into one case"),
    _value("refund.bank_settlement", 7, Unit.WORKING_DAY, "CC-69"),
    PolicyValue(
        key="complaint.close.copy_to",
        unit=Unit.WORDS,
        words="总经办",
        rule="CC-33",
        assumed=True,
        note="L4: the recipient is lost",
    ),
    PolicyValue(
        key="complaint.no_refund.notify",
        unit=Unit.WORDS,
        words="医务部、前台",
        rule="CC-31",
        assumed=True,
        note="L5: the sentence is cut",
    ),
)
"""The complaint policy of the rule books; figures that are lost there are marked as assumed."""

DEFAULTS: Mapping[str, PolicyValue] = MappingProxyType({value.key: value for value in DEFAULT_VALUES})


@dataclass(frozen=True, kw_only=True)
class Policies(State):
    """Every version of an institution's complaint policy, oldest first."""

    versions: tuple[PolicyPublished, ...] = ()

    def in_force(self, at: datetime) -> PolicyPublished | None:
        """The version in force at a moment: the latest effective by then; of equal dates the later published."""
        known = [version for version in self.versions if version.effective_from <= at]
        return max(known, key=lambda version: (version.effective_from, version.originator_version), default=None)


def policy_id(institution: str) -> UUID:
    """The stream of an institution's complaint policy."""
    return named(institution, "policy", COMPLAINT_POLICY)


def complaint_policy(known: Policies | None, place: Place, at: datetime) -> ComplaintPolicy:
    """The policy to apply to what happened at `at` (OP-31); the house's defaults before the first is in force."""
    version = known.in_force(at) if known is not None else None
    if version is None:
        return ComplaintPolicy(place, DEFAULTS)
    values = {**DEFAULTS, **{value.key: value for value in version.values}}
    return ComplaintPolicy(place, values, version.originator_version)


def publish(
    known: Policies | None,
    stamp: Stamp,
    *,
    institution: str,
    values: Iterable[PolicyValue],
    effective_from: datetime,
    approved_by: StaffId,
) -> PolicyPublished | None:
    """Publish a complete complaint policy; nothing new when it is the one published last, word for word.

    A figure looser than the law is accepted: the law's limit is applied to every deadline instead.
    """
    stamp.must_hold(Role.CS_CHIEF, Role.DEAN, Role.GM_OFFICE, Role.ADMIN)
    if effective_from.tzinfo is None:
        raise Refused("time.no_zone", "Say the effective date with its offset.", field="effective_from")
    effective_from = effective_from.astimezone(UTC)
    checked = _checked(values)
    before = known or Policies(id=policy_id(institution))
    if before.versions:
        last = before.versions[-1]
        if (last.values, last.effective_from, last.approved_by) == (checked, effective_from, approved_by):
            return None
    if approved_by == stamp.by:
        raise Refused("policy.own_approval", "Someone else must approve the policy you publish.", field="approved_by")
    if effective_from < stamp.at:
        raise Refused("policy.backdated", "A policy takes effect from its publication on.", field="effective_from")
    return PolicyPublished(
        **before.next(stamp),
        name=COMPLAINT_POLICY,
        values=checked,
        effective_from=effective_from,
        approved_by=approved_by,
    )


def _checked(values: Iterable[PolicyValue]) -> tuple[PolicyValue, ...]:
    """The values in the order of the defaults, each checked; complete, or a refusal that names what is wrong."""
    given: dict[str, PolicyValue] = {}
    for value in values:
        if value.key not in DEFAULTS:
            raise Refused("policy.unknown_key", f"There is no figure called {value.key!r}.", field="values")
        if value.key in given:
            raise Refused("policy.twice", f"{value.key} is given twice.", field=value.key)
        given[value.key] = _sound(value)
    missing = [key for key in DEFAULTS if key not in given]
    if missing:
        raise Refused("policy.incomplete", f"A policy is complete; add {', '.join(missing)}.", field="values")
    return tuple(given[key] for key in DEFAULTS)


def _sound(value: PolicyValue) -> PolicyValue:
    text(value.note, value.key, required=False, longest=500)
    text(value.rule, value.key, required=False, longest=100)
    if DEFAULTS[value.key].unit == Unit.WORDS:
        text(value.words, value.key, longest=200)
        if value.unit != Unit.WORDS or value.amount is not None:
            raise Refused("policy.words", f"{value.key} is said in words, without an amount.", field=value.key)
        return value
    if value.unit == Unit.WORDS or value.words:
        raise Refused("policy.amount", f"{value.key} is an amount of time.", field=value.key)
    largest = 31 if value.unit == Unit.DAY_OF_MONTH else AMOUNT_MAX
    if value.amount is None or not 1 <= value.amount <= largest:
        raise Refused("policy.amount", f"{value.key} is a whole number from 1 to {largest}.", field=value.key)
    return value


def evolve(known: Policies | None, event: PolicyPublished) -> Policies:
    versions = known.versions if known is not None else ()
    return Policies(id=event.originator_id, version=event.originator_version, versions=(*versions, event))


POLICIES = Fold("policy", evolve, events=(PolicyPublished,))
