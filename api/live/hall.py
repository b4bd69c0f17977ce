"""Who is connected: how many may be, in all and of one person, and telling all of them that the process ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from uuid import UUID

from api.access.roles import Principal
from api.settings import Settings
from domain.kernel import Refused

END_SECONDS = 5.0
"""How long connections have to end when the process does."""


class Hall:
    """The connections of one process that subscriptions are carried on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inside: set[Callable[[], None]] = set()
        self._named: set[Callable[[], None]] = set()
        self._nameless: dict[Callable[[], None], Callable[[], None]] = {}
        self._of: Counter[tuple[str, UUID]] = Counter()
        self._empty = asyncio.Event()
        self.ending = False

    def __len__(self) -> int:
        return len(self._inside)

    @property
    def full(self) -> bool:
        """Whether nobody else can be let in. Whoever has not said who they are takes nobody's room."""
        return self.ending or len(self._named) >= self._settings.live_connections_max

    @contextmanager
    def nameless(self, leave: Callable[[], None], make_room: Callable[[], None]) -> Generator[Callable[[], None]]:
        """Count a connection whose client has not said who they are; call what this gives once they have.

        There are as many places as for those who have. When they are taken, whoever has waited longest makes room, so
        that a crowd of strangers keeps out nobody who says at once who they are.
        """
        if len(self._nameless) >= self._settings.live_connections_max:
            self._nameless.pop(next(iter(self._nameless)))()
        self._nameless[leave] = make_room

        def named() -> None:
            self._nameless.pop(leave, None)
            self._named.add(leave)

        with self.inside(leave, named=False):
            try:
                yield named
            finally:
                self._nameless.pop(leave, None)

    @contextmanager
    def inside(self, leave: Callable[[], None], *, named: bool = True) -> Generator[None]:
        """Count a connection as long as this lasts; `leave` is called when the process ends."""
        self._inside.add(leave)
        if named:
            self._named.add(leave)
        try:
            yield
        finally:
            self._inside.discard(leave)
            self._named.discard(leave)
            if not self._inside:
                self._empty.set()

    @contextmanager
    def seat(self, who: Principal) -> Generator[None]:
        """Count a connection of this person as long as this lasts; refused when they have too many."""
        person = (who.institution, who.staff_id)
        if self._of[person] >= self._settings.live_person_max:
            raise Refused(
                "limit.connections",
                f"You have {self._of[person]} connections for subscriptions; close one, or put more on each.",
            )
        self._of[person] += 1
        try:
            yield
        finally:
            self._of[person] -= 1
            if not self._of[person]:
                del self._of[person]

    async def end(self) -> None:
        """Tell everybody to leave, and wait until they have, at most END_SECONDS."""
        self.ending = True
        self._empty.clear()
        for leave in list(self._inside):
            leave()
        if self._inside:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._empty.wait()
