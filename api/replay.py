"""One case as it was on any day, for people at a terminal: the row, its clocks, and what had happened by then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from unicodedata import category
from uuid import UUID
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from domain.institution import INSTITUTION, institution_id
from domain.kernel import Refused, text
from domain.staff import STAFF, Staff
from domain.store.casebook import House
from projections.asof import KEPT, Bounds, as_of, blame, must_be_past
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.history import HISTORY, HistoryRow

COMMANDING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of what is not seen but changes how the rest is."""


@dataclass(frozen=True)
class Found:
    """Where a case is: its institution, its stream, and the institution's zone to show times in."""

    institution: str
    id: UUID
    zone: ZoneInfo


def find_case(house: House, words: str, institution: str | None) -> Found:
    """The case meant by its number, its id or its name in another system. Raises Refused when none or several."""
    text(words, "case")  # a case that has no number yet is not meant by saying nothing
    with house.everywhere.connection() as connection:
        rows = connection.execute(
            "SELECT institution, complaint_id FROM complaint_case"
            " WHERE (number = %(words)s OR reference = %(words)s OR complaint_id::text = lower(%(words)s))"
            " AND (%(code)s::text IS NULL OR institution = %(code)s) ORDER BY 1, 2 LIMIT 2",
            {"words": words, "code": institution},
        ).fetchall()
    if not rows:
        raise Refused(
            "complaint.unknown", f"No case is known as {words!r} here; `anjuan institutions` lists the institutions."
        )
    if len(rows) > 1:
        raise Refused("complaint.ambiguous", f"Several cases are known as {words!r}; say which with --institution.")
    code, id = rows[0]
    place = house.casebook(code).read(INSTITUTION, institution_id(code))
    return Found(code, id, ZoneInfo(place.place.time_zone if place is not None else "UTC"))


def moment(words: str, zone: ZoneInfo) -> datetime:
    """`2026-01-07` is the end of that day in the zone, or now if it is today; with a time, that. Raises Refused."""
    try:
        if len(words) == 10:
            day = date.fromisoformat(words)
            end = datetime.combine(day + timedelta(days=1), time.min, zone).astimezone(UTC) - timedelta(microseconds=1)
            now = datetime.now(UTC)
            return now if day == now.astimezone(zone).date() else end
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
    """What a terminal shows of the case up to these bounds; None when it had not begun. `who` adds the blame.

    Raises Refused for a bound that lies ahead.
    """
    bounds: dict[str, Any] = {"occurred_at": occurred_at, "recorded_at": recorded_at, "version": version}
    must_be_past(house, case.institution, case.id, datetime.now(UTC), Bounds(**bounds))
    rows = as_of(house, COMPLAINTS, case.institution, case.id, **bounds)
    if not rows:
        return None
    lines = as_of(house, HISTORY, case.institution, case.id, **bounds)
    clocks = as_of(house, CLOCKS, case.institution, case.id, **bounds)
    setters = blame(house, COMPLAINTS, case.institution, case.id, **bounds) if who else {}
    return Group(
        _particulars(rows[0], case.zone, {name: said.position for name, said in setters.items()}),
        _clocks(clocks, case.zone),
        _lines(house, case, lines),
    )


def _particulars(row: ComplaintRow, zone: ZoneInfo, positions: dict[str, int]) -> Table:
    table = Table(
        title=Text(f"{row.number or row.complaint_id}  {row.stage}", style="italic"),
        title_justify="left",
        show_header=bool(positions),
        box=None,
    )
    table.add_column("field", style="cyan", no_wrap=True)
    table.add_column("value", overflow="fold")
    if positions:
        table.add_column("set at position", justify="right")
    for name, value in vars(row).items():
        if name in KEPT or value in (None, (), "", False):  # what is not so needs no line
            continue
        table.add_row(name, plain(shown(value, zone)), *([str(positions.get(name, ""))] if positions else []))
    return table


def _clocks(clocks: list[ClockRow], zone: ZoneInfo) -> Table:
    table = Table(title="clocks", title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for heading in ("step", "kind", "no.", "from", "due", "ended", "result"):
        table.add_column(heading, no_wrap=True)
    for clock in sorted(clocks, key=lambda clock: (clock.started_at, clock.step, clock.interval)):
        late = clock.outcome == "late"
        table.add_row(
            clock.step,
            clock.kind,
            str(clock.interval),
            short(clock.started_at, zone),
            short(clock.due_at, zone),
            short(clock.stopped_at, zone),
            Text(str(clock.outcome or "running"), style="red" if late else ""),
        )
    return table


def _lines(house: House, case: Found, lines: list[HistoryRow]) -> Text:
    """Each event on a line of its own, with what it set below it."""
    said = Text(f"history: {len(lines)} events\n", style="italic")
    names = {actor: _name(house, case.institution, actor) for actor in {line.actor for line in lines}}
    for line in lines:
        said.append(f"{line.position:>8}  {shown(line.occurred_at, case.zone)}  ", style="")
        said.append(line.topic, style="cyan")
        said.append(f"  by {plain(names[line.actor])}\n", style="dim")
        changes = [f"{c.field}: {'(personal)' if c.personal else ', '.join(c.values) or '–'}" for c in line.changes]
        told = [f"recorded {shown(line.recorded_at, case.zone)}", *changes]
        said.append("".join(f"          {plain(one)}\n" for one in told), style="dim")
    return said


def _name(house: House, institution: str, actor: UUID) -> str:
    staff: Staff | None = house.casebook(institution).read(STAFF, actor)
    return staff.name if staff is not None else str(actor)[:8]


def plain(words: str) -> Text:
    """Somebody's words as they are: nothing in them is markup, and nothing commands the terminal."""
    return Text("".join(f"\\x{ord(c):02x}" if c != "\n" and category(c) in COMMANDING else c for c in words))


def short(at: datetime | None, zone: ZoneInfo) -> str:
    """Month, day and time: the year is that of the case."""
    return "" if at is None else at.astimezone(zone).strftime("%m-%d %H:%M")


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
