"""Clients that send at a fixed rate whether they are answered or not, as people and programs do.

Requests go over connections that are kept; one that is busy is not waited for, another is opened. Everything is timed
from the moment a request was due, so that a client that falls behind does not make the server look better.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

CONNECTIONS_MAX = 2000


@dataclass
class Heard:
    """What came back: status, second it was due in, milliseconds, and for what is not 200 the body or what broke.

    `behind` is how many milliseconds late the latest request was sent: how far to trust the clients.
    """

    answers: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    lost: int = 0
    unsent: int = 0
    behind: float = 0.0
    bodies: Counter[bytes] = field(default_factory=Counter[bytes])

    @property
    def statuses(self) -> Counter[int]:
        """How many of each."""
        return Counter(status for status, _, _ in self.answers)

    def milliseconds(self, *statuses: int) -> list[float]:
        """Of the answers with these statuses."""
        return [taken for status, _, taken in self.answers if status in statuses]

    def per_second(self, second: int) -> Counter[int]:
        """How many of each were due in one second."""
        return Counter(status for status, due, _ in self.answers if due == second)


class Clients:
    """Connections to one server."""

    def __init__(self, host: tuple[str, int]) -> None:
        self._host = host
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """One request; status and body. Raises OSError or asyncio.IncompleteReadError when the connection is lost."""
        while True:
            fresh = not self._idle
            reader, writer = await self._opened() if fresh else self._idle.pop()
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                lower = head.lower()
                at = lower.index(b"content-length:") + 15
                body = await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
            except (OSError, asyncio.IncompleteReadError):
                self._open -= 1
                writer.close()
                if fresh:
                    raise
                continue  # it was closed while it lay idle
            self._idle.append((reader, writer))
            return int(head[9:12]), body

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._open += 1
        try:
            return await asyncio.open_connection(*self._host)
        except OSError:
            self._open -= 1
            raise

    @property
    def full(self) -> bool:
        """Whether no more connections may be opened, and none is free."""
        return not self._idle and self._open >= CONNECTIONS_MAX

    def close(self) -> None:
        """Close what lies idle."""
        for _, writer in self._idle:
            writer.close()


async def at_rate(
    host: tuple[str, int],
    rate: float,
    seconds: float,
    request: Callable[[int], bytes],
    each_second: Callable[[int], None] = lambda _: None,
) -> Heard:
    """Send `rate` requests a second for so long, then wait for what is still under way."""
    heard, clients, under_way = Heard(), Clients(host), set[asyncio.Task[None]]()
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        try:
            status, body = await clients.ask(request(number))
        except (OSError, asyncio.IncompleteReadError) as problem:
            heard.lost += 1
            heard.bodies[type(problem).__name__.encode()] += 1
            return
        heard.answers.append((status, int(due), (time.perf_counter() - began - due) * 1000))
        if status != 200:
            heard.bodies[body] += 1

    number, second = 0, 0
    while (now := time.perf_counter() - began) < seconds:
        if now >= second:
            each_second(second)
            second += 1
        while number / rate <= now:
            heard.behind = max(heard.behind, (now - number / rate) * 1000)
            if clients.full:
                heard.unsent += 1
            else:
                task = asyncio.create_task(one(number, number / rate))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.sleep(0.001)
    if under_way:
        await asyncio.wait(under_way, timeout=60)
    heard.lost += len(under_way)
    clients.close()
    return heard


async def in_turn(host: tuple[str, int], clients: int, seconds: float, request: Callable[[int], bytes]) -> Heard:
    """So many clients, each of which sends again once it is answered."""
    heard, line = Heard(), Clients(host)
    began = time.perf_counter()
    numbers = iter(range(10**9))

    async def client() -> None:
        while (due := time.perf_counter() - began) < seconds:
            status, body = await line.ask(request(next(numbers)))
            heard.answers.append((status, int(due), (time.perf_counter() - began - due) * 1000))
            if status != 200:
                heard.bodies[body] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    line.close()
    return heard


def percentile(values: list[float], percent: int) -> float:
    """A percentile, 0 of nothing."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else sum(values)


def resident_mib(process: int) -> float:
    """The memory a process holds."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
