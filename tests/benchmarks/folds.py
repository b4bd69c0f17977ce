"""How fast views follow and are rebuilt: ours beside the library's ProjectionRunner and one SQL statement.

All three read the same events (the library's runner from its own table, with the same bodies) and make the same rows:
one line per stream with its sum, its count and its last note.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg import sql

from domain.kernel import Event, Stamp
from domain.store.casebook import House
from projections.rebuild import rebuild
from projections.runner import catch_up
from projections.schema import ddl
from projections.view import Row, View
from tests.benchmarks.append import parts

INSTITUTIONS = 4
STREAM_EVENTS = 10
COMMANDS_AT_ONCE = 5_000
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Noted(Event, topic="bench.noted"):
    """Something was noted on a stream."""

    amount: int
    note: str
    unit: str
    happened_at: datetime


@dataclass(kw_only=True)
class SumRow(Row):
    """One stream: its sum, its count and its last note."""

    stream_id: UUID
    total: int
    count: int
    note: str
    begun_at: datetime
    last_at: datetime


def show(row: SumRow | None, event: Noted) -> SumRow:
    """Add the event to its stream's line."""
    if row is None:
        return SumRow(
            stream_id=event.originator_id,
            total=event.amount,
            count=1,
            note=event.note,
            begun_at=event.happened_at,
            last_at=event.happened_at,
        )
    return replace(row, total=row.total + event.amount, count=row.count + 1, note=event.note, last_at=event.happened_at)


SUMS = View("bench_sum", SumRow, (Noted,), show, ("stream_id",), listed=False)

SQL_FOLD = """
CREATE TABLE anjuan.bench_sql AS
SELECT institution, originator_id AS stream_id, max(position) AS position, max(originator_version) AS version,
       max(recorded_at) AS recorded_at, sum((body ->> 'amount')::bigint) AS total, count(*) AS count,
       (array_agg(body ->> 'note' ORDER BY originator_version DESC))[1] AS note,
       min((body ->> 'happened_at')::timestamptz) AS begun_at, max((body ->> 'happened_at')::timestamptz) AS last_at
FROM (SELECT *, convert_from(state, 'UTF8')::json AS body FROM anjuan.event WHERE topic = 'bench.noted') AS e
GROUP BY institution, originator_id
"""


def events(first: int, count: int) -> Iterator[tuple[str, Noted]]:
    """`count` events from the `first` on, of streams that run side by side."""
    for n in range(first, first + count):
        stream, version = n // STREAM_EVENTS // 500 * 500 + n % 500, n // 500 % STREAM_EVENTS + 1
        stamp = Stamp(by=UUID(int=1), at=BEGUN + timedelta(seconds=n), command_id=UUID(int=n + 1))
        yield (
            f"F{'ABCD'[stream % INSTITUTIONS]}",
            Noted(
                originator_id=UUID(int=(stream * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128)),
                originator_version=version,
                stamp=stamp,
                amount=n % 1000,
                note=f"第 {n} 条记录:已与患者联系,等待回复",
                unit=("急诊", "外科", "口腔科")[n % 3],
                happened_at=stamp.at,
            ),
        )


def fill(house: House, first: int, count: int) -> None:
    """Store the events, by COPY."""
    for start in range(first, first + count, COMMANDS_AT_ONCE):
        batches: dict[str, list[list[Event]]] = {}
        for code, event in events(start, min(COMMANDS_AT_ONCE, first + count - start)):
            batches.setdefault(code, []).append([event])
        for code, commands in batches.items():
            house.casebook(code).append_many(commands)


@dataclass(frozen=True)
class Folds:
    """Events a second."""

    events: int
    follow: float
    rebuild: float
    rebuild_helped: float
    sql: float
    memory_mib: float


