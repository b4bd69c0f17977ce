"""The complaint policy: how long each step may take here, from when, on whose authority (requirements §4, §9; OP-31).

A published policy is complete and is never edited, only followed by the next. The one in force when a fact happened is
the one applied to it, and the fact names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.calendar import Unit
from domain.kernel import Event, StaffId

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
