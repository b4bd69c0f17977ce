"""Deadlines by the calendar: holidays, make-up weekends, the day the period starts on."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from chinese_calendar import is_workday  # pyright: ignore[reportUnknownVariableType]  untyped
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.calendar import Duration, Unit, due, is_working_day
from tests.domain.given import SHANGHAI
from tests.rules import rule

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001  zone follows
DAYS = st.sampled_from([Unit.CALENDAR_DAY, Unit.WORKING_DAY, Unit.WEEK, Unit.MONTH])


def at(*parts: int) -> datetime:
    year, month, day, *time = parts
    return datetime(year, month, day, *time, tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("start", "amount", "unit", "end"),
    [
        (at(2026, 3, 2, 9), 24, Unit.HOUR, at(2026, 3, 3, 9)),
        (at(2026, 3, 2, 9), 30, Unit.MINUTE, at(2026, 3, 2, 9, 30)),
        (at(2026, 3, 2, 9), 7, Unit.CALENDAR_DAY, at(2026, 3, 10)),
        (at(2026, 3, 2, 9), 1, Unit.WEEK, at(2026, 3, 10)),
        (at(2026, 3, 2, 9), 3, Unit.WORKING_DAY, at(2026, 3, 6)),
        (at(2026, 3, 6, 9), 3, Unit.WORKING_DAY, at(2026, 3, 12)),  # over a weekend
        (at(2026, 2, 13, 9), 1, Unit.WORKING_DAY, at(2026, 2, 15)),  # Saturday the 14th is a make-up working day
        (at(2026, 2, 14, 9), 1, Unit.WORKING_DAY, at(2026, 2, 25)),  # over the Spring Festival
        (at(2026, 9, 30, 9), 3, Unit.WORKING_DAY, at(2026, 10, 11)),  # 8, 9 and the make-up Saturday 10 October
        (at(2026, 1, 31, 9), 1, Unit.MONTH, at(2026, 3, 1)),
        (at(2026, 1, 7, 9), 10, Unit.DAY_OF_MONTH, at(2026, 2, 11)),
        (at(2026, 12, 7, 9), 10, Unit.DAY_OF_MONTH, at(2027, 1, 11)),
    ],
)
def test_a_period_ends_at_midnight_after_its_last_day(start: datetime, amount: int, unit: Unit, end: datetime) -> None:
    assert due(start, Duration(amount, unit), "cn", "Asia/Shanghai").at == end


def test_days_are_those_of_the_institution_not_of_utc() -> None:
    late = datetime(2026, 3, 2, 17, tzinfo=UTC)  # already the 3rd in Shanghai
    assert due(late, Duration(1, Unit.CALENDAR_DAY), "cn", "Asia/Shanghai").at == at(2026, 3, 5)


def test_a_year_without_announced_holidays_is_provisional() -> None:
    over = due(at(2026, 12, 31, 9), Duration(1, Unit.WORKING_DAY), "cn", "Asia/Shanghai")
    assert (over.at, over.provisional) == (at(2027, 1, 2), True)
    assert not due(at(2026, 12, 30, 9), Duration(1, Unit.WORKING_DAY), "cn", "Asia/Shanghai").provisional


def test_a_period_that_began_in_such_a_year_stays_provisional() -> None:
    """The announcements that are known begin with 2004."""
    over = due(at(2003, 12, 30, 9), Duration(2, Unit.WORKING_DAY), "cn", "Asia/Shanghai")
    assert (over.at, over.provisional) == (at(2004, 1, 3), True)


def test_plain_weekdays_know_no_holidays_and_are_never_provisional() -> None:
    over = due(at(2026, 9, 30, 9), Duration(3, Unit.WORKING_DAY), "weekdays", "Asia/Shanghai")
    assert (over.at, over.provisional) == (at(2026, 10, 6), False)
    assert is_working_day(date(2040, 1, 2), "weekdays") == (True, False)


def test_a_day_with_a_changed_clock_still_ends_at_its_midnight() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 3, 28, 12, tzinfo=berlin)
    end = due(start, Duration(1, Unit.CALENDAR_DAY), "weekdays", "Europe/Berlin").at
    assert end == datetime(2026, 3, 30, tzinfo=berlin)


@rule("CC-21")
@for_all(MOMENTS, st.integers(1, 40))
def test_working_days_are_counted_as_the_state_council_announced_them(start: datetime, amount: int) -> None:
    end = due(start, Duration(amount, Unit.WORKING_DAY), "cn", "Asia/Shanghai").at.astimezone(SHANGHAI)
    first, last = start.astimezone(SHANGHAI).date(), end.date() - timedelta(days=1)
    between = [first + timedelta(days=n) for n in range(1, (last - first).days + 1)]
    assert end.hour == end.minute == 0
    assert is_workday(last)
    assert sum(is_workday(day) for day in between) == amount


@for_all(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=20)), st.integers(1, 30), st.sampled_from(list(Unit)))
def test_starting_later_never_ends_earlier(start: datetime, later: timedelta, amount: int, unit: Unit) -> None:
    if unit != Unit.WORDS:
        period = Duration(amount, unit)
        ends = [due(s, period, "cn", "Asia/Shanghai").at for s in (start, start + later)]
        assert ends == sorted(ends)


@for_all(MOMENTS, st.integers(1, 30), DAYS)
def test_a_longer_period_never_ends_earlier_and_none_before_it_starts(start: datetime, amount: int, unit: Unit) -> None:
    short, long = (due(start, Duration(n, unit), "cn", "Asia/Shanghai").at for n in (amount, amount + 1))
    assert start < short < long
