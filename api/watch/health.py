"""Whether the process can serve: database, schema, views; looked at once a second at most, however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.context import in_thread
from domain.store.casebook import House
from migrations.runner import check
from migrations.script import MigrationError
from projections.tracking import Lag, lag_on
from projections.view import View

FRESH_SECONDS = 1.0
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 3

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.edge")


@dataclass(frozen=True)
class Reading:
    """What was seen: whether all is well, in words for whoever asks, and how far every view is in every institution."""

    ready: bool
    database: str
    schema: str | None = None
    lags: Sequence[Lag] = ()

    def said(self) -> dict[str, Any]:
        """For `/readyz`: names no institution."""
        said: dict[str, Any] = {"ready": self.ready, "database": self.database}
        if self.schema is not None:
            said["schema"] = self.schema
        if self.ready:
            worst: dict[str, dict[str, Any]] = {}
            for one in self.lags:
                known = worst.setdefault(one.view, {"behind": 0, "parked": 0, "followed": one.alive})
                known["behind"] = max(known["behind"], one.behind)
                known["parked"] += one.parked
            said["views"] = worst
        return said


class Health:
    """Looks on a connection of its own, so that neither busy pools nor probes get into each other's way."""

    def __init__(self, house: House, views: Sequence[View[Any]]) -> None:
        self.draining = False
        """Set when the process has been told to end: from then on it is not ready."""
        self._house = house
        self._views = views
        self._looking = asyncio.Lock()
        self._last: tuple[float, Reading] | None = None

    async def reading(self) -> Reading:
        """What is seen now, or was seen less than a second ago. Never raises."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._last[0] >= FRESH_SECONDS:
                self._last = None
                seen = await in_thread(self._look)
                self._last = time.monotonic(), seen
            return self._last[1]

    def latest(self) -> Reading | None:
        """What was seen last, if anything."""
        return None if self._last is None else self._last[1]

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests should be sent here, and why not."""
        if self.draining:
            return False, {"ready": False, "draining": True}
        seen = await self.reading()
        return seen.ready, seen.said()

    def _look(self) -> Reading:
        try:
            return self._looked()
        except Exception as problem:
            _log.warning("not ready", error=type(problem).__name__)
            return Reading(ready=False, database="away")

    def _looked(self) -> Reading:
        brief = (
            f"{conninfo_to_dict(self._house.runner_conninfo).get('options') or ''}"
            f" -c statement_timeout={STATEMENT_SECONDS}s"
        )
        conninfo = make_conninfo(self._house.runner_conninfo, options=brief, connect_timeout=CONNECT_SECONDS)
        try:
            check(conninfo)
        except MigrationError:
            return Reading(ready=False, database="here", schema="other than this version's; run `anjuan migrate`")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            lags = lag_on(connection, self._views)
        return Reading(ready=True, database="here", schema="this version's", lags=lags)
