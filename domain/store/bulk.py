"""Many commands at once: one counter update and one COPY, for imports and simulators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.sql import SQL
from psycopg_pool import ConnectionPool

from domain.store.recorder import COLUMNS, Envelope, StaleVersion, said_clearly, unconfirmed
from domain.store.staging import copy_in_secured
from domain.store.tenant import about

TYPES = ("text", "int8", "uuid", "int4", "uuid", "uuid", "uuid", "timestamptz", "timestamptz", "text", "bytea")


def append_copied(
    pool: ConnectionPool[Connection[Any]], institution: str, commands: Sequence[Sequence[Envelope]]
) -> int:
    """Append the commands that are not known yet, in order, in one transaction; how many that were.

    Raises StaleVersion when a version does not follow its stream, and what the recorder's `said_clearly` raises.
    """
    with said_clearly(), pool.connection() as connection:
        with about(connection, institution):
            stored = _append(connection, institution, commands)
        unconfirmed(connection)
        return stored


def _append(connection: Connection[Any], institution: str, commands: Sequence[Sequence[Envelope]]) -> int:
    recorded_at = _lock_head(connection, institution)
    known = _known(connection, institution, [c[0].event_id for c in commands])
    fresh = [c for c in commands if c[0].event_id not in known]
    events = [e for c in fresh for e in c]
    if not events:
        return 0
    _check_versions(connection, institution, events)
    row = connection.execute(
        "UPDATE institution_position SET position = position + %s, recorded_at = %s"
        " WHERE institution = %s RETURNING position - %s",
        (len(events), recorded_at, institution, len(events)),
    ).fetchone()
    assert row is not None
    lines = (
        (institution, position, e.originator_id, e.originator_version, e.event_id, e.command_id, e.actor,
         e.occurred_at, recorded_at, e.topic, e.state)
        for position, e in enumerate(events, row[0] + 1)
    )  # fmt: skip
    copy_in_secured(connection, "event", SQL(COLUMNS), TYPES, lines)
    return len(fresh)


def _lock_head(connection: Connection[Any], institution: str) -> Any:
    """Take the institution's turn: nobody appends to it until this transaction ends. The time of recording."""
    connection.execute(
        "INSERT INTO institution_position VALUES (%s, 0, clock_timestamp()) ON CONFLICT DO NOTHING", (institution,)
    )
    row = connection.execute(
        "UPDATE institution_position SET recorded_at = greatest(recorded_at, clock_timestamp())"
        " WHERE institution = %s RETURNING recorded_at",
        (institution,),
    ).fetchone()
    assert row is not None
    return row[0]


def _known(connection: Connection[Any], institution: str, event_ids: list[UUID]) -> set[UUID]:
    rows = connection.execute(
        "SELECT event_id FROM event WHERE institution = %s AND event_id = ANY(%s)", (institution, event_ids)
    ).fetchall()
    return {row[0] for row in rows}


def _check_versions(connection: Connection[Any], institution: str, events: Sequence[Envelope]) -> None:
    """Every stream continues where it stands; later events of the same batch follow one another."""
    heads: dict[Any, int] = dict(
        connection.execute(
            "SELECT originator_id, max(originator_version) FROM event"
            " WHERE institution = %s AND originator_id = ANY(%s) GROUP BY originator_id",
            (institution, list({e.originator_id for e in events})),
        ).fetchall()
    )
    for e in events:
        expected = heads.get(e.originator_id, 0) + 1
        if e.originator_version != expected:
            raise StaleVersion(f"Stream {e.originator_id} goes on with version {expected}, not {e.originator_version}.")
        heads[e.originator_id] = expected
