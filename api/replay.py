"""One case as it was on any day, for people at a terminal: the row, its clocks, and what had happened by then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from domain.institution import INSTITUTION, institution_id
from domain.kernel import Refused
from domain.store.casebook import House
from projections.asof import KEPT, as_of, blame
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.history import HISTORY, HistoryRow


@dataclass(frozen=True)
class Found:
    """Where a case is: its institution, its stream, and the institution's zone to show times in."""

    institution: str
    id: UUID
    zone: ZoneInfo


def find_case(house: House, words: str, institution: str | None) -> Found:
    """The case meant by its number, its id or its name in another system. Raises Refused when none or several."""
    with house.pool.connection() as connection:
        rows = connection.execute(
            "SELECT institution, complaint_id FROM complaint_case"
            " WHERE (number = %(words)s OR reference = %(words)s OR complaint_id::text = lower(%(words)s))"
            " AND (%(code)s::text IS NULL OR institution = %(code)s) ORDER BY 1, 2 LIMIT 2",
            {"words": words, "code": institution},
        ).fetchall()
    if not rows:
        raise Refused(
            "complaint.unknown", f"No case is known as {words!r} here; `anjuan status` shows the institutions."
        )
    if len(rows) > 1:
        raise Refused("complaint.ambiguous", f"Several cases are known as {words!r}; say which with --institution.")
    code, id = rows[0]
    place = house.casebook(code).read(INSTITUTION, institution_id(code))
    return Found(code, id, ZoneInfo(place.place.time_zone if place is not None else "UTC"))


def moment(words: str, zone: ZoneInfo) -> datetime:
    """`2026-01-07` is the end of that day in the zone; with a time it is that moment. Raises Refused."""
    try:
        if len(words) == 10:
            day = date.fromisoformat(words)
            return datetime.combine(day + timedelta(days=1), time.min, zone).astimezone(UTC) - timedelta(microseconds=1)
        at = datetime.fromisoformat(words)
    except ValueError:
        sentence = f"{words!r} is no moment; write 2026-01-07 or 2026-01-07T09:30:00+08:00."
        raise Refused("time.format", sentence, field="at") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)


def replayed(
    house: House,
    case: Found,
    *,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
    version: int | None = None,
    who: bool = False,
) -> Group | None:
    """What a terminal shows of the case up to these bounds; None when it had not begun. `who` adds the blame."""
    bounds: dict[str, Any] = {"occurred_at": occurred_at, "recorded_at": recorded_at, "version": version}
    rows = as_of(house, COMPLAINTS, case.institution, case.id, **bounds)
    if not rows:
        return None
    lines = as_of(house, HISTORY, case.institution, case.id, **bounds)
    clocks = as_of(house, CLOCKS, case.institution, case.id, **bounds)
    setters = blame(house, COMPLAINTS, case.institution, case.id, **bounds) if who else {}
    return Group(
        _particulars(rows[0], case.zone, {name: said.position for name, said in setters.items()}),
        _clocks(clocks, case.zone),
        _lines(lines, case.zone),
    )


def _particulars(row: ComplaintRow, zone: ZoneInfo, positions: dict[str, int]) -> Table:
    table = Table(
        title=f"{row.number or row.complaint_id}  {row.stage}", title_justify="left", show_header=bool(positions)
    )
    table.add_column("field", style="cyan", no_wrap=True)
    table.add_column("value", overflow="fold")
    if positions:
        table.add_column("set at position", justify="right")
    for name, value in vars(row).items():
        if name in KEPT or value is None or value == () or value == "":
            continue
        table.add_row(name, shown(value, zone), *([str(positions.get(name, ""))] if positions else []))
    return table


def _clocks(clocks: list[ClockRow], zone: ZoneInfo) -> Table:
    table = Table(title="clocks", title_justify="left")
    for heading in ("step", "kind", "no.", "from", "due", "ended", "result"):
        table.add_column(heading)
    for clock in clocks:
        late = clock.outcome == "late"
        table.add_row(
            clock.step,
            clock.kind,
            str(clock.interval),
            shown(clock.started_at, zone),
            shown(clock.due_at, zone),
            shown(clock.stopped_at, zone),
            Text(str(clock.outcome or "running"), style="red" if late else ""),
        )
    return table


def _lines(lines: list[HistoryRow], zone: ZoneInfo) -> Table:
    table = Table(title=f"history: {len(lines)} events", title_justify="left")
    for heading in ("position", "happened", "recorded", "what", "who"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(
            str(line.position),
            shown(line.occurred_at, zone),
            shown(line.recorded_at, zone),
            line.topic,
            str(line.actor)[:8],
        )
    return table


def shown(value: object, zone: ZoneInfo) -> str:
    """A value in the words of a terminal; moments in the institution's zone."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        case Decimal():
            return f"¥{value}"
        case tuple():
            return ", ".join(shown(v, zone) for v in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            return str(value)
