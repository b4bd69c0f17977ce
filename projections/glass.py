"""Broken glasses (紧急查看): who saw which case unmasked, from when to when, and why (B22, B24)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, assert_never
from uuid import UUID

from domain.glass import GlassBroken, GlassEvent, GlassMended
from projections.filter import Filter, Narrowing
from projections.page import Order
from projections.view import Key, Row, View


@dataclass(kw_only=True)
class GlassRow(Row):
    """One broken glass. Its fields are the columns of `broken_glass`; `staff_id` is who broke it."""

    staff_id: UUID
    glass_id: UUID
    case_id: UUID
    reason: str
    broken_at: datetime
    until: datetime
    mended_at: datetime | None = None
    policy_version: int = 0


def of_glass(event: GlassEvent) -> list[tuple[Key, GlassEvent]]:
    """Each event is of one glass."""
    return [((event.originator_id, event.glass_id), event)]


def show(row: GlassRow | None, event: GlassEvent) -> GlassRow | None:
    """The glass once it was broken or mended."""
    match event:
        case GlassBroken():
            return GlassRow(
                staff_id=event.originator_id,
                glass_id=event.glass_id,
                case_id=event.case_id,
                reason=event.reason,
                broken_at=event.stamp.at,
                until=event.until,
                policy_version=event.policy_version,
            )
        case GlassMended():
            assert row is not None, "a glass is broken before it is mended"
            return replace(row, mended_at=event.stamp.at)
        case _:
            assert_never(event)


GLASSES = View("broken_glass", GlassRow, (GlassBroken, GlassMended), show, ("staff_id", "glass_id"), of_glass)

LATEST_FIRST = Order(("broken_at",), descending=True, index="broken_glass_broken")
"""The order of the list."""


@dataclass(frozen=True, kw_only=True)
class GlassFilter(Filter):
    """Which broken glasses."""

    staff: Annotated[
        UUID | None, Narrowing("staff_id = %s", index="broken_glass_staff", said="Only those this person broke.")
    ] = None
    case: Annotated[
        UUID | None, Narrowing("case_id = %s", index="broken_glass_case", said="Only those broken for this case.")
    ] = None
