"""`python -m tests.benchmarks`: every figure the README quotes, as ratios against the named peer in the same run.

Runs on the embedded server with fsync on, in a directory of its own, or on DATABASE_URL (its owner, a database that may
be filled). Nothing here is asserted: machines differ and are shared.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from api.embedded import Embedded
from domain.store.casebook import House
from migrations.runner import migrate
from tests.benchmarks import answers, append, folds, live, overload, race

out = Console(highlight=False)


@contextmanager
def server() -> Generator[str]:
    """The owner's connection string of a migrated database, fsync on."""
    if given := os.environ.get("DATABASE_URL"):
        migrate(given)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="anjuan-bench-", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        with Embedded(Path(directory) / "server", settings={"max_wal_size": "4GB"}) as embedded:
            migrate(embedded.owner_conninfo)
            yield embedded.owner_conninfo


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    asked.add_argument(
        "what",
        nargs="*",
        default=["append", "folds", "graphql"],
        help="append, folds, graphql (the default), answers, live, overload",
    )
    asked.add_argument("--seconds", type=float, default=5.0, help="how long each contender is measured")
    asked.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000], help="sizes for folds, ascending")
    asked.add_argument("--stock-events", type=int, default=2_000, help="how many events the library's runner is given")
    asked.add_argument("--requests", type=int, default=60, help="how often each contender is asked in a round")
    given = asked.parse_args()
    with server() as owner:
        out.print(about(owner))
        if "append" in given.what:
            out.print(append_table(owner, given.seconds))
        if "folds" in given.what:
            out.print(folds_table(owner, given.events, given.stock_events))
        if "graphql" in given.what:
            for part in race_tables(owner, given.seconds):
                out.print(part)
        if "answers" in given.what:
            out.print(answers_table(owner, given.requests))
        if "live" in given.what:
            out.print(live_table(owner, given.seconds))
        if "overload" in given.what:
            table = headed("Overload: four times what can be done", "", "measured")
            for words, figure in overload.lines(overload.measure(owner, given.seconds)):
                table.add_row(words, figure)
            out.print(table)


def about(owner: str) -> str:
    """The machine, the server and what it promises to keep."""
    with psycopg.connect(owner) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),"
            " current_setting('shared_buffers')"
        ).fetchone()
    assert row is not None
    version, fsync, commit, buffers = row
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, PostgreSQL {version},"
        f" fsync {fsync}, synchronous_commit {commit}, shared_buffers {buffers}; the data is the same in every run"
    )


def live_table(owner: str, seconds: float) -> Table:
    """Subscribers of one list while 200 cases a second are received, or as many as this machine takes."""
    table = headed("Live: cases told to subscribers", "who", "filters", "cases/s", "median ms", "p99 ms", "messages/s",
                   "cores", "CPU ms a message", "MiB")  # fmt: skip
    for subscribers, filters in ((1, "one"), (100, "one"), (100, "windows"), (100, "departments"), (100, "halves")):
        told = live.measure(owner, subscribers, filters, 200, seconds)
        figures = (told.rate, told.median, told.p99, told.messages)
        table.add_row(str(subscribers), filters, *(f"{figure:,.0f}" for figure in figures),
                      f"{told.cpu:.2f}", f"{told.cpu / told.messages * 1000:.2f}", f"{told.megabytes:.0f}")  # fmt: skip
    return table


def append_table(owner: str, seconds: float) -> Table:
    """Appends, one event each."""
    table = headed("Append: events/s, one event a transaction", "writers", "institutions", "plain INSERT", "ours",
                   "stock recorder", "ours / plain", "ours / stock")  # fmt: skip
    for writers, institutions in ((1, 1), (8, 1), (8, 100), (16, 1), (16, 100)):
        r = append.measure(owner, seconds, writers, institutions)
        table.add_row(str(writers), str(institutions), f"{r.plain:,.0f}", f"{r.ours:,.0f}", f"{r.stock:,.0f}",
                      f"{r.ours / r.plain:.2f}", f"{r.ours / r.stock:.1f}")  # fmt: skip
    return table


def folds_table(owner: str, sizes: list[int], stock_events: int) -> Table:
    """Following and rebuilding one view; the library's runner once, as it comes and with relaxed commits."""
    table = headed("Fold: events/s of one view", "events", "follow", "rebuild", "rebuild by two", "one SQL statement",
                   "follow / library", "follow / relaxed library", "rebuild / SQL", "by two / SQL",
                   "memory MiB")  # fmt: skip
    library = folds.stock(owner, stock_events, relaxed=False)
    relaxed = folds.stock(owner, stock_events, relaxed=True)
    table.caption = f"library's runner, {stock_events:,} events: {library:,.0f}/s as it comes, {relaxed:,.0f}/s relaxed"
    with House(owner, bytes(32)) as house:
        stored = 0
        for size in sizes:
            folds.fill(house, stored, size - stored)
            stored = size
            f = folds.measure(house, owner, size)
            rates = (size, f.follow, f.rebuild, f.rebuild_helped, f.sql)
            against = (f"{f.follow / library:.0f}", f"{f.follow / relaxed:.0f}")
            folded = (f"{f.rebuild / f.sql:.2f}", f"{f.rebuild_helped / f.sql:.2f}", f"{f.memory_mib:.0f}")
            table.add_row(*(f"{rate:,.0f}" for rate in rates), *against, *folded)
    return table


def race_tables(owner: str, seconds: float) -> Iterator[Table | str]:
    """One question, asked of each contender in turn; 50 and 500 rows, one client and eight."""
    costs, notes = race.measure(owner, seconds)
    yield "; ".join(notes)
    for (size, clients), known in costs.items():
        hand, limit = known[race.BY_HAND], known[race.DATABASE]
        table = headed(f"GraphQL: {size} cases x 12 fields x 10 lines x 6 fields, {clients} at once, per answer", "way",
                       "server CPU ms", "database CPU ms", "CPU ms", "CPU / by hand", "CPU / database alone",
                       "latency ms", "latency / by hand", "KiB")  # fmt: skip
        for way, cost in known.items():
            latency = median(cost.latency)
            table.add_row(way, f"{median(cost.server):.2f}", f"{median(cost.database):.2f}", f"{cost.cpu:.2f}",
                          f"{cost.cpu / hand.cpu:.2f}", f"{cost.cpu / limit.cpu:.2f}", f"{latency:.2f}",
                          f"{latency / median(hand.latency):.2f}", f"{cost.size / 1024:.0f}")  # fmt: skip
        yield table


def answers_table(owner: str, requests: int) -> Table:
    """A kept answer beside one that is made."""
    table = headed("Kept answers, per request", "answer", "way", "server CPU ms", "database CPU ms", "CPU ms",
                   "CPU / made, plain", "latency ms", "bytes")  # fmt: skip
    costs = answers.measure(owner, requests)
    for (size, way), cost in costs.items():
        table.add_row(size, way, f"{median(cost.server):.2f}", f"{median(cost.database):.2f}", f"{cost.cpu:.2f}",
                      f"{cost.cpu / costs[size, 'made, plain'].cpu:.2f}", f"{median(cost.latency):.2f}",
                      f"{cost.size:,}")  # fmt: skip
    return table


def headed(title: str, *headings: str) -> Table:
    """A table of figures."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


if __name__ == "__main__":
    main()
