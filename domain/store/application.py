"""Where the event-sourcing library meets our recorder and mapper."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import EventStore, InfrastructureFactory, ProcessRecorder
from eventsourcing.utils import Environment

from domain.kernel import Fold
from domain.store.mapper import Mapper
from domain.store.recorder import Connections, EventRecorder, StreamRecorder


class Envelopes(EventStore[UUID]):
    """The library's event store, reading whole envelopes."""

    def get(
        self,
        originator_id: UUID,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Any:
        """The events of a stream."""
        recorder, mapper = cast(StreamRecorder, self.recorder), cast(Mapper, self.mapper)
        return iter(mapper.to_events(recorder.events_of(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)))


class Infrastructure(InfrastructureFactory[Any]):
    """Where the library asks for recorders. Tracking belongs to the views, which keep their own."""

    def __init__(self, env: Environment, pool: Connections, institution: str) -> None:
        super().__init__(env)
        self.pool = pool
        self.institution = institution

    def aggregate_recorder(self, purpose: str = "events") -> StreamRecorder:
        assert purpose == "events", "there are no snapshots"
        return StreamRecorder(self.pool, self.institution)

    def application_recorder(self) -> EventRecorder:
        return EventRecorder(self.pool, self.institution)

    def tracking_recorder(self, tracking_recorder_class: type[Any] | None = None) -> Any:
        raise AssertionError("views keep their own tracking")

    def process_recorder(self) -> ProcessRecorder:
        raise AssertionError("views keep their own tracking")


def projector(fold: Fold) -> Callable[[Any, Iterable[Any]], Any]:
    """The fold as the library's repository wants it."""

    def project(initial: Any, events: Iterable[Any]) -> Any:
        state = initial
        for event in events:
            state = fold.evolve(state, event)
        return state

    return project
