"""Watching how far institutions and their views have come: one statement for all of them, only while somebody follows.

Nothing is pushed by whoever appends. The watch looks every `idle` seconds; while something moves, or after this process
appended something itself, every `pace` seconds. What it knows is only when to look: what there is to say is read from
the views.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from projections.changes import Positions
from projections.view import View

AWAY_SECONDS = 1.0
"""How long to wait for a database that could not be asked."""

Look = Callable[[Sequence[str]], Coroutine[Any, Any, list[Positions]]]
"""Asks how far these institutions and their views have come."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.live")


@dataclass
class Place:
    """One institution that is followed: the position of its last event and of each view, as last seen."""

    institution: str
    head: int = 0
    views: dict[str, int] = field(default_factory=dict[str, int])
    followers: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def reached(self, views: Iterable[View[Any]]) -> int:
        """How far the slowest of these views has read."""
        return min(self.views.get(view.name, 0) for view in views)

    async def moved(self) -> None:
        """Wait until a position is another one than now."""
        await self._moved.wait()

    async def beyond(self, views: Sequence[View[Any]], position: int) -> int:
        """Wait until all these views have read past a position; how far they have read then."""
        while (reached := self.reached(views)) <= position:
            await self._moved.wait()
        return reached

    def see(self, found: Positions) -> bool:
        """Take over what was found and tell whoever waits; whether anything is new."""
        if (found.head, found.views) == (self.head, self.views):
            return False
        self.head, self.views = found.head, found.views
        self._moved.set()
        self._moved = asyncio.Event()
        return True

    @property
    def behind(self) -> bool:
        """Whether a view has something to read."""
        return min(self.views.values(), default=0) < self.head


class Watcher:
    """Looks at positions for all who follow; belongs to one event loop."""

    def __init__(self, look: Look, *, idle: float, pace: float) -> None:
        self._look = look
        self._idle = idle
        self._pace = min(pace, idle)
        self._places: dict[str, Place] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def followed(self) -> int:
        """How many institutions are followed."""
        return len(self._places)

    def wake(self) -> None:
        """This process appended something: look soon. From the event loop only."""
        self._woken.set()

    @contextmanager
    def following(self, institution: str) -> Generator[Place]:
        """Follow an institution as long as this lasts."""
        place = self._places.setdefault(institution, Place(institution))
        place.followers += 1
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="live watch")
        try:
            yield place
        finally:
            place.followers -= 1
            if not place.followers:
                del self._places[institution]

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        pause = self._pace
        while self._places:
            woken = self._woken.is_set()
            self._woken.clear()
            try:
                found = await self._look(list(self._places))
            except Exception as problem:
                _log.warning("positions cannot be read", error=type(problem).__name__)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            places = [(self._places[one.institution], one) for one in found if one.institution in self._places]
            moved = [place.see(one) for place, one in places]
            if woken or any(moved):
                pause = self._pace
            elif any(place.behind for place, _ in places):
                pause = min(pause * 2, self._idle)  # whoever keeps the views may be slow, or not there at all
            else:
                pause = self._idle
            await self._rest(pause)

    async def _rest(self, pause: float) -> None:
        """Wait so long, or until woken, but never shorter than the pace."""
        await asyncio.sleep(self._pace)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause - self._pace)):
                await self._woken.wait()
