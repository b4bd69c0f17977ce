"""Subscribers of one institution's list while it changes: how soon each is told, and what that costs the server.

The server is a process as `anjuan up` starts it, its runner within; subscribers are another, one WebSocket each;
whoever appends is a third, straight to the store. Delay is from the append's return to the message's arrival, all by
one clock.

The filters: `one` is everybody's; with `windows` each has its own and all of them meet every case; with `departments`
each meets the cases of one department, a hundredth of all; with `halves` each meets half of them, and no two the same.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import string
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from api.access.token import issue_token
from domain.complaint_inquiry import receive
from domain.institution import INSTITUTION, Institution, institution_id, open_institution
from domain.kernel import Event, Role, Stamp
from domain.policy import ComplaintPolicy, complaint_policy
from domain.staff import STAFF, enrol
from domain.store.casebook import Casebook, House

KEY = bytes(32)
AT_ONCE = 10
"""How many cases one transaction receives."""
DEPARTMENTS = 100
SERVE = """
import sys
from threading import Event, Thread
from api.serve import serve
from api.settings import Settings
from domain.store.casebook import House
from projections.runner import follow
from projections.views import VIEWS

with House(sys.argv[1], bytes(32)) as house:
    stop, wake = Event(), Event()
    runner = Thread(target=follow, args=(house, VIEWS.values()), kwargs={"stop": stop, "wake": wake})
    runner.start()
    serve(house, Settings(_env_file=None), 0, wake=wake.set, ready=lambda url: print(url, flush=True))
    stop.set()
    wake.set()
    runner.join()
