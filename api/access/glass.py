"""Which broken glass lets somebody see a row's personal columns, if one does."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from api.access.roles import Principal
from domain.glass import Glass
from projections.complaint import COMPLAINTS
from projections.view import View


def open_glasses(principal: Principal, now: datetime) -> tuple[Glass, ...]:
    """The glasses this person broke whose time is not over."""
    return tuple(glass for glass in principal.glasses if glass.until > now)


def glass_for(principal: Principal, now: datetime, view: View[Any], row: Any) -> Glass | None:
    """The open glass for the case this row is, never one for a case that accuses whoever looks."""
    if not principal.glasses or view is not COMPLAINTS:
        return None
    case: UUID = row.complaint_id
    if principal.staff_id in row.accused or principal.staff_id in row.responsible:
        return None
    return next((glass for glass in open_glasses(principal, now) if glass.case_id == case), None)
