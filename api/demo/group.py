"""The hospital group of the demonstration: its institutions, who works there, and the rules each of them published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from uuid import UUID
from zoneinfo import ZoneInfo

from api.demo.words import name
from domain.calendar import Unit
from domain.institution import ClosingZone
from domain.kernel import Role, StaffId
from domain.policy import DEFAULT_VALUES, PolicyValue

GROUP = "安和医疗集团"
HERE = ZoneInfo("Asia/Shanghai")
OPENED = datetime(2026, 1, 4, 9, tzinfo=HERE)
FIRST_DAY = datetime(2026, 1, 5, 8, tzinfo=HERE)
LAST_MOMENT = datetime(2026, 6, 12, 18, tzinfo=HERE)
"""Nothing happens in the demonstration after this; cases begun shortly before are still under way."""


@dataclass(frozen=True)
class Figures:
    """What one published policy says otherwise than the house's defaults, from when on."""

    effective_from: datetime
    changes: Mapping[str, tuple[int, Unit, str]] = field(default_factory=dict[str, tuple[int, Unit, str]])

    def values(self) -> tuple[PolicyValue, ...]:
        """The complete policy."""
        return tuple(self._said(value) for value in DEFAULT_VALUES)

    def _said(self, value: PolicyValue) -> PolicyValue:
        if value.key not in self.changes:
            return value
        amount, unit, note = self.changes[value.key]
        return replace(value, amount=amount, unit=unit, note=note, assumed=False)


@dataclass(frozen=True)
class Hospital:
    """One institution of the group. `haste` is how quickly its people work; below 1 they are often late."""

    code: str
    name: str
    zone: ClosingZone
    cases: int
    haste: float
    policies: tuple[Figures, ...]


HOSPITALS: tuple[Hospital, ...] = (
    Hospital(
        "BJ",
        "北京安和医院",
        ClosingZone.BEIJING,
        cases=130,
        haste=1.0,
        policies=(
            Figures(OPENED + timedelta(hours=3)),
            Figures(
                datetime(2026, 4, 1, tzinfo=HERE),
                {"complaint.close.beijing": (5, Unit.CALENDAR_DAY, "二季度起五日内结案")},
            ),
        ),
    ),
    Hospital(
        "SH",
        "上海安和医院",
        ClosingZone.OUTSIDE,
        cases=100,
        haste=1.2,
        policies=(
            Figures(
                OPENED + timedelta(hours=3),
                {
                    "complaint.investigate.internal": (1, Unit.WORKING_DAY, "X1：当日调查，次一工作日内完成"),
                    "complaint.step.evidence": (20, Unit.HOUR, "X1：比集团更严"),
                    "complaint.follow_up": (3, Unit.CALENDAR_DAY, "结案三日内回访"),
                },
            ),
        ),
    ),
    Hospital(
        "CD",
        "成都安和医院",
        ClosingZone.OUTSIDE,
        cases=70,
        haste=0.8,
        policies=(
            Figures(
                OPENED + timedelta(hours=3),
                {
                    "complaint.feedback.simple": (10, Unit.WORKING_DAY, "X2：院内规定宽于法定，以法定为限"),
                    "complaint.intake.first_record": (2, Unit.HOUR, "首次记录两小时"),
                },
            ),
            Figures(
                datetime(2026, 3, 1, tzinfo=HERE),
                {"complaint.close.outside": (10, Unit.WORKING_DAY, "三月起按工作日计算")},
            ),
        ),
    ),
)

POSTS: tuple[tuple[Role, str, int], ...] = (
    (Role.ADMIN, "信息科", 1),
    (Role.HR, "人事部", 1),
    (Role.DEAN, "院办", 1),
    (Role.GM_OFFICE, "总经办", 1),
    (Role.CS_CHIEF, "客服部", 1),
    (Role.CS_DIRECTOR, "客服部", 1),
    (Role.MEDICAL_DIRECTOR, "医务部", 1),
    (Role.CS_AGENT, "客服部", 5),
    (Role.CONSULTANT, "咨询部", 4),
    (Role.GUIDE, "门诊大厅", 3),
    (Role.CASHIER, "财务部", 2),
    (Role.ACCOUNTANT, "财务部", 1),
    (Role.AUDITOR, "稽核室", 1),
    (Role.KEEPER, "物资科", 1),
)


@dataclass(frozen=True)
class Person:
    """Somebody who works in an institution of the demonstration."""

    id: StaffId
    name: str
    number: str
    role: Role
    department: str


@dataclass(frozen=True)
class People:
    """Everybody of one institution."""

    everybody: tuple[Person, ...]

    def of(self, *roles: Role) -> list[Person]:
        """Those in one of these posts, in the order of their staff numbers."""
        return [person for person in self.everybody if person.role in roles]

    def one(self, role: Role) -> Person:
        """The first in this post."""
        return self.of(role)[0]


def hire(rng: Random, code: str) -> People:
    """The people of an institution."""
    found: list[Person] = []
    for role, department, count in POSTS:
        for _ in range(count):
            number = f"{code}{len(found) + 1:04d}"
            found.append(Person(new_id(rng), name(rng), number, role, department))
    return People(tuple(found))


def new_id(rng: Random) -> UUID:
    """An id that follows from the seed."""
    return UUID(int=rng.getrandbits(128), version=4)
