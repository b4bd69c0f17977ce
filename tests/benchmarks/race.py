"""What a question costs, side by side in one run on the same tables: this edge, what others would write, the database.

50 or 500 cases of 12 fields, filtered and ordered, each with 10 lines of history of 6 fields; one client at a time or
eight. A page has 100 rows at most; for the 500 that limit is raised in every server's process. Each contender is a
process with one worker, the client is another; they take turns. Measured is the CPU of the server and of its PostgreSQL
backends, from `/proc`, per answer, and the time an answer takes: medians of the rounds. Before anything is measured the
answers are compared: the same cases in the same order with the same lines.

The edge is measured as it ships – row-level security, whoever is shown personal data in the log of reads before the
answer leaves – and with a question that shows none while row-level security is off: `lean`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, NamedTuple

import httpx
import psycopg
import uvicorn
from psycopg.sql import SQL, Identifier

from api.app import create_app
from api.demo.group import HOSPITALS
from api.logs import configure
from api.settings import Settings
from domain.kernel import Role
from domain.store.casebook import House
from projections import page
from tests.benchmarks import newcomer, pgbench, postgraphile
from tests.benchmarks.graphql import CHANNELS, LINES, QUESTION, Cost, _backends, _cpu, by_hand, filled
from tests.benchmarks.load import Clients

INSTITUTION = HOSPITALS[0].code
SIZES, CONNECTIONS = (50, 500), (1, 8)
ROUNDS = 3
OURS, NEWCOMER, BY_HAND, POSTGRAPHILE = "this edge", "Strawberry as it comes", "by hand, FastAPI", "PostGraphile 5"
LEAN, DATABASE = "this edge, lean", "pgbench, the plan's SQL" if pgbench.PGBENCH else "libpq loop, the plan's SQL"
WITHOUT_PERSONAL = QUESTION.replace(" complainant ", " source ")
NEWCOMERS = (
    re.sub(r"\[TELEPHONE.*?\]", "$channels", QUESTION, flags=re.DOTALL)
    .replace("orderBy: RECEIVED, descending: true, ", "")
    .replace("Int!) {", "Int!, $channels: [String!]!) {")
)
TABLES = ("complaint_case", "history", "api_token", "event", "institution_position", "tracking")


class Contender(NamedTuple):
    """A server that listens, and the body it is asked with for so many rows."""

    process: int
    port: int
    token: str
    question: str
    more: dict[str, Any]

    def request(self, cases: int) -> bytes:
        """One HTTP request."""
        variables = {"first": cases, "lines": LINES, **self.more}
        body = json.dumps({"query": self.question, "variables": variables}).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Accept-Encoding: identity\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def measure(owner: str, seconds: float) -> tuple[dict[tuple[int, int], dict[str, Cost]], list[str]]:
    """The cost of each contender by rows and connections, and what is to be said of the run."""
    token = filled(owner)
    _enough(owner, max(SIZES))
    costs = {(size, clients): dict[str, Cost]() for size in SIZES for clients in CONNECTIONS}
    notes = [f"row-level security is on for {_secured(owner)} tables"]
    with ExitStack() as stack:
        ready = {OURS: stack.enter_context(_started(owner, OURS, token, QUESTION))}
        ready[BY_HAND] = stack.enter_context(_started(owner, BY_HAND, token, QUESTION))
        ready[NEWCOMER] = stack.enter_context(_started(owner, NEWCOMER, token, NEWCOMERS, channels=CHANNELS))
        try:
            home = stack.enter_context(postgraphile.installed())
            ready[POSTGRAPHILE] = stack.enter_context(_postgraphile(owner, home))
            notes.append(f"PostGraphile {postgraphile.version(home)}")
        except postgraphile.Missing as missing:
            notes.append(f"no PostGraphile: {missing}")
        _same(ready)
        _in_turns(owner, ready, costs, seconds)
        _limit(owner, costs, seconds)
    with _unsecured(owner), _started(owner, LEAN, token, WITHOUT_PERSONAL) as lean:
        _in_turns(owner, {LEAN: lean}, costs, seconds)
    return costs, notes


def _in_turns(
    owner: str, ready: dict[str, Contender], costs: dict[tuple[int, int], dict[str, Cost]], seconds: float
) -> None:
    for (size, clients), known in costs.items():
        for name, one in ready.items():
            known[name] = Cost(size=asyncio.run(_asked(one, size, clients, 0.5))[2])
        for _ in range(ROUNDS):
            for name, one in ready.items():
                backends = _backends(owner)
                before = _cpu(one.process), sum(map(_cpu, backends))
                count, latency, _ = asyncio.run(_asked(one, size, clients, seconds))
                known[name].server.append((_cpu(one.process) - before[0]) / count)
                known[name].database.append((sum(map(_cpu, backends)) - before[1]) / count)
                known[name].latency.append(latency)


def _limit(owner: str, costs: dict[tuple[int, int], dict[str, Cost]], seconds: float) -> None:
    for (size, clients), known in costs.items():
        variables = {"first": size, "lines": LINES}
        with _larger_pages():
            statement = pgbench.planned(QUESTION, variables, INSTITUTION, Role.CS_DIRECTOR)
        known[DATABASE] = Cost()
        for _ in range(ROUNDS):
            count, client, server = pgbench.run(owner, INSTITUTION, statement, clients, seconds)
            known[DATABASE].server.append(client)
            known[DATABASE].database.append(server)
            known[DATABASE].latency.append(max(1, round(seconds)) * 1000 * clients / count)


async def _asked(one: Contender, size: int, clients: int, seconds: float) -> tuple[int, float, int]:
    """Ask for so long: how many answers, the median of how long one took, and how long one is."""
    server, request, taken = Clients(("127.0.0.1", one.port)), one.request(size), list[float]()
    length = 0

    async def client() -> None:
        nonlocal length
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            status, body = await server.ask(request)
            taken.append((time.perf_counter() - began) * 1000)
            assert status == 200, body[:500]
            length = len(body)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(taken), median(taken), length


def _same(ready: dict[str, Contender]) -> None:
    """All answer the same."""
    for size in SIZES:
        said = {name: _essence(asyncio.run(_body(one, size))) for name, one in ready.items()}
        for name, essence in said.items():
            assert len(essence) == size, f"{name} answers {len(essence)} of {size} rows"
            other = [pair for pair in zip(essence, said[OURS], strict=True) if pair[0] != pair[1]]
            assert not other, f"{name} answers otherwise for {size} rows: {other[0]}"


async def _body(one: Contender, size: int) -> bytes:
    status, body = await Clients(("127.0.0.1", one.port)).ask(one.request(size))
    assert status == 200, body[:500]
    assert b'"errors"' not in body, body[:500]
    return body


def _essence(body: bytes) -> list[Any]:
    """What is the same however instants, numbers and closed sets are written."""
    (pages,) = json.loads(body)["data"].values()
    return [
        (
            case["complaintId"], case["number"], case["stage"].lower(), case["complainant"], case["departments"],
            case["owner"], str(case["clocksLate"]), case["nextDueAt"] and case["nextDueAt"][:19],
            [(str(line["version"]), line["topic"], line["actor"], line["occurredAt"][:19], str(line["position"]))
             for line in (edge["node"] for edge in case["history"]["edges"])],
        )
        for case in (edge["node"] for edge in pages["edges"])
    ]  # fmt: skip


def serve(owner: str, way: str, port: int) -> None:
    """One contender, until it is ended."""
    with _larger_pages():
        more: dict[str, Any] = {"_env_file": None, "answers_bytes": 0, "cost_per_minute": 10**12, "cost_max": 10**9}
        settings = Settings(**more)
        configure(settings.environment)  # a line of log for each request, as it is served; nobody reads it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with House(owner, bytes(32)) as house:
            if way == NEWCOMER:
                app = newcomer.app(pgbench.within(owner, INSTITUTION), INSTITUTION)
            else:
                app = by_hand(house, settings) if way == BY_HAND else create_app(settings, house)
            uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


@contextmanager
def _larger_pages() -> Generator[None]:
    most, page.PAGE_MAX = page.PAGE_MAX, max(SIZES)
    try:
        yield
    finally:
        page.PAGE_MAX = most


@contextmanager
def _started(owner: str, way: str, token: str, question: str, **more: Any) -> Generator[Contender]:
    port = _free()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(owner, way, port))
    process.start()
    try:
        assert process.pid is not None
        _wait(port)
        yield Contender(process.pid, port, token, question, more)
    finally:
        process.terminate()
        process.join()


@contextmanager
def _postgraphile(owner: str, home: Any) -> Generator[Contender]:
    postgraphile.prepare(owner)
    port = _free()
    process = postgraphile.start(home, owner, INSTITUTION, port)
    try:
        _wait(port)
        yield Contender(process.pid, port, "", postgraphile.QUESTION, {"institution": INSTITUTION})
    finally:
        process.terminate()
        process.wait()


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5)
            return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _enough(owner: str, cases: int) -> None:
    """Copies of the demonstration's cases with their histories until there are enough, in the channels asked for."""
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("SELECT set_config('anjuan.institution', %s, false)", (INSTITUTION,))
        connection.execute("UPDATE complaint_case SET channel = 'telephone' WHERE channel <> ALL(%s)", (CHANNELS,))
        for table, column in (("complaint_case", "complaint_id"), ("history", "stream_id")):
            found = connection.execute(
                "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> %s",
                (table, column),
            ).fetchone()
            assert found is not None
            of_cases = "" if table == "complaint_case" else "WHERE aggregate = 'complaint'"
            connection.execute(
                f"INSERT INTO {table} ({column}, {found[0]}) SELECT md5({column}::text || copy)::uuid, {found[0]}"  # pyright: ignore[reportArgumentType]  names of ours
                f" FROM {table}, generate_series(1, %s) AS copy {of_cases}",
                (cases // 100 + 1,),
            )
        connection.execute("VACUUM ANALYZE complaint_case, history")


def _secured(owner: str) -> int:
    with psycopg.connect(owner) as connection:
        row = connection.execute("SELECT count(*) FROM pg_class WHERE relrowsecurity").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _unsecured(owner: str) -> Generator[None]:
    """Row-level security is off for what a question reads."""
    with psycopg.connect(owner, autocommit=True) as connection:
        secured = [
            table
            for (table,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relrowsecurity AND relname = ANY(%s)", (list(TABLES),)
            )
        ]
        with contextlib.ExitStack() as stack:
            for table in secured:
                name = Identifier(table)
                connection.execute(SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(name))
                stack.callback(connection.execute, SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
            yield