"""
QUERY = """
subscription ($filter: ComplaintFilter) {
  complaintsChanged(filter: $filter) {
    position
    changes { position meetsFilter complaint {
      complaintId number stage channel category severity departments owner receivedAt nextDueAt overdue lastTopic
    } }
  }
}
"""


@dataclass(frozen=True)
class Told:
    """What came of one round. Delays in milliseconds; `cpu` is that of the server, in cores."""

    subscribers: int
    filters: str
    rate: float
    median: float
    p99: float
    messages: float
    cpu: float
    megabytes: float


def measure(conninfo: str, subscribers: int, filters: str, rate: int, seconds: float) -> Told:
    """One round with so many subscribers and cases a second."""
    with House(conninfo, KEY) as house:
        casebook, tokens = furnished(house, subscribers)
        with server(conninfo) as (process, url):
            ours, theirs = multiprocessing.Pipe()
            spawned = multiprocessing.get_context("spawn").Process
            ward = spawned(target=subscribe, args=(url, tokens, filters, theirs))
            ward.start()
            assert ours.recv() == "subscribed"
            stored, storing = multiprocessing.Pipe()
            desk = spawned(target=append, args=(conninfo, casebook.institution, filters, rate, seconds, storing))
            desk.start()
            assert stored.recv() == "ready"
            began, used = time.monotonic(), cpu_seconds(process.pid)
            stored.send("go")
            appended: dict[int, float] = stored.recv()
            desk.join()
            time.sleep(1.0)
            lasted, spent = time.monotonic() - began, cpu_seconds(process.pid) - used
            held = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 1024 / 1024
            ours.send("enough")
            arrived, messages = ours.recv()
            ward.join()
    delays = sorted(
        (at - appended[position]) * 1000 for each in arrived for position, at in each if position in appended
    )
    assert delays, "nobody was told anything"
    return Told(
        subscribers,
        filters,
        len(appended) / (lasted - 1.0),
        median(delays),
        delays[int(len(delays) * 0.99)],
        messages / lasted,
        spent / lasted,
        held,
    )


def furnished(house: House, subscribers: int) -> tuple[Casebook, list[str]]:
    """An institution with people who subscribe."""
    code = "L" + "".join(random.choices(string.ascii_uppercase, k=7))
    casebook = house.casebook(code)

    one = stamp()
    casebook.act(
        INSTITUTION,
        institution_id(code),
        lambda known: open_institution(known, one, code=code, name="医院", group="集团"),
        command_id=one.command_id,
    )
    tokens: list[str] = []
    for n in range(subscribers):
        said, id = stamp(), uuid4()
        casebook.act(
            STAFF,
            id,
            lambda known, said=said, id=id, n=n: enrol(
                known, said, id=id, name="某人", number=str(n), roles=[Role.CS_AGENT], department="客服部"
            ),
            command_id=said.command_id,
        )
        tokens.append(issue_token(house, code, id, "bench", timedelta(days=1)))
    return casebook, tokens


def append(conninfo: str, institution: str, filters: str, rate: int, seconds: float, control: Connection) -> None:
    """A process that receives so many cases a second, a few by one transaction; when each position was stored."""
    with House(conninfo, KEY) as house:
        casebook = house.casebook(institution)
        opened: Institution | None = casebook.read(INSTITUTION, institution_id(institution))
        assert opened is not None
        policy = complaint_policy(None, opened.place, now())
        control.send("ready")
        control.recv()
        position, stored = casebook.head(), dict[int, float]()
        begin = time.monotonic()
        for n in range(0, int(rate * seconds), AT_ONCE):
            time.sleep(max(0.0, begin + n / rate - time.monotonic()))
            received = [received_case(policy, filters) for _ in range(AT_ONCE)]
            casebook.append_many(received)
            at = time.monotonic()
            for events in received:
                position += len(events)
                stored[position] = at
        assert position == casebook.head(), "somebody else appended, too"
        control.send(stored)


def received_case(policy: ComplaintPolicy, filters: str) -> list[Event]:
    """A case of one department, or of half of them."""
    said = stamp()
    halves = [f"第{n}科" for n in range(DEPARTMENTS) if random.random() < 0.5]
    received = receive(
        None,
        said,
        policy,
        id=uuid4(),
        received_at=said.at,
        channel="telephone",
        complainant_id=uuid4(),
        complainant="王女士",
        statement="等候时间过长，且无人解释。",
        departments=halves if filters == "halves" else [f"第{random.randrange(DEPARTMENTS)}科"],
    )
    assert received is not None
    return [received]


def filter_of(filters: str, n: int) -> dict[str, Any]:
    """The filter of one subscriber."""
    return {
        "one": {},
        "windows": {"receivedFrom": (now() - timedelta(days=1, seconds=n)).isoformat()},
        "departments": {"department": f"第{n % DEPARTMENTS}科"},
        "halves": {"department": f"第{n % DEPARTMENTS}科"},
    }[filters]


def now() -> datetime:
    return datetime.now(UTC)


def stamp() -> Stamp:
    return Stamp(by=uuid4(), at=now(), command_id=uuid4(), roles=frozenset(Role))


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, of all cores together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(conninfo: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and its address."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANJUAN_", "DATABASE_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, conninfo],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def subscribe(url: str, tokens: list[str], filters: str, control: Connection) -> None:
    """A process of subscribers: when each heard of each position, and how many messages came."""
    control.send(asyncio.run(_subscribed(url, tokens, filters, control)))


async def _subscribed(
    url: str, tokens: list[str], filters: str, control: Connection
) -> tuple[list[list[tuple[int, float]]], int]:
    arrived: list[list[tuple[int, float]]] = []
    messages = 0
    ready = asyncio.Semaphore(0)

    async def listen(n: int, token: str, heard: list[tuple[int, float]]) -> None:
        nonlocal messages
        async with connect(
            url.replace("http:", "ws:"),
            subprotocols=[Subprotocol("graphql-transport-ws")],
            compression=None,
            proxy=None,
        ) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
            await socket.recv()
            said: dict[str, Any] = {"query": QUERY, "variables": {"filter": filter_of(filters, n)}}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": said}))
            ready.release()
            async for text in socket:
                at = time.monotonic()
                message = json.loads(text)
                if message["type"] == "ping":
                    await socket.send('{"type": "pong"}')
                    continue
                messages += 1
                changes = message["payload"]["data"]["complaintsChanged"]["changes"]
                heard += [(int(change["position"]), at) for change in changes if change["meetsFilter"]]

    tasks: list[asyncio.Task[None]] = []
    for n, token in enumerate(tokens):
        arrived.append([])
        tasks.append(asyncio.create_task(listen(n, token, arrived[-1])))
    for _ in tasks:
        await ready.acquire()
    await asyncio.sleep(1.0)
    control.send("subscribed")
    await asyncio.to_thread(control.recv)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return arrived, messages
