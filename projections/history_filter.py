"""Which lines of the history to page through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from projections.page import Condition


@dataclass(frozen=True, kw_only=True)
class HistoryFilter:
    """What is None does not narrow. The upper bounds are included, `after_position` is not."""

    stream: UUID | None = None
    actor: UUID | None = None
    aggregate: str | None = None
    after_position: int | None = None
    version: int | None = None
    position: int | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None

    def conditions(self) -> list[Condition]:
        """The same in SQL."""
        known: list[Condition] = [
            ("stream_id = %s", self.stream),
            ("actor = %s", self.actor),
            ("aggregate = %s", self.aggregate),
            ("position > %s", self.after_position),
            ("version <= %s", self.version),
            ("position <= %s", self.position),
            ("occurred_at <= %s", self.occurred_at),
            ("recorded_at <= %s", self.recorded_at),
        ]
        return [(text, value) for text, value in known if value is not None]
