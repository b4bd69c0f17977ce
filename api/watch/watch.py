"""Watches every request from outside: one line in the log and one count in the metrics when it is over.

A command has said its own line by then (`api.command`), so only its counts are added. Requests that were shed because
of too much load are counted one by one, and said together, once a second: a flood is no reason to fill a disk.
"""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.watch.account import ANSWERED, Account, begin
from api.watch.meters import Meters

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by programs: neither logged nor counted."""
SHED_SECONDS = 1.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.request")


class Watch:
    """An ASGI middleware; the outermost, so that its account is there for all others."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters
        self._shed = 0
        self._shed_said = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        said = begin()
        status = 0

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, heard)
        except Exception:
            status, said.code = 500, "internal"
            raise
        finally:
            self._meters.request(scope["path"], status, said)
            self._say(scope, status, said)

    def _say(self, scope: Scope, status: int, said: Account) -> None:
        if said.shed:
            self._shed += 1
            now = time.monotonic()
            if now - self._shed_said >= SHED_SECONDS:
                _log.warning("shed", code=said.code, requests=self._shed)
                self._shed, self._shed_said = 0, now
        elif not said.commands:
            _log.info(
                "answered" if said.code == ANSWERED and 0 < status < 400 else "refused" if status else "abandoned",
                method=scope["method"],
                path=self._meters.route(scope["path"]),
                operation=said.operation,
                code=said.code,
                status=status,
                milliseconds=round(said.seconds * 1000, 1),
                cost=said.cost,
                road=said.road,
                institution=said.institution,
                staff=None if said.staff is None else str(said.staff),
                correlation=said.correlation,
            )
