"""Folding events into rows held in memory: the one loop behind following, rebuilding, as-of and verification."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic
from uuid import UUID

import msgspec

from domain.kernel import Event
from domain.store.mapper import Mapper
from domain.store.recorder import Recorded
from projections.view import Key, R, View

Said = tuple[Recorded, "Event | Failure"]
"""A stored event with what was decoded from it."""

STREAM_MARK = "stream:"


@dataclass(frozen=True)
class Failure:
    """Why an event could not be decoded or folded: the kind of error and where, never a value of the event."""

    position: int
    topic: str
    error: str

    @classmethod
    def of(cls, recorded: Recorded, problem: Exception) -> Failure:
        """The failure of this event."""
        where = problem.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = f" ({where.tb_frame.f_code.co_name}, line {where.tb_lineno})" if where is not None else ""
        return cls(recorded.position, recorded.topic, f"{type(problem).__name__}{line}")


_pausing = Lock()
_paused = 0


@contextmanager
def collector_paused() -> Generator[None]:
    """Keep Python's cycle collector away while a batch lives: it would walk all of it again and again (a third of the
    time, measured). Batches hold no cycles; the collector is back between them.
    """
    global _paused
    with _pausing:
        _paused += 1
        gc.disable()
    try:
        yield
    finally:
        with _pausing:
            _paused -= 1
            if _paused == 0:
                gc.enable()


def stream_mark(stream: UUID | str) -> str:
    """How all rows of a stream are named in `parked`."""
    return f"{STREAM_MARK}{stream}"


def key_mark(key: Key) -> str:
    """How one key is named in `parked`."""
    return msgspec.json.encode(key).decode()


def opened(mapper: Mapper, batch: Sequence[Recorded]) -> list[Said]:
    """The events of a batch; one that cannot be decoded is a Failure in its place."""
    try:
        return list(zip(batch, mapper.to_events(batch), strict=True))
    except Exception:  # whatever a former topic's upcast may raise
        return [(recorded, _opened_alone(mapper, recorded)) for recorded in batch]


def _opened_alone(mapper: Mapper, recorded: Recorded) -> Event | Failure:
    try:
        return mapper.to_event(recorded)
    except Exception as problem:
        return Failure.of(recorded, problem)


class Folding(Generic[R]):
    """The rows of one view in one institution while events are folded into them.

    `rows` holds what was given and what was folded since, None for a row that is gone; `parked` the marks of keys and
    streams whose events wait; `failed` those that joined them here; `made` which position made which key, for a view
    that gathers.
    """

    def __init__(self, view: View[R], institution: str, rows: dict[Key, R | None] | None = None) -> None:
        self.view = view
        self.institution = institution
        self.rows: dict[Key, R | None] = rows if rows is not None else {}
        self.parked: set[str] = set()
        self.failed: dict[str, Failure] = {}
        self.made: list[tuple[Key, int]] = []

    def split(self, said: Iterable[Said]) -> list[tuple[Recorded, list[tuple[Key, Any]]]]:
        """The facts of each event; those of parked streams are left out, a stream whose event fails is parked."""
        found: list[tuple[Recorded, list[tuple[Key, Any]]]] = []
        view, parked = self.view, self.parked
        for recorded, event in said:
            if parked and stream_mark(recorded.originator_id) in parked:
                continue
            if isinstance(event, Failure):
                self._park(stream_mark(recorded.originator_id), event)
                continue
            if view.parts is None:
                found.append((recorded, [((recorded.originator_id,), event)]))
                continue
            try:
                found.append((recorded, view.facts(event)))
            except Exception as problem:
                self._park(stream_mark(recorded.originator_id), Failure.of(recorded, problem))
        return found

    def fold(self, facts: Iterable[tuple[Recorded, list[tuple[Key, Any]]]]) -> None:
        """Fold events into the rows, in the order given. A show that raises twice parks its stream, or its key."""
        gathers = self.view.gathers
        for recorded, parts in facts:
            if gathers:
                self.made.extend((key, recorded.position) for key in dict.fromkeys(key for key, _ in parts))
            if self.parked:
                parts = self._waiting_left_out(recorded, parts)
            try:
                self._move(recorded, parts)
            except Exception:
                self._move_again(recorded, parts)

    def _waiting_left_out(self, recorded: Recorded, parts: list[tuple[Key, Any]]) -> list[tuple[Key, Any]]:
        if self._waits(stream_mark(recorded.originator_id), recorded):
            return []
        if self.view.gathers:
            return [(key, fact) for key, fact in parts if not self._waits(key_mark(key), recorded)]
        return parts

    def _waits(self, mark: str, recorded: Recorded) -> bool:
        """Whether this event waits because its key is parked; what lies before the failing event is still folded."""
        if mark not in self.parked:
            return False
        return mark not in self.failed or recorded.position >= self.failed[mark].position

    def _move(self, recorded: Recorded, parts: list[tuple[Key, Any]]) -> None:
        """One event, all of its parts or none."""
        show, rows = self.view.show, self.rows
        if len(parts) == 1:
            key, fact = parts[0]
            row = show(rows.get(key), fact)
            if row is not None:
                row.institution = self.institution
                row.position = recorded.position
                row.version = recorded.originator_version
                row.recorded_at = recorded.recorded_at
            rows[key] = row
            return
        after: dict[Key, R | None] = {}
        for key, fact in parts:
            after[key] = show(after[key] if key in after else rows.get(key), fact)
        for row in after.values():
            if row is not None:
                row.institution = self.institution
                row.position = recorded.position
                row.version = recorded.originator_version
                row.recorded_at = recorded.recorded_at
        rows.update(after)

    def _move_again(self, recorded: Recorded, parts: list[tuple[Key, Any]]) -> None:
        if not self.view.gathers:
            try:
                self._move(recorded, parts)
            except Exception as problem:
                self._park(stream_mark(recorded.originator_id), Failure.of(recorded, problem))
            return
        for key in dict.fromkeys(key for key, _ in parts):
            try:
                self._move(recorded, [part for part in parts if part[0] == key])
            except Exception as problem:
                self._park(key_mark(key), Failure.of(recorded, problem))

    def _park(self, mark: str, failure: Failure) -> None:
        self.parked.add(mark)
        self.failed[mark] = failure
