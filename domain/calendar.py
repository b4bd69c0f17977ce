"""Deadlines: when a period that starts now ends, by the calendar of the institution (Civil Code arts. 201–203).

Minutes and hours are elapsed time. In a period of days, weeks or months the day it starts on is not counted and the
last day ends at 24:00 local time. A last day on a holiday is not moved: these periods bind the hospital, and the
stricter reading is the safe one.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import assert_never, cast
from zoneinfo import ZoneInfo

from chinese_calendar import is_workday  # pyright: ignore[reportUnknownVariableType]  untyped

CN = "cn"
_announced = cast(Callable[[date], bool], is_workday)


class Unit(StrEnum):
    """What an amount in a policy counts."""

    MINUTE = "minute"
    HOUR = "hour"
    CALENDAR_DAY = "calendar_day"
    WORKING_DAY = "working_day"
    WEEK = "week"
    MONTH = "month"
    DAY_OF_MONTH = "day_of_month"
    WORDS = "words"


@dataclass(frozen=True)
class Duration:
    """A period as rule books write it: three working days, a week, the tenth of the month."""

    amount: int
    unit: Unit


@dataclass(frozen=True)
class Due:
    """When a period ends (UTC). `provisional`: it runs through a year whose holidays were not announced yet."""

    at: datetime
    provisional: bool = False


def due(start: datetime, duration: Duration, calendar: str, time_zone: str) -> Due:
    """The end of a period from `start` (aware), by the days of `calendar` (`cn` or `weekdays`) in `time_zone`.

    `day_of_month` is the end of that day in the month after the start's, or of the month's last day if it is shorter.
    """
    zone = ZoneInfo(time_zone)
    first, amount = start.astimezone(zone).date(), duration.amount
    match duration.unit:
        case Unit.MINUTE:
            return Due(start.astimezone(UTC) + timedelta(minutes=amount))
        case Unit.HOUR:
            return Due(start.astimezone(UTC) + timedelta(hours=amount))
        case Unit.CALENDAR_DAY:
            return Due(_end_of(first + timedelta(days=amount), zone))
        case Unit.WEEK:
            return Due(_end_of(first + timedelta(weeks=amount), zone))
        case Unit.MONTH:
            return Due(_end_of(_month_later(first, amount, first.day), zone))
        case Unit.DAY_OF_MONTH:
            return Due(_end_of(_month_later(first, 1, amount), zone))
        case Unit.WORKING_DAY:
            last, provisional = _working_day_after(first, amount, calendar)
            return Due(_end_of(last, zone), provisional)
        case Unit.WORDS:
            raise AssertionError("words are no duration")
        case _:
            assert_never(duration.unit)


@cache
def is_working_day(day: date, calendar: str) -> tuple[bool, bool]:
    """Whether work is done on this day, and whether that is provisional (its year's holidays are not announced)."""
    if calendar != CN:
        return day.weekday() < 5, False
    try:
        return _announced(day), False
    except NotImplementedError:
        return day.weekday() < 5, True


def _working_day_after(day: date, amount: int, calendar: str) -> tuple[date, bool]:
    provisional = False
    while amount > 0:
        day += timedelta(days=1)
        works, unsure = is_working_day(day, calendar)
        provisional = provisional or unsure
        amount -= works
    return day, provisional


def _month_later(day: date, months: int, of_month: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(of_month, monthrange(year, month + 1)[1]))


def _end_of(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, zone).astimezone(UTC)
