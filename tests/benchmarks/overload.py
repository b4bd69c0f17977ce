"""What becomes of the edge when four times as much is asked of it as it can do, and afterwards.

First what it can do is found: what 16 clients get that wait for their answers, lowered until it is sent at that rate
without one refusal. Then four times that is sent, whether it is answered or not. One request in twenty is a command.
The server is a process of its own, as `anjuan up` serves; the clients are this process, on the same cores.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import uuid4

import psycopg

from api.access.token import issue_token
from api.demo import demo
from api.demo.group import HOSPITALS
from domain.kernel import Role
from domain.store.casebook import House
from projections.runner import catch_up
from projections.views import VIEWS
from tests.api.served import Served, served
from tests.benchmarks.load import Clients, Heard, at_rate, in_turn, percentile, resident_mib
from tests.conftest import MASTER_KEY, Database

TIMES = 4
COMMAND_EVERY = 20
QUESTION = """
query List($first: Int!) {
  complaints(first: $first, orderBy: RECEIVED, descending: true) {
    edges { node { complaintId number stage channel receivedAt owner nextDueAt
        history(first: 3) { edges { node { version topic occurredAt } } } } }
  }
}
"""
COMMAND = """
mutation Receive($id: UUID!, $at: DateTime!) {
  complaintReceive(commandId: $id, receivedAt: $at, channel: TELEPHONE, complainant: "王女士", statement: "等候过久") {
    __typename
  }
}
"""


@dataclass
class Run:
    """What was measured. Rates are per second, times in milliseconds unless they say seconds, memory in MiB."""

    sustainable: float
    alone: float
    overload: Heard
    seconds: float
    memory: list[float] = field(default_factory=list[float])
    health: list[float] = field(default_factory=list[float])
    recovered_seconds: float = 0.0
    after: Heard = field(default_factory=Heard)
    memory_after: float = 0.0


class Asker:
    """Makes the requests of one person."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._question = self._http({"query": QUESTION, "variables": {"first": 20}})

    def request(self, number: int) -> bytes:
        """A question, or every so often a command that nobody has sent yet."""
        if number % COMMAND_EVERY:
            return self._question
        at = datetime.now(UTC) - timedelta(hours=1)
        return self._http({"query": COMMAND, "variables": {"id": str(uuid4()), "at": at.isoformat()}})

    def question(self, _: int) -> bytes:
        """The question."""
        return self._question

    def _http(self, said: dict[str, object]) -> bytes:
        body = json.dumps(said).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: anjuan\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def measure(owner: str, seconds: float, warm_seconds: float = 5.0) -> Run:
    """The whole run on a database that may be filled."""
    asker = Asker(_filled(owner))
    database = Database("", owner, owner)
    with served(database, cost_per_minute=10**12, quiet=True) as one:
        return asyncio.run(_measured(one, asker, seconds, warm_seconds))


async def _measured(one: Served, asker: Asker, seconds: float, warm_seconds: float) -> Run:
    await in_turn(one.host, 16, warm_seconds, asker.request)
    alone = median((await in_turn(one.host, 1, warm_seconds / 2, asker.question)).milliseconds(200))
    rate = await _sustainable(one, asker, warm_seconds)
    memory: list[float] = []
    health: list[float] = []
    probes = set[asyncio.Task[None]]()

    async def probe() -> None:
        began = time.perf_counter()
        clients = Clients(one.host)
        with suppress(OSError, asyncio.IncompleteReadError):  # counted as unanswered
            status, _ = await clients.ask(b"GET /livez HTTP/1.1\r\nHost: anjuan\r\n\r\n")
            assert status == 200
            health.append((time.perf_counter() - began) * 1000)
        clients.close()

    def each_second(_: int) -> None:
        memory.append(resident_mib(one.process.pid))
        probes.add(asyncio.create_task(probe()))

    overload = await at_rate(one.host, rate * TIMES, seconds, asker.request, each_second)
    await asyncio.gather(*probes)
    run = Run(rate, alone, overload, seconds, memory, health)
    run.recovered_seconds = await _recovered(one, asker, alone)
    run.after = await at_rate(one.host, rate, warm_seconds, asker.request)
    run.memory_after = resident_mib(one.process.pid)
    return run


async def _sustainable(one: Served, asker: Asker, seconds: float) -> float:
    """The rate at which nothing is refused."""
    rate = 0.9 * len((await in_turn(one.host, 16, seconds, asker.request)).answers) / seconds
    for _ in range(10):
        heard = await at_rate(one.host, rate, seconds, asker.request)
        if set(heard.statuses) == {200} and not heard.lost and not heard.unsent:
            return rate
        rate *= 0.9
    return rate


async def _recovered(one: Served, asker: Asker, alone: float) -> float:
    """Seconds until a question takes no longer than twice what it took before."""
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        heard = await in_turn(one.host, 1, 0.001, asker.question)
        if all(status == 200 and taken <= 2 * alone for status, _, taken in heard.answers):
            break
    return time.perf_counter() - began


def lines(run: Run) -> list[tuple[str, str]]:
    """What was measured, in words."""
    over, statuses = run.overload, run.overload.statuses
    accepted, refused = over.milliseconds(200), over.milliseconds(503)
    quarter = max(1, len(run.memory) // 4)
    return [
        ("sustainable", f"{run.sustainable:,.0f}/s"),
        ("sent", f"{run.sustainable * TIMES:,.0f}/s for {run.seconds:.0f} s, one in {COMMAND_EVERY} a command"),
        ("answers by status", ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))),
        ("lost, unsent, sent late by at most", f"{over.lost}, {over.unsent}, {over.behind:.0f} ms"),
        ("accepted", f"{len(accepted) / run.seconds:,.0f}/s"),
        ("refused", f"{len(refused) / run.seconds:,.0f}/s"),
        ("accepted, p50 / p99", f"{percentile(accepted, 50):.0f} / {percentile(accepted, 99):.0f} ms"),
        ("refused, p50 / p99", f"{percentile(refused, 50):.0f} / {percentile(refused, 99):.0f} ms"),
        ("/livez answered", f"{len(run.health)} of {len(run.memory)}"),
        ("/livez, p50 / longest", f"{percentile(run.health, 50):.0f} / {max(run.health, default=0):.0f} ms"),
        (
            "memory, first and last quarter",
            f"{_mean(run.memory[:quarter]):.0f}, {_mean(run.memory[-quarter:]):.0f} MiB",
        ),
        ("memory over time", " ".join(f"{mib:.0f}" for mib in run.memory[:: max(1, len(run.memory) // 20)])),
        ("recovered after", f"{run.recovered_seconds:.2f} s (a question alone took {run.alone:.1f} ms)"),
        ("then, at the sustainable rate", ", ".join(f"{s}: {n:,}" for s, n in sorted(run.after.statuses.items()))),
        ("memory at the end", f"{run.memory_after:.0f} MiB"),
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _filled(owner: str) -> str:
    """The demonstration with its views, and a token of somebody who may ask and receive."""
    with House(owner, MASTER_KEY) as house:
        staff = demo(house, hospitals=HOSPITALS[:1]).staff
        catch_up(house, VIEWS.values(), HOSPITALS[0].code)
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("ANALYZE")
        agent = next(person for person in staff if Role.CS_AGENT in person.roles)
        return issue_token(house, agent.institution, agent.id, "overload", timedelta(days=1))
