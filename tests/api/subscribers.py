"""Real clients of a real server on the loopback: WebSockets and server-sent events."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Signal
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from domain.store.casebook import House
from projections.runner import catch_up, follow
from projections.views import VIEWS

SECONDS = 120
"""Longest wait for anything; nothing here is about how long it took."""

HISTORY = (
    "subscription ($id: UUID!, $after: BigInt) { complaintHistory(id: $id, after: $after)"
    " { position lines { position version topic streamId } } }"
)
CHANGES = (
    "subscription ($filter: ComplaintFilter, $after: BigInt) { complaintsChanged(filter: $filter, after: $after)"
    " { position changes { position complaintId meetsFilter complaint { stage position } } } }"
)
APPENDED = (
    "subscription ($after: BigInt, $actor: UUID, $stream: UUID, $aggregate: String) {"
    " historyAppended(after: $after, actor: $actor, stream: $stream, aggregate: $aggregate)"
    " { position lines { position version topic streamId } } }"
)
LAG = "subscription { viewLagChanged { position views { view position behind } } }"


@contextmanager
def listening(app: FastAPI) -> Generator[str]:
    """Serve the application on a free port of the loopback, in a thread; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", ws_ping_interval=None, timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="served")
        thread.start()
        try:
            host, port = listener.getsockname()
            yield f"{host}:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def followed(house: House) -> Generator[Signal]:
    """Keep the views up to date in a thread; the signal that wakes it.

    What other tests left is read first, so that nobody waits for it who waits for something of their own.
    """
    catch_up(house, VIEWS.values())
    stop, wake = Signal(), Signal()
    thread = threading.Thread(
        target=follow, args=(house, list(VIEWS.values())), kwargs={"stop": stop, "wake": wake, "idle": 0.02}
    )
    thread.start()
    try:
        yield wake
    finally:
        stop.set()
        wake.set()
        thread.join()


@dataclass
class Socket:
    """A client that speaks graphql-transport-ws, or what else a test has it say."""

    connection: ClientConnection
    passed_over: list[str] = field(default_factory=list[str])

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message, default=str))

    def hear(self) -> dict[str, Any]:
        """The next message; raises ConnectionClosed."""
        return json.loads(self.connection.recv(SECONDS))

    def init(self, token: str | None) -> None:
        """Come in; the acknowledgement must come."""
        payload = {} if token is None else {"payload": {"Authorization": f"Bearer {token}"}}
        self.say(type="connection_init", **payload)
        assert self.hear() == {"type": "connection_ack"}

    def subscribe(self, query: str, name: str = "1", /, **variables: Any) -> None:
        """Begin a subscription."""
        self.say(type="subscribe", id=name, payload={"query": query, "variables": variables})

    def next(self, id: str = "1") -> dict[str, Any]:
        """The one field of the next message of a subscription; pings are answered."""
        while True:
            said = self.hear()
            if said["type"] == "ping":
                self.say(type="pong")
                continue
            assert said["type"] == "next", said
            assert said["id"] == id, said
            assert "errors" not in said["payload"], said
            (found,) = said["payload"]["data"].values()
            return found

    def ponged(self, **more: Any) -> list[dict[str, Any]]:
        """Send a ping and wait for its pong; what subscriptions said before it, of the server's own pings nothing."""
        self.say(type="ping", **more)
        before: list[dict[str, Any]] = []
        while (said := self.hear())["type"] != "pong":
            if said["type"] == "ping":
                self.say(type="pong")
            else:
                before.append(said)
        assert said == {"type": "pong", **more}
        return before

    def error(self, id: str = "1", others: tuple[str, ...] = ()) -> dict[str, Any]:
        """The one error a subscription ends with, its extensions beside its message; `others` may speak before it."""
        while (said := self.hear())["type"] == "ping" or said["id"] in others:
            if said["type"] == "ping":
                self.say(type="pong")
        assert (said["type"], said["id"]) == ("error", id), said
        (error,) = said["payload"]
        return {"message": error["message"], **error["extensions"]}

    def closed(self) -> tuple[int, str]:
        """Code and reason with which the server closes; what it says before is passed over."""

        def hear_all() -> None:
            while True:
                self.passed_over.append(str(self.connection.recv(SECONDS)))

        with pytest.raises(ConnectionClosed) as end:
            hear_all()
        close = end.value.rcvd
        assert close is not None, end.value
        return close.code, close.reason


@contextmanager
def websocket(
    address: str,
    token: str | None = None,
    *,
    origin: str | None = None,
    protocol: str | None = "graphql-transport-ws",
    headers: dict[str, str] | None = None,
) -> Generator[Socket]:
    """A connection; with a token, one that has come in."""
    with connect(
        f"ws://{address}/graphql",
        subprotocols=None if protocol is None else [Subprotocol(protocol)],
        origin=None if origin is None else Origin(origin),
        compression=None,
        proxy=None,
        open_timeout=SECONDS,
        close_timeout=1,
        additional_headers=headers or {},
    ) as connection:
        one = Socket(connection)
        if token is not None:
            one.init(token)
        yield one


@dataclass
class Stream:
    """A client of server-sent events."""

    response: httpx.Response
    lines: Iterator[str]

    def event(self) -> tuple[str, Any]:
        """The next event and its data; comments are passed over."""
        name, data = "", list[str]()
        for line in self.lines:
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].strip())
            elif not line and name:
                text = "\n".join(data)
                return name, json.loads(text) if text else None
        return "", None

    def next(self) -> dict[str, Any]:
        """The one field of the next message."""
        name, said = self.event()
        assert name == "next", (name, said)
        assert "errors" not in said, said
        (found,) = said["data"].values()
        return found

    def error(self) -> dict[str, Any]:
        """The one error the stream ends with."""
        name, said = self.event()
        assert name == "next", (name, said)
        (error,) = said["errors"]
        assert self.event() == ("complete", None)
        return {"message": error["message"], **error["extensions"]}


@contextmanager
def events(address: str, token: str | None, query: str, *, method: str = "POST", **variables: Any) -> Generator[Stream]:
    """The answer to a request for a stream of events, whatever its status."""
    headers = {"Accept": "text/event-stream", **({} if token is None else {"Authorization": f"Bearer {token}"})}
    asked = {"query": query, "variables": json.loads(json.dumps(variables, default=str))}
    sent: dict[str, Any] = (
        {"json": asked} if method == "POST" else {"params": {**asked, "variables": json.dumps(asked["variables"])}}
    )
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        client.stream(method, f"http://{address}/graphql", headers=headers, **sent) as response,
    ):
        yield Stream(response, response.iter_lines())