def measure(house: House, owner: str, count: int) -> Folds:
    """Ours and the SQL statement, over `count` events that are stored already."""
    with psycopg.connect(owner, autocommit=True, options="-c search_path=anjuan") as connection:
        connection.execute("DROP TABLE IF EXISTS bench_sum, bench_sql")
        connection.execute("DELETE FROM tracking WHERE view = 'bench_sum'")
        connection.execute(ddl(SUMS).encode())
        connection.execute("VACUUM (ANALYZE) event")
    follow = count / timed(lambda: catch_up(house, [SUMS]))
    alone = count / timed(lambda: rebuild(house, SUMS, owner=owner, fresh=True))
    helped = count / timed(lambda: rebuild(house, SUMS, owner=owner, fresh=True, hands=1, master_key=bytes(32)))
    with psycopg.connect(owner, autocommit=True) as connection:
        sql = count / timed(lambda: connection.execute(SQL_FOLD.encode()))
        same = connection.execute(
            "SELECT count(*) FROM (SELECT institution, stream_id, total, count, note, last_at FROM anjuan.bench_sum"
            " EXCEPT SELECT institution, stream_id, total, count, note, last_at FROM anjuan.bench_sql) AS d"
        ).fetchone()
        assert same == (0,), "the contenders disagree"
    return Folds(count, follow, alone, helped, sql, resident_mib())


class LibraryFold(Projection[PostgresTrackingRecorder]):
    """The same fold by the library's projection runner: a row is read, changed and written for each event."""

    topics = ("tests.benchmarks.folds:LibraryNoted",)

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        # the library declares a singledispatchmethod and takes a plain method too
        recorder = self.view
        with recorder.datastore.transaction(commit=True) as cursor:
            recorder._insert_tracking(cursor, tracking)
            cursor.execute(
                "INSERT INTO bench.sums VALUES (%s, %s, 1, %s, %s, %s) ON CONFLICT (stream_id) DO UPDATE SET"
                " total = sums.total + excluded.total, count = sums.count + 1, note = excluded.note,"
                " last_at = excluded.last_at",
                (domain_event.originator_id, domain_event.amount, domain_event.note, domain_event.happened_at,
                 domain_event.happened_at),
            )  # fmt: skip


def stock(conninfo: str, count: int, *, relaxed: bool) -> float:
    """Events a second of the library's ProjectionRunner over `count` events that are stored in its own table already.

    Our views commit without waiting for the disk, since their rows and tracking are lost together and are in the log
    anyway; `relaxed` lets the library's runner do the same, so that both are measured as they come and alike.
    """
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        owner.execute("CREATE SCHEMA bench")
        owner.execute(
            "CREATE TABLE bench.sums (stream_id uuid PRIMARY KEY, total bigint, count bigint, note text,"
            " begun_at timestamptz, last_at timestamptz)"
        )
    env = {"PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_SCHEMA": "bench"}
    env |= {f"POSTGRES_{name.upper()}": value for name, value in parts(conninfo).items()}
    with Application[UUID](env) as app:
        stored = [library_event(event) for _, event in events(0, count)]
        for start in range(0, count, 500):
            app.events.put(stored[start : start + 500])
        last = app.recorder.max_notification_id()
    with psycopg.connect(conninfo, autocommit=True) as owner:
        name = sql.Identifier(owner.info.dbname)
        if relaxed:
            owner.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        try:
            began = time.perf_counter()
            with ProjectionRunner(
                application_class=Application[UUID],
                projection_class=LibraryFold,
                view_class=PostgresTrackingRecorder,
                env=env,
            ) as runner:
                runner.wait(last, timeout=600)
                return count / (time.perf_counter() - began)
        finally:
            owner.execute(sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(name))


def library_event(event: Noted) -> Any:
    """The event as the library stores it: by its import path, body as the library's JSON."""
    return LibraryNoted(
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        amount=event.amount,
        note=event.note,
        unit=event.unit,
        happened_at=event.happened_at,
    )


@dataclass(frozen=True)
class LibraryNoted:
    """The same fact without our envelope."""

    originator_id: UUID
    originator_version: int
    amount: int
    note: str
    unit: str
    happened_at: datetime


def timed(work: Any) -> float:
    """Seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def resident_mib() -> float:
    """Memory this process holds now, in MiB."""
    with open("/proc/self/status", encoding="ascii") as status:
        kib = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    return int(kib) / 1024
