"""Whole streams folded in order of their ids: what rebuilding and verification have in common, in flat memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic
from uuid import UUID

from psycopg import Connection

from domain.store.mapper import Mapper
from projections import log
from projections.fold import Failure, Folding, collector_paused, opened
from projections.view import Key, R, View

CHUNK = 10_000
"""Events read at a time."""
_LAST_VERSION = 2**31 - 1


@dataclass(frozen=True)
class Piece(Generic[R]):
    """The rows of all streams after one and up to `upto`; `failed` as in Folding, `events` how many were folded."""

    upto: UUID
    rows: dict[Key, R | None]
    failed: dict[str, Failure]
    events: int


def next_piece(
    connection: Connection[Any],
    mapper: Mapper,
    view: View[R],
    institution: str,
    after: UUID,
    highest: UUID,
    head: int,
    chunk: int = CHUNK,
) -> Piece[R]:
    """Fold the next whole streams after `after`, about `chunk` events; `upto == highest` says there are no more.

    `after` itself is left out, except that before the first stream stands FIRST_STREAM, which no stream has as its id.
    A stream longer than a chunk is folded chunk by chunk; only its rows are held.
    """
    folding = Folding(view, institution)
    topics = view.topics
    place = (after, _LAST_VERSION)
    events = 0
    while True:
        with collector_paused():
            read = log.by_stream(connection, institution, place, highest, head, topics, chunk)
            more = len(read) == chunk
            upto = highest
            if more:
                cut = read[-1].originator_id
                whole = len(read)
                while whole and read[whole - 1].originator_id == cut:
                    whole -= 1
                if whole:
                    del read[whole:]
                    upto = UUID(int=cut.int - 1) if isinstance(cut, UUID) else highest
                else:
                    place = (UUID(str(cut)), read[-1].originator_version)
            folding.fold(folding.split(opened(mapper, read)))
            events += len(read)
            if not more or upto != highest:
                return Piece(upto, folding.rows, folding.failed, events)
