"""Rows as they were, and which event set each field: folds of part of the log.

The bounds say what counts: `version` and `position` are places in the stream and in the institution's order,
`recorded_at` is when the house learned of a fact, `occurred_at` when it is said to have happened. Events are always
folded in the order they were recorded; with `occurred_at` those said to have happened later are left out, so the answer
is what is known today of how things stood then, while `recorded_at` answers what was known then. Before its first event
is said to have happened, a stream has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.kernel import Event, Refused
from domain.store.casebook import House
from domain.store.recorder import Recorded
from projections import log
from projections.table import Table
from projections.view import Key, R, Row, View

KEPT = frozenset({"institution", "position", "version", "recorded_at"})
"""The fields of a row that the fold keeps; no event sets them."""


@dataclass(frozen=True)
class Blame:
    """The event that gave a field the value it has."""

    value: Any
    position: int
    version: int
    topic: str
    actor: UUID
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True)
class Bounds:
    """Up to where the log is folded; a bound that is None does not bound."""

    version: int | None = None
    position: int | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None


def must_be_past(house: House, institution: str, stream: UUID, now: datetime, bounds: Bounds) -> None:
    """Refuse a bound that lies ahead: of a stream's last event, of the institution's last position, or of now.

    A stream without events is let pass; whoever asks finds that there is nothing.
    """
    for moment in (bounds.occurred_at, bounds.recorded_at):
        if moment is not None and moment > now:
            sentence = "This moment is still to come; ask for one that has passed, or for how things stand now."
            raise Refused("as_of.moment", sentence, field="as_of")
    if bounds.version is None and bounds.position is None:
        return
    with house.within(institution) as connection:
        row = connection.execute(
            "SELECT"
            " (SELECT max(originator_version) FROM event WHERE institution = %(code)s AND originator_id = %(id)s),"
            " (SELECT position FROM institution_position WHERE institution = %(code)s)",
            {"code": institution, "id": stream},
        ).fetchone()
    version, position = row if row is not None else (None, None)
    if bounds.version is not None and version is not None and bounds.version > version:
        sentence = f"The last version is {version}; ask for that one or an earlier one."
        raise Refused("as_of.version", sentence, field="as_of")
    if bounds.position is not None and bounds.position > (position or 0):
        sentence = f"Your institution's history ends at position {position or 0}; ask for that one or an earlier one."
        raise Refused("as_of.position", sentence, field="as_of")


def as_of(
    house: House,
    view: View[R],
    institution: str,
    key: UUID | Key,
    *,
    version: int | None = None,
    position: int | None = None,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> list[R]:
    """The rows of a stream, or the one row of a whole key, as they were up to every bound given, in order of key.

    Without a bound: as they are now, whatever the view has read. A version cannot bound a view that gathers
    (ValueError). Raises Undecodable, and what the view's `show` raises.
    """
    key = key if isinstance(key, tuple) else (key,)
    bounds = Bounds(version, position, occurred_at, recorded_at)
    rows: dict[Key, R | None] = {}
    for recorded, k, fact in _facts(house, view, institution, key, bounds):
        rows[k] = moved(view, institution, rows.get(k), recorded, fact)
    return [row for _, row in sorted(rows.items()) if row is not None]


def blame(
    house: House,
    view: View[Any],
    institution: str,
    key: UUID | Key,
    *,
    version: int | None = None,
    position: int | None = None,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> dict[str, Blame]:
    """Which event set each field of one row to its value, as of now or of the bounds; empty when there is no row.

    A field set again to the value it had is still the first event's. Raises as `as_of`.
    """
    key = key if isinstance(key, tuple) else (key,)
    assert len(key) == len(view.key), f"the whole key of one row of {view.name}: {', '.join(view.key)}"
    row: Row | None = None
    before: dict[str, Any] = {}
    blamed: dict[str, Blame] = {}
    bounds = Bounds(version, position, occurred_at, recorded_at)
    for recorded, _, fact in _facts(house, view, institution, key, bounds):
        row = moved(view, institution, row, recorded, fact)
        after = {} if row is None else {k: v for k, v in vars(row).items() if k not in KEPT}
        if not after:
            blamed = {}
        for name, value in after.items():
            if name not in before or before[name] != value:
                blamed[name] = _blame(value, recorded)
        before = after
    return blamed


def _blame(value: Any, r: Recorded) -> Blame:
    return Blame(value, r.position, r.originator_version, r.topic, r.actor, r.occurred_at, r.recorded_at)


def moved(view: View[R], institution: str, row: R | None, recorded: Recorded, fact: Any) -> R | None:
    """The row after one fact, with what the fold keeps."""
    after = view.show(row, fact)
    if after is not None:
        after.institution = institution
        after.position = recorded.position
        after.version = recorded.originator_version
        after.recorded_at = recorded.recorded_at
    return after


def _facts(
    house: House, view: View[Any], institution: str, key: Key, bounds: Bounds
) -> Iterator[tuple[Recorded, Key, Any]]:
    with house.within(institution) as connection:
        if view.gathers:
            read = _gathered(connection, view, institution, key, bounds)
        else:
            read = log.of_stream(
                connection,
                institution,
                key[0],
                view.topics,
                version=bounds.version,
                position=bounds.position,
                recorded_at=bounds.recorded_at,
            )
            read = _happened(read, bounds.occurred_at)
    events: list[Event] = house.mapper.to_events(read)
    for recorded, event in zip(read, events, strict=True):
        for k, fact in view.facts(event):
            if k[: len(key)] == key:
                yield recorded, k, fact


def _happened(read: list[Recorded], moment: datetime | None) -> list[Recorded]:
    """The events of a stream said to have happened by a moment; none before its first one."""
    if moment is None or not read:
        return read
    return [r for r in read if r.occurred_at <= moment] if read[0].occurred_at <= moment else []


def _gathered(
    connection: Connection[Any], view: View[Any], institution: str, key: Key, bounds: Bounds
) -> list[Recorded]:
    """The events that made one key: those the view has kept, and those it has not read yet."""
    if bounds.version is not None:
        raise ValueError(f"{view.name} gathers several streams: bound it by a position or a time, not by a version")
    assert len(key) == len(view.key), f"the whole key of one row of {view.name}: {', '.join(view.key)}"
    row = connection.execute(
        "SELECT coalesce(t.position, 0), head.position FROM institution_position AS head"
        " LEFT JOIN tracking AS t ON t.institution = head.institution AND t.view = %s WHERE head.institution = %s",
        (view.name, institution),
    ).fetchone()
    if row is None:
        return []
    read, head = row
    upto = head if bounds.position is None else bounds.position
    positions = Table(view).sources(connection, institution, key, min(read, upto))
    unread = log.by_position(connection, institution, read, upto, view.topics)
    found = log.at_positions(
        connection, institution, positions, occurred_at=bounds.occurred_at, recorded_at=bounds.recorded_at
    )
    return found + [
        r
        for r in unread
        if (bounds.occurred_at is None or r.occurred_at <= bounds.occurred_at)
        and (bounds.recorded_at is None or r.recorded_at <= bounds.recorded_at)
    ]
