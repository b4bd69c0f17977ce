"""Rebuilding a view beside itself: a new table is filled from the log, catches up, and takes the old one's place.

Readers keep the old rows until the switch, which is a rename; writers of events never notice. Whole streams are folded
in order of their ids and copied in once, slice by slice; a slice is claimed by its row lock for one chunk at a time, so
any number of processes may help (`help_rebuild`) and whatever dies loses one chunk. Run again, an interrupted rebuild
goes on where it was, unless the code that folds is another one.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.store.casebook import House
from projections import switch
from projections.crew import crew
from projections.fold import STREAM_MARK, Failure, collector_paused
from projections.log import FIRST_STREAM, LAST_STREAM
from projections.runner import BATCH, advance, park
from projections.streams import CHUNK, Piece, next_piece
from projections.table import NEXT, Table
from projections.view import View

SLICES = 8
"""In how many slices the streams of a large institution are shared out."""
SLICED_FROM = 50_000
"""Events from which an institution is sliced."""

Progress = Callable[[int, int], None]
"""Is told how many events are done, and of how many."""


class RebuildUnderWay(Exception):
    """Another process is rebuilding this view; wait for it, or help it."""


@dataclass(frozen=True)
class Rebuilt:
    """How a rebuild ended: `switched` is False when it was stopped and can be taken up again."""

    view: str
    events: int
    seconds: float
    switched: bool


def rebuild(
    house: House,
    view: View[Any],
    *,
    owner: str,
    progress: Progress | None = None,
    stop: Signal | None = None,
    fresh: bool = False,
    chunk: int = CHUNK,
    patience: float = switch.PATIENCE_SECONDS,
    hands: int = 0,
    master_key: bytes | None = None,
) -> Rebuilt:
    """Fold a view again from its first event and put the result in its place; see the module's docstring.

    `owner` is the connection string of the role that owns the tables. `fresh` begins anew whatever was interrupted: say
    it when code changed that the view's own module only calls. `patience` is how long, in seconds, the switch looks
    for a moment without readers. `hands` more processes help; they need the `master_key`. Raises RebuildUnderWay,
    switch.SwitchRefused.
    """
    began = time.monotonic()
    stop = stop or Signal()
    with psycopg.connect(owner_conninfo(owner), autocommit=True) as connection:
        _alone(connection, view)
        prepare(connection, view, fresh=fresh)
        before, _ = _progress(connection, view)
        with crew(house, _needed(master_key), view, hands, stop) if hands else nullcontext():
            help_rebuild(house, view, stop=stop, progress=progress, chunk=chunk)
            while not stop.is_set() and not _finished(connection, view):
                stop.wait(0.05)
                help_rebuild(house, view, stop=stop, progress=progress, chunk=chunk)
            if stop.is_set():
                done, _ = _progress(connection, view)
                return Rebuilt(view.name, done - before, time.monotonic() - began, False)
        done, total = _progress(connection, view)
        if progress is not None:
            progress(done, total)
        switch.settle(connection, view)
        late = switch.switch(connection, house.mapper, view, patience=patience)
    return Rebuilt(view.name, done - before + late, time.monotonic() - began, True)


def _needed(master_key: bytes | None) -> bytes:
    assert master_key is not None, "more processes need the master key to open events"
    return master_key


def owner_conninfo(owner: str) -> str:
    """The owner's connection with the house's schema and time zone, and without waiting for the disk at each chunk."""
    given = conninfo_to_dict(owner).get("options") or ""
    options = f"{given} -c search_path=anjuan -c timezone=UTC -c synchronous_commit=off".strip()
    return make_conninfo(owner, options=options, application_name="anjuan rebuild")


def _alone(connection: Connection[Any], view: View[Any]) -> None:
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended('anjuan rebuild ' || %s, 0))", (view.name,)
    ).fetchone()
    assert row is not None
    if not row[0]:
        raise RebuildUnderWay(f"{view.name} is being rebuilt by another process.")


def prepare(connection: Connection[Any], view: View[Any], *, fresh: bool = False) -> None:
    """Make the tables beside the view and share the work out, unless that was done and interrupted."""
    code = fold_digest(view)
    begun = connection.execute("SELECT fold FROM rebuild_begun WHERE view = %s", (view.name,)).fetchone()
    if begun is not None and begun[0] == code and not fresh:
        return
    with connection.transaction():
        discard(connection, view)
        switch.make_tables(connection, view)
        connection.execute("INSERT INTO rebuild_begun (view, fold) VALUES (%s, %s)", (view.name, code))
        heads = connection.execute("SELECT institution, position FROM institution_position WHERE position > 0")
        for institution, head in heads.fetchall():
            _share_out(connection, view, institution, head)


def _share_out(connection: Connection[Any], view: View[Any], institution: str, head: int) -> None:
    from_log = 0 if view.gathers else head
    connection.execute(
        "INSERT INTO tracking (institution, view, position) VALUES (%s, %s, %s)"
        # a straggler of a rebuild that was given up may have put one there
        " ON CONFLICT (institution, view) DO UPDATE SET position = excluded.position",
        (institution, view.name + NEXT, from_log),
    )
    if view.gathers:
        return
    row = connection.execute(
        "SELECT count(*) FROM event WHERE institution = %s AND position <= %s AND topic = ANY(%s)",
        (institution, head, list(view.topics)),
    ).fetchone()
    total = row[0] if row else 0
    slices = SLICES if total >= SLICED_FROM else 1
    bounds = [FIRST_STREAM, *(UUID(int=(2**128 // slices) * n) for n in range(1, slices)), LAST_STREAM]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO rebuild (institution, view, slice, lowest, highest, head, total)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (institution, view.name, n, bounds[n], bounds[n + 1], head, total // slices + (n < total % slices))
                for n in range(slices)
            ],
        )


def discard(connection: Connection[Any], view: View[Any]) -> None:
    """Forget an interrupted rebuild and drop what it made."""
    with connection.transaction():
        switch.drop_tables(connection, view)
        connection.execute("DELETE FROM rebuild WHERE view = %s", (view.name,))
        connection.execute("DELETE FROM rebuild_begun WHERE view = %s", (view.name,))
        connection.execute("DELETE FROM tracking WHERE view = %s", (view.name + NEXT,))
        connection.execute("DELETE FROM parked WHERE view = %s", (view.name + NEXT,))


def fold_digest(view: View[Any]) -> str:
    """Digest of the modules that hold the view's fold and row type, and of its columns."""
    digest = hashlib.sha256(repr([(c.name, c.type, c.nullable) for c in view.columns]).encode())
    for module in sorted({f.__module__ for f in (view.show, view.parts, view.row) if f is not None}):
        source = inspect.getsourcefile(__import__(module, fromlist=["_"]))
        if source is not None:
            digest.update(Path(source).read_bytes())
    return digest.hexdigest()


