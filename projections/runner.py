"""Following the log: batches of events folded in memory, written with the tracking in one transaction.

A step takes one institution: it claims the tracking rows of the views that wait there, reads and decodes once what they
all have not seen, folds it into each view, writes the rows that moved and moves the tracking. Whatever dies between two
statements leaves either all of that or nothing. Several runners, in one process or many, share the institutions.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from threading import Event as Signal
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import Connection
from psycopg_pool import PoolTimeout

from domain.store.casebook import House
from domain.store.mapper import Mapper
from domain.store.recorder import Recorded
from projections import log
from projections.fold import Failure, Folding, Said, collector_paused, key_mark, opened, stream_mark
from projections.table import Table
from projections.tracking import BEGIN, CLAIM, MOVE, WAITING, Heartbeat
from projections.view import Key, View

BATCH = 10_000
"""Most events read in one step."""
IDLE_SECONDS = 0.25
"""How often the counters are looked at when nothing happens; less while things do."""

_logger = logging.getLogger("anjuan.runner")

Tables = dict[str, Table[Any]]
"""The tables to fill by their names in tracking."""


class Fenced(Exception):
    """Tracking moved although this runner held it: two runners would have applied the same events."""


class Unstorable(Exception):
    """PostgreSQL refused rows of this table; the batch must be made smaller to find the event they come from."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


