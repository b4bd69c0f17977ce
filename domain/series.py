"""Number series: gapless numbers, saved in the same append as the fact that carries them (CC-07, CC-08)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.kernel import Event, Fold, Stamp, State, named

COMPLAINT_SERIES = "complaint"


@dataclass(frozen=True, kw_only=True)
class NumberIssued(Event, topic="series.number_issued"):
    """The next number of a series was given away, never to be given again (CC-08)."""

    series: str
    period: str
    number: int


@dataclass(frozen=True, kw_only=True)
class NumberSeries(State):
    """How far one series has counted in one period."""

    last: int = 0


def series_id(institution: str, series: str, period: str) -> UUID:
    """The stream of the series for this period, for example `("BJ", "complaint", "2026-01")`."""
    return named(institution, "series", series, period)


def month(at: datetime, time_zone: str) -> str:
    """The calendar month, as `2026-01`, in which a moment falls at the institution (CC-08)."""
    return at.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m")


def issue(known: NumberSeries | None, stamp: Stamp, *, institution: str, series: str, period: str) -> NumberIssued:
    """The next number of the series; `known` is what was read of its stream."""
    before = known or NumberSeries(id=series_id(institution, series, period))
    return NumberIssued(**before.next(stamp), series=series, period=period, number=before.last + 1)


def numbered(
    known: NumberSeries | None,
    stamp: Stamp,
    decide: Callable[[int], Event | None],
    *,
    institution: str,
    series: str,
    period: str,
) -> tuple[Event, ...] | None:
    """Decide with the next number of the series: the fact and the number it used, to be appended together.

    `decide` gets the number; when it returns None (asked twice) no number is used.
    """
    issued = issue(known, stamp, institution=institution, series=series, period=period)
    fact = decide(issued.number)
    return None if fact is None else (fact, issued)


def complaint_number(code: str, year: int, month: int, n: int) -> str:
    """机构缩写 + year + month + running number: two digits, widened past 99 (CC-07, CC-08)."""
    return f"{code}{year:04d}{month:02d}{n:02d}"


def complaint_number_in(code: str, period: str, n: int) -> str:
    """The same from a period as `month` gives it."""
    year, of_year = period.split("-")
    return complaint_number(code, int(year), int(of_year), n)


def evolve(known: NumberSeries | None, event: NumberIssued) -> NumberSeries:
    del known
    return NumberSeries(id=event.originator_id, version=event.originator_version, last=event.number)


SERIES = Fold("series", evolve, events=(NumberIssued,))
