"""How fast events are stored: our recorder beside plain INSERT over the same driver and the library's stock recorder.

Every contender stores the same rows, one event a transaction, from the same number of writer processes, in one run and
in turns. Plain INSERT writes the same columns and the same three unique indexes, without order, gaplessness or
idempotence: it is the most the driver and the server could do.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from domain.store.casebook import application_conninfo
from domain.store.recorder import Envelope, EventRecorder

STATE = b'{"amount":"1200.50","content":"' + b"x" * 360 + b'","remedies":["refund"],"settlement":"refund"}'
PLAIN_TABLE = """
DROP TABLE IF EXISTS anjuan.bench_plain;
CREATE TABLE anjuan.bench_plain (LIKE anjuan.event INCLUDING ALL);
GRANT INSERT ON anjuan.bench_plain TO anjuan_app;
"""
ROUNDS = 3
Writer = Callable[[str, Barrier, float, int, int], int]


def plain(conninfo: str, start: Barrier, seconds: float, writer: int, institutions: int) -> int:
    """Rows stored by plain INSERT."""
    with psycopg.connect(application_conninfo(conninfo), autocommit=True) as connection:

        def store(n: int) -> None:
            e = envelope()
            connection.execute(
                "INSERT INTO bench_plain (institution, position, originator_id, originator_version, event_id,"
                " command_id, actor, occurred_at, recorded_at, topic, state)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp(), %s, %s)",
                (code(n, institutions), time.time_ns() // 100 * 32 + writer, e.originator_id, 1, e.event_id,
                 e.command_id, e.actor, e.occurred_at, e.topic, e.state),
                prepare=True,
                binary=True,
            )  # fmt: skip

        return timed(store, start, seconds, writer)


def ours(conninfo: str, start: Barrier, seconds: float, writer: int, institutions: int) -> int:
    """Events stored by our recorder."""
    pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        application_conninfo(conninfo), kwargs={"autocommit": True}, min_size=1, max_size=1, open=False
    )
    with pool:
        recorders = [EventRecorder(pool, code(n, institutions)) for n in range(institutions)]
        return timed(lambda n: recorders[n % institutions].record([envelope()]), start, seconds, writer)


def stock(conninfo: str, start: Barrier, seconds: float, writer: int, institutions: int) -> int:
    """Events stored by the library's PostgreSQL recorder (it knows no institutions)."""
    datastore = stock_datastore(conninfo)
    recorder = PostgresApplicationRecorder(datastore, events_table_name="bench_stock")
    try:
        return timed(
            lambda _: recorder.insert_events([StoredEvent(uuid4(), 1, "bench.event", STATE)]), start, seconds, writer
        )
    finally:
        datastore.close()


def stock_datastore(conninfo: str) -> PostgresDatastore:
    """The library's connection to the same server."""
    p = parts(conninfo)
    return PostgresDatastore(p["dbname"], p["host"], p["port"], p["user"], p["password"], pool_size=1, schema="bench")


def parts(conninfo: str) -> dict[str, str]:
    """What the library wants to be told one by one."""
    given = conninfo_to_dict(conninfo)
    password = given.get("password")
    if password is None and "passfile" in given:
        lines = Path(str(given["passfile"])).read_text("utf-8").splitlines()
        password = next(line.split(":")[4] for line in lines if line.split(":")[3] == given["user"])
    names = {"dbname": "dbname", "host": "host", "port": "port", "user": "user"}
    return {name: str(given.get(key, "5432")) for name, key in names.items()} | {"password": str(password or "none")}


def envelope() -> Envelope:
    """One new event of typical size."""
    return Envelope(
        originator_id=uuid4(),
        originator_version=1,
        topic="bench.event",
        state=STATE,
        event_id=uuid4(),
        command_id=uuid4(),
        actor=UUID(int=1),
        occurred_at=datetime.now(UTC),
    )


def code(n: int, institutions: int) -> str:
    """The institution of a writer's n-th event; writers start at different ones and walk through all."""
    return f"B{n % institutions:03d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ"))


def timed(store: Callable[[int], object], start: Barrier, seconds: float, writer: int) -> int:
    """How many events this writer stores in the time given, after a short warm-up."""
    numbers = itertools.count(writer * 7)
    for _ in range(20):
        store(next(numbers))
    start.wait()
    end = time.perf_counter() + seconds
    stored = 0
    while time.perf_counter() < end:
        store(next(numbers))
        stored += 1
    return stored


@dataclass(frozen=True)
class Rates:
    """Events a second of the three contenders for one number of writers and institutions."""

    writers: int
    institutions: int
    plain: float
    ours: float
    stock: float


def measure(conninfo: str, seconds: float, writers: int, institutions: int) -> Rates:
    """One line of the table; `conninfo` is the owner's."""
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(PLAIN_TABLE.encode())
        owner.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        owner.execute("CREATE SCHEMA bench")
    datastore = stock_datastore(conninfo)
    PostgresApplicationRecorder(datastore, events_table_name="bench_stock").create_table()
    datastore.close()
    rates: dict[str, list[float]] = {"plain": [], "ours": [], "stock": []}
    contenders = [plain, ours, stock]
    for turn in range(ROUNDS):  # in turns, each first once: a machine's moods meet all of them
        for writer in contenders[turn % 3 :] + contenders[: turn % 3]:
            rates[writer.__name__].append(run(writer, conninfo, seconds / ROUNDS, writers, institutions))
    return Rates(writers, institutions, **{name: median(measured) for name, measured in rates.items()})


def run(writer: Writer, conninfo: str, seconds: float, writers: int, institutions: int) -> float:
    """Events a second of one contender."""
    spawning = multiprocessing.get_context("fork")
    start, counts = spawning.Barrier(writers), spawning.SimpleQueue()

    def work(number: int) -> None:
        counts.put(writer(conninfo, start, seconds, number, institutions))

    processes = [spawning.Process(target=work, args=(number,)) for number in range(writers)]
    for process in processes:
        process.start()
    total = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return total / seconds