def follow(
    house: House,
    views: Iterable[View[Any]],
    *,
    stop: Signal,
    wake: Signal | None = None,
    batch: int = BATCH,
    idle: float = IDLE_SECONDS,
) -> None:
    """Keep the views up to date until `stop` is set. Set `wake` after an append to be read at once.

    Blocks: give it a thread or a process of its own. It keeps one connection and, when the database goes away, comes
    back with it. Without news it asks one query every `idle` seconds.
    """
    tables: Tables = {view.name: Table(view) for view in views}
    heartbeat = Heartbeat(uuid4(), list(tables))
    wake = wake or Signal()
    pause = 0.005
    while not stop.is_set():
        try:
            with house.everywhere.connection() as connection:
                _relaxed(connection)
                try:
                    while not stop.is_set():
                        heartbeat.beat(connection)
                        if advance(connection, house.mapper, tables, batch, heartbeat=heartbeat, stop=stop):
                            pause = 0.005
                            continue
                        if wake.wait(pause):
                            wake.clear()
                        pause = min(pause * 2, idle)
                    heartbeat.end(connection)
                finally:
                    _strict(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as problem:
            _logger.warning("the database is away (%s); the runner waits for it", type(problem).__name__)
            stop.wait(1.0)


def catch_up(house: House, views: Iterable[View[Any]], institution: str | None = None, *, batch: int = BATCH) -> int:
    """Bring the views to the heads that there are now, of one institution or of all; how many events were read.

    Institutions that another runner holds are left to it.
    """
    tables: Tables = {view.name: Table(view) for view in views}
    read = 0
    with house.everywhere.connection() as connection:
        _relaxed(connection)
        try:
            while got := advance(connection, house.mapper, tables, batch, institution=institution):
                read += got
        finally:
            _strict(connection)
    return read


def _relaxed(connection: Connection[Any]) -> None:
    # rows and tracking are lost together or not at all, and are in the log anyway: no need to wait for the disk
    connection.execute("SET synchronous_commit = off")


def _strict(connection: Connection[Any]) -> None:
    if not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        connection.execute("RESET synchronous_commit")


def advance(
    connection: Connection[Any],
    mapper: Mapper,
    tables: Tables,
    batch: int = BATCH,
    *,
    institution: str | None = None,
    heartbeat: Heartbeat | None = None,
    stop: Signal | None = None,
) -> int:
    """One round over the institutions that wait, a step each; how many events were read. 0: nothing left to claim."""
    waiting = connection.execute(WAITING, {"views": list(tables), "count": len(tables)}, prepare=True).fetchall()
    if institution is not None:
        waiting = [w for w in waiting if w[0] == institution]
    random.shuffle(waiting)  # so that several runners start at different ones; no result depends on it
    read = 0
    for name, unknown in waiting:
        if stop is not None and stop.is_set():
            break
        if unknown:
            connection.execute(BEGIN, (name, list(tables)))
        if heartbeat is not None:
            heartbeat.beat(connection)
        read += step(connection, mapper, tables, name, batch)
    return read


def step(connection: Connection[Any], mapper: Mapper, tables: Tables, institution: str, batch: int = BATCH) -> int:
    """Read at most `batch` events into the views of one institution that are furthest behind; how many were read."""
    careful = False
    while True:
        try:
            return _step(connection, mapper, tables, institution, batch, careful)
        except Unstorable as refused:
            # halve until the event is alone that makes the row; then it is parked
            tables = {refused.table: tables[refused.table]}
            careful, batch = batch == 1, max(1, batch // 2)


def _step(
    connection: Connection[Any], mapper: Mapper, tables: Tables, institution: str, batch: int, careful: bool
) -> int:
    with collector_paused(), connection.transaction():
        claimed = connection.execute(CLAIM, (institution, list(tables)), prepare=True).fetchall()
        if not claimed:
            return 0
        position = min(c[1] for c in claimed)
        upto = min(claimed[0][2], position + batch)
        behind = [(tables[name], parked) for name, at, _, parked in claimed if at == position]
        topics = {table.name: table.view.topics for table, _ in behind}
        read = log.by_position(connection, institution, position, upto, frozenset[str]().union(*topics.values()))
        everything = opened(mapper, read)
        for table, any_parked in behind:
            listened = topics[table.name]
            said = everything if len(behind) == 1 else [s for s in everything if s[0].topic in listened]
            if said:
                parked = parked_marks(connection, table, institution) if any_parked else set[str]()
                failed = fold_into(connection, table, institution, said, parked, careful=careful)
                if failed:
                    park(connection, institution, table.name, failed)
            moved = connection.execute(MOVE, (upto, institution, table.name, position), prepare=True)
            if moved.rowcount != 1:
                raise Fenced(f"{table.name} of {institution} is no longer at {position}")
    return upto - position


def parked_marks(connection: Connection[Any], table: Table[Any], institution: str) -> set[str]:
    """The keys and streams of a view that wait in one institution."""
    found = connection.execute("SELECT key FROM parked WHERE institution = %s AND view = %s", (institution, table.name))
    return {row[0] for row in found}


def fold_into(
    connection: Connection[Any],
    table: Table[Any],
    institution: str,
    said: Sequence[Said],
    parked: set[str],
    *,
    careful: bool = False,
) -> dict[str, Failure]:
    """Fold events of one institution into a view's table, in the caller's transaction; the marks that failed, and why.

    Raises Unstorable when PostgreSQL refuses the rows; if `careful`, there is one event and that fails instead.
    """
    folding = Folding(table.view, institution)
    folding.parked |= parked
    facts = folding.split(said)
    folding.rows = table.load(connection, institution, _to_load(table.view, facts))
    existing = list(folding.rows)
    folding.fold(facts)
    try:
        with connection.transaction() if careful else nullcontext():
            _write(connection, table, folding, said[0][0].position - 1, existing)
    except (psycopg.DataError, psycopg.IntegrityError) as problem:
        if not careful:
            raise Unstorable(table.name) from problem
        _park_unstorable(folding, said[0][0], facts, problem)
        if table.view.gathers:
            table.copy_sources(connection, institution, folding.made)
    return folding.failed


def _to_load(view: View[Any], facts: Iterable[tuple[Recorded, list[tuple[Key, Any]]]]) -> list[Key]:
    """The keys whose rows may be in the table: not those of streams that begin in this batch."""
    begun: set[Any] = set()
    keys: set[Key] = set()
    for recorded, parts in facts:
        if not view.gathers:
            stream = recorded.originator_id
            if recorded.originator_version == 1:
                begun.add(stream)
                continue
            if stream in begun:
                continue
        for key, _ in parts:
            keys.add(key)
    return list(keys)


def _write(
    connection: Connection[Any], table: Table[Any], folding: Folding[Any], before: int, existing: list[Key]
) -> None:
    """Replace the rows that moved: those there were go, those there are now come in one COPY."""
    gone = [key for key in existing if (row := folding.rows[key]) is None or row.position > before]
    table.delete(connection, folding.institution, gone)
    rows = [row for row in folding.rows.values() if row is not None and row.position > before]
    if rows:
        table.copy(connection, rows)
    if folding.made:
        table.copy_sources(connection, folding.institution, folding.made)


def _park_unstorable(
    folding: Folding[Any], recorded: Recorded, facts: list[tuple[Recorded, list[tuple[Key, Any]]]], problem: Exception
) -> None:
    failure = Failure(recorded.position, recorded.topic, f"{type(problem).__name__} when the row was stored")
    marks = [key_mark(key) for _, parts in facts for key, _ in parts] if folding.view.gathers else []
    for mark in marks or [stream_mark(recorded.originator_id)]:
        folding.failed[mark] = failure


def park(connection: Connection[Any], institution: str, table: str, failed: dict[str, Failure]) -> None:
    """Remember keys whose events wait from now on."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO parked (institution, view, key, position, topic, error) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (institution, view, key) DO UPDATE SET tries = parked.tries + 1, error = excluded.error,"
            " position = excluded.position, topic = excluded.topic, parked_at = excluded.parked_at",
            [(institution, table, mark, f.position, f.topic, f.error) for mark, f in failed.items()],
        )
    for failure in failed.values():
        _logger.error("%s of %s: parked at %d, %s", table, institution, failure.position, failure.error)
