"""GraphQL over WebSocket, sub-protocol `graphql-transport-ws`: one connection, several subscriptions.

    -> {"type": "connection_init", "payload": {"authorization": "Bearer anjuan_…"}}     <- {"type": "connection_ack"}
    -> {"type": "subscribe", "id": "1", "payload": {"query": "subscription { … }"}}     <- {"type": "next", …}

Nothing is queued for a client: a subscription reads what comes next when its last message has been taken. Whoever takes
none for `live_stall_seconds` is dropped; the position of the last message is where to go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import msgspec
import orjson
import psycopg
import structlog
from psycopg_pool import PoolTimeout
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.access.doorkeeper import Doorkeeper, Unauthenticated
from api.access.throttle import client_address
from api.edge.asked import Asked
from api.live.guest import Guest
from api.live.hall import Hall
from api.live.operation import Ended, Subscriptions, ended
from api.settings import Settings
from domain.kernel import Refused

PROTOCOL = "graphql-transport-ws"
REASON_BYTES = 123
"""Longest reason a close frame can give."""
CLOSE_SECONDS = 1.0
"""How long the close frame may take; whoever does not read gets none."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.live")


class Close(IntEnum):
    """Why a connection is closed. Clients of the protocol come back by themselves after 1012, 1013, 4403, 4499."""

    NORMAL = 1000
    TOO_BIG = 1009
    """A message of more than `live_message_bytes_max`."""
    FAULT = 1011
    """A fault of ours; it is in the log."""
    RESTART = 1012
    """The process ends; come back and resume."""
    SLOW = 1013
    """Too slow: come back and resume."""
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    """Subscribed before the connection was acknowledged."""
    FORBIDDEN = 4403
    """The token opens nothing, or nothing any more."""
    SUBPROTOCOL = 4406
    INIT_TIMEOUT = 4408
    SAME_ID = 4409
    TOO_MANY = 4429
    """Initialised twice, or one connection more than a person may have."""
    SILENT = 4499
    """No answer to a ping."""


class Init(msgspec.Struct, tag="connection_init"):
    """Who is there."""

    payload: dict[str, Any] | None = None


class Ping(msgspec.Struct, tag="ping"):
    """Are you there?"""

    payload: dict[str, Any] | None = None


class Pong(msgspec.Struct, tag="pong"):
    """Yes."""

    payload: dict[str, Any] | None = None


class Subscribe(msgspec.Struct, tag="subscribe"):
    """Begin a subscription."""

    id: str
    payload: Asked


class Complete(msgspec.Struct, tag="complete"):
    """End a subscription."""

    id: str


_message = msgspec.json.Decoder(Init | Ping | Pong | Subscribe | Complete)


class Leave(NamedTuple):
    """How a connection ends."""

    code: Close
    reason: str


