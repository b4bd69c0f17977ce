"""What subscriptions follow: step by step from a position, each step read once for all who stand at the same place.

A step says what happened after a position, up to another. It is read from the views when somebody needs it, so whoever
comes back with a position is given the same as whoever never left. Steps are kept for a moment only, for the others
who are about to ask for the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from api.live.watcher import Watcher
from projections.view import View

T = TypeVar("T")
M = TypeVar("M", bound="Message")
R = TypeVar("R", bound="Placed")

KEPT_SECONDS = 1.0
"""How long a step may be given to somebody else: rows are shown as they are now, give or take this."""
KEPT_MAX = 200
"""More than one tick of subscriptions that have nothing in common need not be kept: nobody else asks for them."""
AWAY_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""How long a subscription waits for a database that went away before it ends; it can be resumed."""


QUIET_EVENTS = 1_000
"""After so many events of which nothing was said, a position alone is said."""


class Placed(Protocol):
    """Whatever happened at a position."""

    @property
    def position(self) -> int: ...


class Message:
    """What one message of a subscription says. Equal subscriptions are given the same object."""

    position: Any

    @cached_property
    def said(self) -> dict[Hashable, asyncio.Task[Any]]:
        """The message as it was said already, by what it was asked with."""
        return {}


@dataclass(frozen=True)
class Step(Generic[M]):
    """All there is to say after one position and up to another."""

    upto: int
    messages: Sequence[M]


def pages(rows: Sequence[R], most: int, upto: int) -> list[tuple[list[R], int]]:
    """These rows in messages of at most so many, each with its position; the last says how far all of them go."""
    parts = [list(rows[n : n + most]) for n in range(0, len(rows), most)]
    ends = [part[-1].position for part in parts[:-1]] + [upto]
    return list(zip(parts, ends, strict=False))


class Feed:
    """What the subscriptions of one process share."""

    def __init__(self, watcher: Watcher, clock: Callable[[], float] = time.monotonic) -> None:
        self.watcher = watcher
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def once(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `read` gives; read once for all who ask with this key at about the same time."""
        now = self._clock()
        known = self._kept.get(key)
        if known is None or now - known[0] > KEPT_SECONDS:
            self._forget(now)
            known = self._kept[key] = now, shared(read())
        try:
            return await asyncio.shield(known[1])
        except Exception:
            if self._kept.get(key) is known:
                del self._kept[key]
            raise

    async def follow(
        self,
        institution: str,
        views: Sequence[View[Any]],
        after: int,
        read: Callable[[int, int], Awaitable[Step[M]]],
        *,
        bare: Callable[[int], M] | None = None,
    ) -> AsyncGenerator[M]:
        """Every message after a position, as soon as these views have read what it says; never ends by itself.

        `read(after, upto)` gives the next step, which may be shorter. `bare` makes a message that says a position and
        nothing else; there is one after QUIET_EVENTS of which nothing was to be said, so that whoever resumes need not
        go over all of them again.
        """
        said = after
        with self.watcher.following(institution) as place:
            while True:
                upto = await place.beyond(views, after)
                step = await patiently(lambda after=after, upto=upto: read(after, upto))
                for message in step.messages:
                    yield message
                if step.messages:
                    said = step.upto
                elif bare is not None and step.upto - said >= QUIET_EVENTS:
                    said = step.upto
                    yield bare(said)
                if step.upto <= after:  # the views know less than a moment ago: the log was set back
                    await place.moved()
                after = max(after, step.upto)

    def _forget(self, now: float) -> None:
        """Forget what is too old, and the oldest if there is too much; the dictionary is in order of age."""
        for key, (at, _) in list(self._kept.items()):
            if now - at <= KEPT_SECONDS and len(self._kept) < KEPT_MAX:
                break
            del self._kept[key]


def shared(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Work that several wait for and none of them ends by leaving."""
    task = asyncio.create_task(work)
    # what went wrong is said to those who wait; when all have left there is nobody to say it to
    task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    return task


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again while the database is away, for PATIENCE_SECONDS at most. A question that took too long is not."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except psycopg.errors.QueryCanceled:
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(AWAY_SECONDS)
