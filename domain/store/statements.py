"""The recorder's statements, each with the values it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from domain.store.envelope import Envelope

LOCK_HEAD: LiteralString = "SELECT position FROM institution_position WHERE institution = %s FOR UPDATE"
COLUMNS: LiteralString = (
    "institution, position, originator_id, originator_version, event_id, command_id, actor,"
    " occurred_at, recorded_at, topic, state"
)
APPEND_ONE: LiteralString = """
    WITH head AS (
        UPDATE institution_position SET position = position + 1, recorded_at = greatest(clock_timestamp(), recorded_at)
         WHERE institution = %s RETURNING position, recorded_at
    )
    INSERT INTO event (institution, originator_id, originator_version, event_id, command_id, actor, occurred_at, topic,
                       state, position, recorded_at)
    SELECT said.institution, %s, %s, %s, %s, %s, %s, %s, %s,
           (SELECT position FROM head WHERE said.institution IS NOT NULL AND (%s < 2 OR EXISTS (
               SELECT FROM event WHERE institution = %s AND originator_id = %s AND originator_version = %s))),
           (SELECT recorded_at FROM head WHERE said.institution IS NOT NULL)
    FROM (SELECT set_config('anjuan.institution', %s, true) AS institution OFFSET 0) AS said
    RETURNING position
"""
"""The everyday append, as one statement without a function, which takes less than half as long.

Row-level security is told the institution by the statement itself: what depends on `said` cannot be looked at before
`said` is there. Were it looked at sooner, nothing would be seen and the table would refuse the row. It refuses it, too,
where there is no position: then the function has something to say.
"""
APPEND: LiteralString = "SELECT append_events(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
"""A command's events, in one round trip; the function says for which institution, until the transaction ends."""


def one(institution: str, e: Envelope) -> tuple[Any, ...]:
    """The values of `APPEND_ONE`."""
    id, version = e.originator_id, e.originator_version
    return (institution, id, version, e.event_id, e.command_id, e.actor, e.occurred_at, e.topic, e.state,
            version, institution, id, version - 1, institution)  # fmt: skip


def appended(institution: str, events: Sequence[Envelope]) -> tuple[Any, ...]:
    """The values of `APPEND`."""
    return (
        institution,
        [e.originator_id for e in events],
        [e.originator_version for e in events],
        [e.event_id for e in events],
        events[0].command_id,
        events[0].actor,
        [e.occurred_at for e in events],
        [e.topic for e in events],
        [e.state for e in events],
    )