def help_rebuild(
    house: House, view: View[Any], *, stop: Signal, progress: Progress | None = None, chunk: int = CHUNK
) -> int:
    """Fold slices of a prepared rebuild until none is left to claim, and follow on; how many events were read."""
    table = Table(view, NEXT)
    events = 0
    with house.everywhere.connection() as connection:
        connection.execute("SET synchronous_commit = off")
        try:
            while not stop.is_set():
                got = _fold_chunk(connection, house, table, chunk)
                if got is None:
                    break
                events += got
                if progress is not None:
                    progress(*_progress(connection, view))
            return events + _caught_up(connection, house, view, stop, progress)
        finally:
            if not connection.closed:
                connection.execute("RESET synchronous_commit")


def _fold_chunk(connection: Connection[Any], house: House, table: Table[Any], chunk: int) -> int | None:
    """Claim a slice, fold its next chunk and write it, all in one transaction; None when nothing is left to claim."""
    view = table.view
    with collector_paused(), connection.transaction():
        row = connection.execute(
            "SELECT institution, slice, coalesce(last, lowest), highest, head FROM rebuild"
            " WHERE view = %s AND NOT finished ORDER BY institution, slice LIMIT 1 FOR UPDATE SKIP LOCKED",
            (view.name,),
        ).fetchone()
        if row is None:
            return None
        institution, number, after, highest, head = row
        piece = next_piece(connection, house.mapper, view, institution, after, highest, head, chunk)
        failed = piece.failed | _written(connection, table, piece)
        if failed:
            park(connection, institution, table.name, failed)
        connection.execute(
            "UPDATE rebuild SET last = %s, done = done + %s, finished = %s"
            " WHERE institution = %s AND view = %s AND slice = %s",
            (piece.upto, piece.events, piece.upto == highest, institution, view.name, number),
        )
        return piece.events


def _written(connection: Connection[Any], table: Table[Any], piece: Piece[Any]) -> dict[str, Failure]:
    """Copy the rows of a piece in; those of streams that PostgreSQL refuses are left out and named."""
    rows = [row for row in piece.rows.values() if row is not None]
    try:
        with connection.transaction():
            table.copy(connection, rows)
        return {}
    except (psycopg.DataError, psycopg.IntegrityError):
        pass
    streams: dict[UUID, list[Any]] = {}
    for key, row in piece.rows.items():
        if row is not None:
            streams.setdefault(key[0], []).append(row)
    refused: dict[str, Failure] = {}
    for stream, of_stream in streams.items():
        try:
            with connection.transaction():
                table.copy(connection, of_stream)
        except (psycopg.DataError, psycopg.IntegrityError) as problem:
            kind = f"{type(problem).__name__} when the row was stored"
            refused[f"{STREAM_MARK}{stream}"] = Failure(max(r.position for r in of_stream), "", kind)
    return refused


def _finished(connection: Connection[Any], view: View[Any]) -> bool:
    """Whether every slice is folded and, for a view that gathers, what is left fits into the switch."""
    if view.gathers:
        done, total = _progress(connection, view)
        return total - done < BATCH
    query = "SELECT NOT EXISTS (SELECT FROM rebuild WHERE view = %s AND NOT finished)"
    row = connection.execute(query, (view.name,)).fetchone()
    return row is not None and row[0]


def _progress(connection: Connection[Any], view: View[Any]) -> tuple[int, int]:
    """Events done and to do; of a view that gathers, positions."""
    if view.gathers:
        query = (
            "SELECT coalesce(sum(t.position), 0)::bigint, coalesce(sum(head.position), 0)::bigint"
            " FROM institution_position AS head"
            " LEFT JOIN tracking AS t ON t.institution = head.institution AND t.view = %s"
        )
        row = connection.execute(query, (view.name + NEXT,)).fetchone()
    else:
        query = "SELECT coalesce(sum(done), 0)::bigint, coalesce(sum(total), 0)::bigint FROM rebuild WHERE view = %s"
        row = connection.execute(query, (view.name,)).fetchone()
    assert row is not None
    return row[0], row[1]


def _caught_up(
    connection: Connection[Any], house: House, view: View[Any], stop: Signal, progress: Progress | None
) -> int:
    """Follow from where the slices ended until what is new fits into the switch."""
    tables = {view.name + NEXT: Table(view, NEXT)}
    events = 0
    while not stop.is_set():
        read = advance(connection, house.mapper, tables, BATCH, stop=stop)
        events += read
        if progress is not None and view.gathers:
            progress(*_progress(connection, view))
        if read < BATCH:
            break
    return events
