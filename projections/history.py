"""The history (履历): one line per event of any stream – who, when said, when recorded, what it changed (CC-49, CC-47).

A line says what the event itself says, in words. A personal field is named and its value left out: whoever may see it
reads it from the event, under the person's key, so that nothing here outlives that key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, singledispatch
from typing import Any
from uuid import UUID

from domain.clock import ClockStarted, ClockStopped
from domain.kernel import Event
from domain.money import Money
from domain.personal import personal_fields
from domain.policy import PolicyValue
from projections.page import Order
from projections.question import Question, question
from projections.view import Key, Row, View

ENVELOPE = frozenset(f.name for f in dataclasses.fields(Event))


@dataclass(frozen=True)
class Change:
    """One field an event set and its values in words: several for a list, none for an empty one or a personal field."""

    field: str
    values: tuple[str, ...] = ()
    personal: bool = False


@dataclass(kw_only=True)
class HistoryRow(Row):
    """One event. Its fields are the columns of `history`; `position`, `version` and `recorded_at` are the event's own.

    `aggregate` is the kind of stream, the first word of the topic. `subjects` are the people whose personal fields the
    event holds.
    """

    stream_id: UUID
    aggregate: str
    topic: str
    actor: UUID
    command_id: UUID
    occurred_at: datetime
    subjects: tuple[UUID, ...] = ()
    changes: tuple[Change, ...] = ()


def line(event: Event) -> list[tuple[Key, Event]]:
    """Each event is a line of its own."""
    return [((event.originator_id, event.originator_version), event)]


def show(row: HistoryRow | None, event: Event) -> HistoryRow:
    """The line of an event. Nothing comes after it."""
    assert row is None, "an event happens once"
    form = _form(type(event))
    return HistoryRow(
        stream_id=event.originator_id,
        version=event.originator_version,
        aggregate=form.aggregate,
        topic=event.topic,
        actor=event.stamp.by,
        command_id=event.stamp.command_id,
        occurred_at=event.stamp.at,
        subjects=tuple(sorted({getattr(event, name) for name in form.subjects} - {None})),
        changes=_changes(event, form),
    )


@dataclass(frozen=True)
class Form:
    """What is known of an event type: its kind of stream, its fields with their defaults, and which are personal."""

    aggregate: str
    fields: tuple[tuple[str, Any], ...]
    personal: frozenset[str]
    subjects: frozenset[str]


@cache
def _form(event: type[Event]) -> Form:
    personal = personal_fields(event)
    fields = [
        (f.name, f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default)
        for f in dataclasses.fields(event)
        if f.name not in ENVELOPE
    ]
    # what moved because of it comes last
    fields.sort(key=lambda field: field[0] in ("stopped", "started"))
    return Form(
        aggregate=event.topic.split(".", 1)[0],
        fields=tuple(fields),
        personal=frozenset(personal),
        subjects=frozenset(personal.values()),
    )


def _changes(event: Event, form: Form) -> tuple[Change, ...]:
    """What the event says beyond the defaults; whose personal data it holds is said in `subjects`.

    Personal fields are named whatever they hold, so the line is the same before and after an erasure.
    """
    said: list[Change] = []
    for name, default in form.fields:
        if name in form.personal:
            said.append(Change(name, personal=True))
        elif name not in form.subjects and (value := getattr(event, name)) != default:
            said.append(Change(name, _values(value)))
    return tuple(said)


def _values(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (str(value),)
    if isinstance(value, tuple | list):
        return tuple([words(item) for item in value])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, dict):
        return tuple([f"{k}: {words(v)}" for k, v in value.items()])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return (words(value),)


@singledispatch
def words(value: Any) -> str:
    """A value of an event as a person reads it; the fields of a value object that differ from their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = [
            f"{f.name.replace('_', ' ')} {words(getattr(value, f.name))}"
            for f in dataclasses.fields(value)
            if getattr(value, f.name) != f.default
        ]
        return ", ".join(said)
    return str(value)


@words.register
def _(value: bool) -> str:
    return "yes" if value else "no"


@words.register
def _(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(" ", "seconds").removesuffix("+00:00") + " UTC"


@words.register
def _(value: Money) -> str:
    return str(value)


@words.register
def _(value: ClockStarted) -> str:
    said = f"{value.step} {value.interval}: {value.responsible}"
    if value.due_at is not None:
        said += f", due {words(value.due_at)}"
    marks = {"provisional": value.due_provisional, "assumed": value.assumed, "clamped by law": value.clamped}
    said += "".join(f", {mark}" for mark, holds in marks.items() if holds)
    return f"{said} ({value.rule})" if value.rule else said


@words.register
def _(value: ClockStopped) -> str:
    said = f"{value.step} {value.interval}: {value.outcome}"
    return f"{said}, {value.late_seconds} s late" if value.late_seconds else said


@words.register
def _(value: PolicyValue) -> str:
    figure = value.words if value.amount is None else f"{value.amount} {value.unit}"
    said = f"{value.key}: {figure}"
    if value.rule:
        said += f" ({value.rule})"
    return f"{said}, assumed" if value.assumed else said


HISTORY = View("history", HistoryRow, (Event,), show, ("stream_id", "version"), line)

BY_VERSION = Order(("version",), index="history_pkey")
"""The order of one stream, to be paged by its `stream_id`."""

BY_POSITION = Order(("position",), index="history_position")
"""The order in which the institution came to know of its facts."""


def histories(institution: str, streams: Sequence[UUID], limit: int, *, after: int = 0) -> Question[HistoryRow]:
    """The next `limit` lines of each of these streams after a version, stream by stream in version order."""
    return question(
        HISTORY,
        """
        SELECT line.*
        FROM unnest(%(streams)s::uuid[]) AS wanted (stream)
        CROSS JOIN LATERAL (
            SELECT {columns}
            FROM history
            WHERE institution = %(institution)s AND stream_id = wanted.stream AND version > %(after)s
            ORDER BY version
            LIMIT %(limit)s
        ) AS line
        ORDER BY line.stream_id, line.version
        """,
        institution=institution,
        streams=list(dict.fromkeys(streams)),
        after=after,
        limit=limit,
    )


def history_after(institution: str, position: int, limit: int) -> Question[HistoryRow]:
    """The next `limit` lines of the institution after a position, whatever stream they are of."""
    return question(
        HISTORY,
        """
        SELECT {columns}
        FROM history
        WHERE institution = %(institution)s AND position > %(position)s
        ORDER BY position
        LIMIT %(limit)s
        """,
        institution=institution,
        position=position,
        limit=limit,
    )
