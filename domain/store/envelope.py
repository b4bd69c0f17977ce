"""An event as it is stored: its exact bytes and what is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventsourcing.persistence import StoredEvent


@dataclass(frozen=True, kw_only=True)
class Envelope(StoredEvent):
    """An event ready to be stored: the library's four fields and what we keep beside them."""

    event_id: UUID
    command_id: UUID
    actor: UUID
    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class Recorded(Envelope):
    """One stored event: its place, its envelope and its exact bytes."""

    institution: str
    position: int
    recorded_at: datetime
