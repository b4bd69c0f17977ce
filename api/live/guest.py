"""Who is at the other end of a connection: asked at the door when they come in, and again and again while they stay."""

from __future__ import annotations

import asyncio
import time

from api.access.doorkeeper import Doorkeeper
from api.access.roles import Principal
from api.live.feed import shared

FRESH_SECONDS = 1.0
"""No message leaves unless the token was looked at within this time."""


class Guest:
    """Whoever holds a token, as long as it opens something."""

    def __init__(self, doorkeeper: Doorkeeper, authorization: str | None, address: str) -> None:
        self._doorkeeper = doorkeeper
        self._authorization = authorization
        self._address = address
        self._principal: Principal | None = None
        self._looked = 0.0
        self._looking: asyncio.Task[Principal] | None = None

    async def principal(self, within: float = FRESH_SECONDS) -> Principal:
        """Who they are, with the posts they hold now, or did within so many seconds; raises Unauthenticated.

        Many may ask at once; the doorkeeper is asked once.
        """
        if self._principal is not None and time.monotonic() - self._looked <= within:
            return self._principal
        if self._looking is None or self._looking.done():
            self._looking = shared(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> Principal:
        began = time.monotonic()
        self._principal = None
        self._principal = await self._doorkeeper.principal(self._authorization, self._address)
        self._looked = began
        return self._principal
