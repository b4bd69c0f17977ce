"""What a kept answer costs beside one that is made: plain, in gzip, and as 304; a long answer and a short one.

Same machinery as `graphql`: each server a process of its own, CPU of server and database backends per request.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Generator
from typing import Any

import httpx
import uvicorn

from api.app import create_app
from api.settings import Settings
from domain.store.casebook import House
from tests.benchmarks.graphql import CASES, LINES, QUESTION, ROUNDS, Cost, filled, one_round

LONG = QUESTION.replace(" complainant ", " "), {"first": CASES, "lines": LINES}
SHORT = "query ($first: Int!) { complaints(first: $first) { edges { node { number stage owner } } } }", {"first": 5}
WAYS = ("made, plain", "made, gzip", "kept, plain", "kept, gzip", "kept, 304")


def serve(owner: str, kept: bool, port: int) -> None:
    """One edge, until it is ended."""
    more: dict[str, Any] = {} if kept else {"answers_bytes": 0}
    settings = Settings(_env_file=None, plan=True, cost_per_minute=10**12, **more)  # pyright: ignore[reportCallIssue]
    with House(owner, bytes(32)) as house:
        uvicorn.run(create_app(settings, house), host="127.0.0.1", port=port, log_config=None, access_log=False)


@contextlib.contextmanager
def served(owner: str, kept: bool) -> Generator[tuple[int, httpx.Client]]:
    """The process of an edge, and a client that has reached it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(owner, kept, port))
    process.start()
    assert process.pid is not None
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until = time.monotonic() + 30
            while True:
                try:
                    client.get("/livez")
                    break
                except httpx.TransportError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield process.pid, client
    finally:
        process.terminate()
        process.join()


def measure(owner: str, requests: int) -> dict[tuple[str, str], Cost]:
    """Every way of both answers, in turns."""
    authorization = {"Authorization": f"Bearer {filled(owner)}"}
    costs = {(size, way): Cost() for size in ("long", "short") for way in WAYS}
    with served(owner, False) as made, served(owner, True) as kept:
        asked: list[tuple[Cost, tuple[int, httpx.Client], Any, dict[str, str]]] = []
        for (size, way), cost in costs.items():
            query, variables = LONG if size == "long" else SHORT
            body = {"query": query, "variables": variables}
            headers = {**authorization, "Accept-Encoding": "gzip" if "gzip" in way else "identity"}
            where = kept if way.startswith("kept") else made
            answer = where[1].post("/graphql", json=body, headers=headers)
            assert ("etag" in answer.headers) is (where is kept), answer.text
            if "304" in way:
                headers["If-None-Match"] = answer.headers["etag"]
            for _ in range(20):
                answer = where[1].post("/graphql", json=body, headers=headers)
                assert answer.status_code == (304 if "304" in way else 200), answer.text
            cost.size = int(answer.headers.get("content-length", 0))
            asked.append((cost, where, body, headers))
        for _ in range(ROUNDS):
            for cost, (server, client), body, headers in asked:
                one_round(owner, cost, server, client, body, headers, requests)
    return costs
