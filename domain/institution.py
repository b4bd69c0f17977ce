"""An institution (机构): the tenant whose cases, staff and books are kept apart from every other's."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.kernel import Event, Fold, Refused, Role, Stamp, State, named, text


class ClosingZone(StrEnum):
    """Where the institution lies for the closing deadline: 京内 or 京外 (CC-23)."""

    BEIJING = "beijing"
    OUTSIDE = "outside"


class CalendarName(StrEnum):
    """Which days are working days: those the State Council announces, or plain Monday to Friday."""

    CN = "cn"
    WEEKDAYS = "weekdays"


@dataclass(frozen=True)
class Place:
    """What deadlines and numbers need of an institution."""

    code: str
    zone: ClosingZone = ClosingZone.OUTSIDE
    time_zone: str = "Asia/Shanghai"
    calendar: CalendarName = CalendarName.CN


@dataclass(frozen=True, kw_only=True)
class InstitutionOpened(Event, topic="institution.opened"):
    """An institution began to keep its records here, under its code (CC-07)."""

    code: str
    name: str
    group: str
    zone: ClosingZone
    time_zone: str
    calendar: CalendarName


@dataclass(frozen=True, kw_only=True)
class Institution(State):
    """One institution as its decisions need it."""

    name: str
    group: str
    place: Place


def institution_id(code: str) -> UUID:
    """The stream of the institution with this code."""
    return named(code, "institution")


def open_institution(
    known: Institution | None,
    stamp: Stamp,
    *,
    code: str,
    name: str,
    group: str,
    zone: str = ClosingZone.OUTSIDE,
    time_zone: str = "Asia/Shanghai",
    calendar: str = CalendarName.CN,
) -> InstitutionOpened | None:
    """Open the institution; None when it is open with the same particulars already."""
    stamp.must_hold(Role.ADMIN)
    place = place_of(code, zone=zone, time_zone=time_zone, calendar=calendar)
    name, group = text(name, "name", longest=200), text(group, "group", longest=200)
    if known is not None:
        if (known.name, known.group, known.place) == (name, group, place):
            return None
        raise Refused("institution.already_open", f"{code} is open already; choose another code.", field="code")
    return InstitutionOpened(
        originator_id=institution_id(code),
        originator_version=1,
        stamp=stamp,
        code=code,
        name=name,
        group=group,
        zone=place.zone,
        time_zone=place.time_zone,
        calendar=place.calendar,
    )


def place_of(
    code: str,
    *,
    zone: str = ClosingZone.OUTSIDE,
    time_zone: str = "Asia/Shanghai",
    calendar: str = CalendarName.CN,
) -> Place:
    """The place said with these words, or a refusal that names the wrong one."""
    if not re.fullmatch(r"[A-Z]{2,8}", code):
        raise Refused("institution.code", "The code is two to eight upper-case letters, for example BJ.", field="code")
    if zone not in list(ClosingZone):
        raise Refused("institution.zone", "The zone is beijing or outside.", field="zone")
    if calendar not in list(CalendarName):
        raise Refused("institution.calendar", "The calendar is cn or weekdays.", field="calendar")
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        sentence = "Name a time zone of the IANA list, for example Asia/Shanghai."
        raise Refused("institution.time_zone", sentence, field="time_zone") from None
    return Place(code, ClosingZone(zone), time_zone, CalendarName(calendar))


def evolve(known: Institution | None, event: InstitutionOpened) -> Institution:
    opened = Institution(
        id=event.originator_id,
        name=event.name,
        group=event.group,
        place=Place(event.code, event.zone, event.time_zone, event.calendar),
    )
    return replace(known or opened, version=event.originator_version)


INSTITUTION = Fold("institution", evolve, events=(InstitutionOpened,))
