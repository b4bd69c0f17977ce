"""Which lines of the history to page through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from projections.filter import Filter, Narrowing

_POSITION, _STREAM = "history_position", "history_pkey"


@dataclass(frozen=True, kw_only=True)
class HistoryFilter(Filter):
    """What may be asked of the history, and the upper bounds (which are included) of one stream as it was."""

    stream: Annotated[
        UUID | None, Narrowing("stream_id = %s", index=_STREAM, said="Only this case, person or other stream.")
    ] = None
    actor: Annotated[UUID | None, Narrowing("actor = %s", index="history_actor", said="Only what this person did.")] = (
        None
    )
    aggregate: Annotated[
        str | None,
        Narrowing(
            "aggregate = %s", index=_POSITION, walks=True, said="Only one kind of stream, for example complaint."
        ),
    ] = None
    after_position: Annotated[int | None, Narrowing("position > %s", index=_POSITION, said="Only what came later.")] = (
        None
    )
    version: Annotated[int | None, Narrowing("version <= %s", index=_STREAM, walks=True)] = None
    position: Annotated[int | None, Narrowing("position <= %s", index=_POSITION)] = None
    occurred_at: Annotated[datetime | None, Narrowing("occurred_at <= %s", index=_STREAM, walks=True)] = None
    recorded_at: Annotated[datetime | None, Narrowing("recorded_at <= %s", index=_STREAM, walks=True)] = None
