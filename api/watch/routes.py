"""The routes of whoever looks after the process: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import secrets

from fastapi import Request, Response
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from api.access.doorkeeper import Doorkeeper, Unauthenticated
from api.access.roles import OVERSEERS, must_be_allowed, must_be_in_scope
from api.access.throttle import client_address
from api.edge.said import refused, said
from api.settings import Settings
from api.watch.health import Health
from api.watch.meters import Meters
from domain.credential import Scope
from domain.kernel import Refused


class Lookout:
    """What the three routes share."""

    def __init__(self, settings: Settings, health: Health, meters: Meters, doorkeeper: Doorkeeper) -> None:
        self._settings = settings
        self._token = settings.metrics_token
        self._health = health
        self._meters = meters
        self._doorkeeper = doorkeeper

    async def livez(self) -> Response:
        """The process runs."""
        return said({"live": True})

    async def readyz(self) -> Response:
        """The database answers, has this version's schema, and how far the views are behind at most; 503 if not.

        503 too from the moment the process is told to end.
        """
        ready, seen = await self._health.readiness()
        return said(seen, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The metrics, for the token of the setting and for people who oversee the house."""
        authorization = request.headers.get("authorization")
        if not self._scraper(authorization):
            try:
                address = client_address(request, self._settings.trusted_proxies)
                principal = await self._doorkeeper.principal(authorization, address)
                must_be_in_scope(principal, Scope.ASK)
                must_be_allowed(principal, OVERSEERS, "metrics")
            except Unauthenticated as problem:
                return refused(problem.status, problem.code, str(problem), headers=problem.headers)
            except Refused as problem:
                return refused(403, problem.code, problem.sentence)
            except (OperationalError, PoolTimeout):
                return refused(503, "store.away", "The database cannot be reached for now; use the metrics token.")
        await self._health.reading()
        page, media_type = self._meters.page(request.headers.get("accept"))
        return Response(page, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    def _scraper(self, authorization: str | None) -> bool:
        if self._token is None:
            return False
        scheme, _, token = (authorization or "").partition(" ")
        same = secrets.compare_digest(token.strip().encode(), self._token.get_secret_value().encode())
        return same and scheme.lower() == "bearer"
