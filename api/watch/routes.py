"""The routes of whoever looks after the process: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
from fastapi import Request, Response
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from api.access.doorkeeper import Doorkeeper, Unauthenticated
from api.access.roles import OVERSEERS
from api.chinese import SENTENCES
from api.settings import Settings
from api.watch.health import Health
from api.watch.meters import Meters


class Lookout:
    """What the three routes share."""

    def __init__(self, settings: Settings, health: Health, meters: Meters, doorkeeper: Doorkeeper) -> None:
        self._token = settings.metrics_token
        self._health = health
        self._meters = meters
        self._doorkeeper = doorkeeper

    async def livez(self) -> Response:
        """The process runs."""
        return _json(200, {"live": True})

    async def readyz(self) -> Response:
        """The database answers, has this version's schema, and how far the views are behind at most; 503 if not.

        503 too from the moment the process is told to end.
        """
        ready, said = await self._health.readiness()
        return _json(200 if ready else 503, said)

    async def metrics(self, request: Request) -> Response:
        """The metrics, for the token of the setting and for people who oversee the house."""
        authorization = request.headers.get("authorization")
        if not self._scraper(authorization):
            try:
                principal = await self._doorkeeper.principal(authorization)
            except Unauthenticated as problem:
                return _refused(problem.status, problem.code, str(problem), problem.headers)
            except (OperationalError, PoolTimeout):
                return _refused(503, "store.away", "The database cannot be reached for now; use the metrics token.")
            if not principal.roles & OVERSEERS:
                sentence = f"Your posts do not allow metrics; ask {' or '.join(sorted(OVERSEERS))}."
                return _refused(403, "access.role", sentence)
        await self._health.reading()
        page, media_type = self._meters.page(request.headers.get("accept"))
        return Response(page, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    def _scraper(self, authorization: str | None) -> bool:
        if self._token is None:
            return False
        scheme, _, token = (authorization or "").partition(" ")
        same = secrets.compare_digest(token.strip().encode(), self._token.get_secret_value().encode())
        return same and scheme.lower() == "bearer"


def _json(status: int, said: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(said),
        status_code=status,
        media_type="application/json; charset=utf-8",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _refused(status: int, code: str, sentence: str, headers: dict[str, str] | None = None) -> Response:
    said = {"message": sentence, "extensions": {"code": code, "sentenceZh": SENTENCES[code]}}
    return _json(status, {"errors": [said]}, headers)
