"""Lets in as many requests at once as can be worked on, lets a few wait briefly, and refuses the rest at once.

What is over is refused with 503, `server.busy` and Retry-After before its body is parsed, its token looked up or a
thread or connection taken for it. Commands and questions have a lane each, so that no number of questions keeps a
command out. Which lane a request belongs to is guessed from its bytes; once the document is parsed, whatever turns out
to be no command has to find room among the questions.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from random import randrange

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.chinese.sentences import SENTENCES
from api.settings import Settings
from api.watch.account import account

OPEN = frozenset({"/livez", "/readyz", "/metrics"})
"""Always let in."""
SOONEST, LATEST = 1, 3
"""Seconds after which to come again: spread, so that those who were refused together do not come back together."""


class Lane:
    """A bound on requests at once, `most`, with a queue of at most `queue` that wait at most `seconds`.

    Whoever would wait longer than that, as fast as places were given up lately, is refused without waiting at all.
    """

    def __init__(self, name: str, most: int, queue: int, seconds: float) -> None:
        self.name = name
        self.inside = 0
        self._most = most
        self._queue = queue
        self._seconds = seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pace = 0.0
        self._left_at = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def enter(self, gone: Callable[[], asyncio.Task[None]] | None = None) -> bool:
        """Whether there is room, at once or in time; False too when the task `gone` makes ends first.

        Whoever was let in must `leave`.
        """
        if self.inside < self._most and not self._waiting:
            self.inside += 1
            return True
        if len(self._waiting) >= self._queue or len(self._waiting) * self._pace > self._seconds:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        left = None if gone is None else gone()
        try:
            await asyncio.wait(
                {turn} if left is None else {turn, left}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            if turn.done():
                self.leave()
            raise
        finally:
            if left is not None:
                left.cancel()
            if not turn.done():
                turn.cancel()
                self._waiting.remove(turn)
        return turn.done() and not turn.cancelled()

    def leave(self) -> None:
        """Make room: whoever has waited longest comes next."""
        now = time.monotonic()
        if self._waiting:
            # seconds between two places given up while somebody waited, the last dozen or so
            self._pace += (min(now - self._left_at, self._seconds) - self._pace) / 12
            self._waiting.popleft().set_result(None)
        else:
            self.inside -= 1
        self._left_at = now


class Busy(Exception):
    """There is no room for this request now."""

    code = "server.busy"
    sentence = "Too many requests at once; nothing was done, send it again in a moment."

    def __init__(self) -> None:
        super().__init__(self.sentence)
        self.seconds = randrange(SOONEST, LATEST + 1)  # noqa: S311 - not a secret


class Place:
    """A request's place in a lane, until it is given up."""

    def __init__(self, lane: Lane) -> None:
        self.lane: Lane | None = lane
        self.streams = False

    def give_up(self) -> None:
        """Make room."""
        if self.lane is not None:
            self.lane.leave()
            self.lane = None

    async def move(self, lane: Lane) -> None:
        """Give the place up for one in another lane; raises Busy when there is none."""
        if lane is not self.lane:
            self.give_up()  # at once: it must not be kept from others while this one waits
            if not await lane.enter():
                account().shed = True
                raise Busy
            self.lane = lane


_place: ContextVar[Place | None] = ContextVar("anjuan_place", default=None)


class Admission:
    """The lanes of one process."""

    def __init__(self, settings: Settings) -> None:
        waits = settings.queue_max, settings.queue_seconds
        self.questions = Lane("questions", settings.questions_at_once, *waits)
        self.commands = Lane("commands", settings.commands_at_once, *waits)
        self.open = 0
        self.open_max = settings.requests_open_max
        self.body_bytes_max = settings.body_bytes_max
        self.body_seconds = settings.body_seconds
        self.is_command: Callable[[bytes], bool] = lambda body: b"mutation" in body
        """Whether a body may hold a command; one that hides it only waits among the questions."""

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """Both."""
        return self.questions, self.commands

    async def known_to_ask(self) -> None:
        """The request turned out to be a question: it goes on in their lane. Raises Busy when that has no room."""
        place = _place.get()
        if place is not None:
            await place.move(self.questions)

    def streams(self) -> None:
        """The request goes on as a stream, which is no work while nothing is said: others may have its place."""
        place = _place.get()
        if place is not None and not place.streams:
            place.streams = True
            place.give_up()
            self.open -= 1


class Admitting:
    """The ASGI middleware that asks `Admission` for every request but those about health."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        house = self._admission
        if house.open >= house.open_max:
            await _busy(send)
            return
        house.open += 1
        try:
            await self._heard(scope, receive, send)
        finally:
            house.open -= 1

    async def _heard(self, scope: Scope, receive: Receive, send: Send) -> None:
        house = self._admission
        body = b""
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            try:
                async with asyncio.timeout(house.body_seconds):
                    whole = await _body(receive, house.body_bytes_max)
            except TimeoutError:
                await _slow(send, house.body_seconds)
                return
            if whole is None:
                return  # nobody is there any more
            body = whole
        lane = house.commands if house.is_command(body) else house.questions
        rest = _Rest(body, receive)
        if not await lane.enter(rest.leaves):
            await _busy(send)
            return
        place = Place(lane)
        _place.set(place)
        try:
            await self._app(scope, rest.receive, send)
        finally:
            if place.streams:
                house.open += 1  # whoever counted it in counts it out
            place.give_up()


async def _body(receive: Receive, most: int) -> bytes | None:
    """The body, read no further than is needed to know that it is too long; None when the client has gone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    chunks = bytearray(body)
    while len(chunks) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(chunks)


class _Rest:
    """What is left to receive of a request whose body has been read."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive
        self._gone = False

    def leaves(self) -> asyncio.Task[None]:
        """A task that ends when the client goes."""
        return asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"

    async def receive(self) -> Message:
        """The body, then whatever comes."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._gone:
            return {"type": "http.disconnect"}
        return await self._receive()


async def _busy(send: Send) -> None:
    said = account()
    said.shed = True
    busy = Busy()
    await _refuse(send, 503, busy.code, busy.sentence, (b"retry-after", str(busy.seconds).encode()))


async def _slow(send: Send, seconds: float) -> None:
    sentence = f"The request was not complete after {math.ceil(seconds)} s; send it again, over a better line."
    await _refuse(send, 408, "request.slow", sentence, (b"connection", b"close"))


async def _refuse(send: Send, status: int, code: str, sentence: str, *more: tuple[bytes, bytes]) -> None:
    said = account()
    said.refused(code)
    extensions = {"code": code, "sentenceZh": SENTENCES[code]}
    body = orjson.dumps({"errors": [{"message": sentence, "extensions": extensions}]})
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-correlation-id", said.correlation.encode()),
        *more,
    ]
    with suppress(OSError):  # whoever is told this may have gone
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
