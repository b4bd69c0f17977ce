"""GraphQL over server-sent events, `graphql-sse` in distinct connections mode: one request, one subscription.

    POST /graphql, Accept: text/event-stream          event: next      data: {"data": …}
                                                      event: complete  data:

What is wrong with the subscription is a `next` with errors and then `complete`; who may not come in at all is answered
as any request is. A line `:` says, while there is nothing else to say, that the stream lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from typing import Any

import orjson
import psycopg
import structlog
from psycopg_pool import PoolTimeout
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access.doorkeeper import Unauthenticated
from api.edge.asked import Asked
from api.live.guest import Guest
from api.live.hall import Hall
from api.live.operation import Ended, Subscriptions, ended
from api.settings import Settings

MEDIA_TYPE = "text/event-stream"
ALIVE = b":\n\n"
COMPLETE = b"event: complete\ndata:\n\n"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.live")


class Slow(Exception):
    """The client takes nothing any more."""


class EventStream(Response):
    """The answer to one subscription, for the purpose its header says. `seat` is left when it is over."""

    def __init__(
        self,
        asked: Asked,
        purpose: str | None,
        guest: Guest,
        seat: ExitStack,
        settings: Settings,
        hall: Hall,
        subscriptions: Subscriptions,
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._asked = asked
        self._purpose = purpose
        self._guest = guest
        self._seat = seat
        self._settings = settings
        self._hall = hall
        self._subscriptions = subscriptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The stream, until either side has enough."""
        ends = asyncio.Event()
        with self._seat, self._hall.inside(ends.set):
            gone = asyncio.create_task(_gone(receive))
            told = asyncio.create_task(self._tell(send))
            ending = asyncio.create_task(ends.wait())
            try:
                await asyncio.wait({gone, told, ending}, return_when=asyncio.FIRST_COMPLETED)
                if ending.done() and not told.done():
                    told.cancel()
                    await asyncio.gather(told, return_exceptions=True)
                    problem = ended(code="server.ending", sentence="The server ends; subscribe again and resume.")
                    with suppress(Slow):
                        await self._send(send, _next(problem) + COMPLETE, more=False)
                elif told.done() and (fault := told.exception()) is not None and not isinstance(fault, Slow):
                    raise fault
            finally:
                for task in (gone, told, ending):
                    task.cancel()
                await asyncio.gather(gone, told, ending, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        headers = [
            (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),  # a proxy that gathers answers would hold back every message
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, ALIVE)
        try:
            async with (
                aclosing(self._subscriptions.messages(self._asked, self._guest, self._purpose)) as messages,
                aclosing(self._paced(messages)) as paced,
            ):
                async for chunk in paced:
                    await self._send(send, chunk)
        except Ended as problem:
            last = problem
        except Unauthenticated as problem:
            last = ended(problem.code, str(problem))
        else:
            return
        await self._send(send, _next(last) + COMPLETE, more=False)

    async def _paced(self, messages: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
        """Each message as an event; while there is none, a sign of life now and then, if the token still opens."""
        check = min(self._settings.live_check_seconds, self._settings.live_ping_seconds)
        silent = 0.0
        coming = asyncio.ensure_future(anext(messages))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=check)
                if done:
                    yield b"event: next\ndata: " + coming.result().encode() + b"\n\n"
                    coming, silent = asyncio.ensure_future(anext(messages)), 0.0
                    continue
                with suppress(psycopg.Error, PoolTimeout):  # while the database is away nothing is said to anybody
                    await self._guest.principal(check / 2)
                silent += check
                if silent >= self._settings.live_ping_seconds:
                    silent = 0.0
                    yield ALIVE
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _send(self, send: Send, chunk: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(self._settings.live_stall_seconds):
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        except TimeoutError:
            _log.warning("slow client dropped", seconds=self._settings.live_stall_seconds)
            raise Slow from None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(problem: Ended) -> bytes:
    said: dict[str, Any] = {"errors": problem.errors}
    return b"event: next\ndata: " + orjson.dumps(said) + b"\n\n"
