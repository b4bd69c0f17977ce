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
APPEND: LiteralString = "SELECT append_events(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
"""A command's events, in one round trip; the function says for which institution, until the transaction ends."""


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