class Connection:
    """One client's WebSocket, accepted."""

    def __init__(
        self,
        websocket: WebSocket,
        settings: Settings,
        doorkeeper: Doorkeeper,
        hall: Hall,
        subscriptions: Subscriptions,
    ) -> None:
        self._websocket = websocket
        self._address = client_address(websocket, settings.trusted_proxies)
        self._settings = settings
        self._doorkeeper = doorkeeper
        self._hall = hall
        self._subscriptions = subscriptions
        self._leaving: asyncio.Future[Leave | None] = asyncio.get_running_loop().create_future()
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._guest: Guest | None = None
        self._acknowledged = False
        self._named: Callable[[], None] = lambda: None
        self._seats = ExitStack()
        self._heard = time.monotonic()

    async def serve(self) -> None:
        """Until either side has enough."""
        restart = "server.ending: The server ends; connect again and resume."
        crowded = "limit.live: Too many connections have not said who they are; connect again."
        with (
            self._hall.nameless(
                lambda: self._leave(Close.RESTART, restart), lambda: self._leave(Close.SLOW, crowded)
            ) as self._named,
            self._seats,
        ):
            self._begin(self._listen)
            try:
                leave = await self._leaving
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
            if leave is not None:
                await self._close(leave)

    def _leave(self, code: Close, reason: str) -> None:
        if not self._leaving.done():
            self._leaving.set_result(Leave(code, reason))

    def _gone(self) -> None:
        if not self._leaving.done():
            self._leaving.set_result(None)

    async def _close(self, leave: Leave) -> None:
        reason = leave.reason.encode()[:REASON_BYTES].decode(errors="ignore")
        with suppress(TimeoutError, OSError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(leave.code, reason)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do something beside the rest, as long as the connection lasts. Its faults end the connection."""

        async def minded() -> None:
            try:
                await work()
            except WebSocketDisconnect:
                self._gone()
            except Unauthenticated as problem:
                self._leave(Close.FORBIDDEN, f"{problem.code}: {problem}")
            except Exception as problem:
                _log.exception("live connection", error=type(problem).__name__)
                self._leave(Close.FAULT, "internal: Something went wrong on our side; it is logged.")

        task = asyncio.create_task(minded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send(self, text: str) -> None:
        """Send a message; a client that takes none for too long is dropped."""
        async with self._sending:
            try:
                async with asyncio.timeout(self._settings.live_stall_seconds):
                    await self._websocket.send({"type": "websocket.send", "text": text})
            except TimeoutError:
                seconds = self._settings.live_stall_seconds
                _log.warning("slow client dropped", seconds=seconds)
                self._leave(Close.SLOW, f"limit.slow: Nothing was read for {seconds:g} s; connect again and resume.")

    # what the client says

    async def _listen(self) -> None:
        self._begin(self._expect_init)
        while not self._leaving.done():
            match await self._received():
                case Init() as said:
                    await self._welcome(said)
                case Ping() as said:
                    await self._send(_text(type="pong", **({"payload": said.payload} if said.payload else {})))
                case Subscribe() as said:
                    await self._subscribe(said)
                case Complete(id=id):
                    if (task := self._operations.pop(id, None)) is not None:
                        task.cancel()
                case Pong() | None:
                    pass

    async def _received(self) -> Init | Ping | Pong | Subscribe | Complete | None:
        """The next message of the client; None when what it said ends the connection."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._gone()
            return None
        self._heard = time.monotonic()
        text: str | None = message.get("text")
        if text is None:
            self._leave(Close.BAD_REQUEST, "Messages are JSON in text frames.")
            return None
        most = self._settings.live_message_bytes_max
        if len(text) > most or len(text.encode()) > most:
            self._leave(Close.TOO_BIG, f"request.too_large: A message has at most {most} bytes.")
            return None
        try:
            return _message.decode(text)
        except (msgspec.MsgspecError, RecursionError) as problem:
            said = problem if isinstance(problem, msgspec.ValidationError) else "it is not JSON"
            self._leave(Close.BAD_REQUEST, f"This is no message of {PROTOCOL}: {said}")
            return None

    async def _expect_init(self) -> None:
        await asyncio.sleep(self._settings.live_init_seconds)
        if self._guest is None:
            self._leave(Close.INIT_TIMEOUT, "Connection initialisation timeout")

    async def _welcome(self, first: Init) -> None:
        if self._guest is not None:
            self._leave(Close.TOO_MANY, "Too many initialisation requests")
            return
        said = {name.lower(): value for name, value in (first.payload or {}).items()}
        authorization = said.get("authorization") or self._websocket.headers.get("authorization")
        self._guest = Guest(self._doorkeeper, authorization if isinstance(authorization, str) else None, self._address)
        principal = await self._guest.principal()
        if self._hall.full:
            self._leave(Close.SLOW, "limit.live: There is no room for another subscriber now; come again in a moment.")
            return
        self._named()
        try:
            self._seats.enter_context(self._hall.seat(principal))
        except Refused as refused:
            self._leave(Close.TOO_MANY, f"{refused.code}: {refused.sentence}")
            return
        self._acknowledged = True
        self._begin(partial(self._mind_token, self._guest))
        self._begin(self._mind_silence)
        await self._send(_text(type="connection_ack"))

    async def _subscribe(self, said: Subscribe) -> None:
        if self._guest is None or not self._acknowledged:
            self._leave(Close.UNAUTHORIZED, "Unauthorized")
        elif said.id in self._operations:
            self._leave(Close.SAME_ID, f"Subscriber for {said.id} already exists")
        elif len(self._operations) >= self._settings.live_subscriptions_max:
            problem = ended(
                code="limit.subscriptions",
                sentence=f"This connection has {len(self._operations)} subscriptions, the most; complete one first.",
            )
            await self._send(_text(type="error", id=said.id, payload=problem.errors))
        else:
            self._operations[said.id] = self._begin(partial(self._tell, said.id, said.payload, self._guest))

    # what is said without being asked

    async def _tell(self, id: str, asked: Asked, guest: Guest) -> None:
        """The messages of one subscription, until it cannot go on."""
        before, task = f'{{"type":"next","id":{orjson.dumps(id).decode()},"payload":', asyncio.current_task()
        purpose = self._websocket.headers.get("x-purpose")
        try:
            async with aclosing(self._subscriptions.messages(asked, guest, purpose)) as messages:
                async for payload in messages:
                    await self._send(f"{before}{payload}}}")
        except Ended as problem:
            if self._operations.get(id) is task:
                del self._operations[id]
                await self._send(_text(type="error", id=id, payload=problem.errors))
        finally:
            if self._operations.get(id) is task:
                del self._operations[id]

    async def _mind_token(self, guest: Guest) -> None:
        """Look at the token also while there is nothing to say."""
        while True:
            await asyncio.sleep(self._settings.live_check_seconds)
            with suppress(psycopg.Error, PoolTimeout):  # while the database is away nothing is said to anybody
                await guest.principal(self._settings.live_check_seconds / 2)

    async def _mind_silence(self) -> None:
        """Ask a silent client whether it is there, and leave when it does not answer."""
        quiet, patience = self._settings.live_ping_seconds, self._settings.live_pong_seconds
        while True:
            await asyncio.sleep(max(0.0, self._heard + quiet - time.monotonic()))
            asked = time.monotonic()
            if asked - self._heard < quiet:
                continue
            await self._send(_text(type="ping"))
            await asyncio.sleep(patience)
            if self._heard < asked:
                self._leave(Close.SILENT, f"No answer to a ping for {patience:g} s")
                return


def _text(**message: Any) -> str:
    return orjson.dumps(message).decode()
