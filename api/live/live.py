"""The live side of `/graphql`: subscriptions over WebSocket and server-sent events, on one watch of positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from urllib.parse import urlsplit

from fastapi import Request, WebSocket
from starlette.datastructures import Headers
from starlette.responses import Response

from api.access.doorkeeper import Doorkeeper
from api.access.throttle import client_address
from api.context import Reach, in_thread
from api.edge.asked import Unacceptable, asked_by
from api.edge.documents import Documents
from api.edge.said import refused
from api.limits import Gate
from api.live.events import MEDIA_TYPE, EventStream
from api.live.feed import Feed
from api.live.guest import Guest
from api.live.hall import Hall
from api.live.operation import Subscriptions
from api.live.watcher import Watcher
from api.live.websocket import PROTOCOL, Close, Connection
from api.schema import Schema
from api.watch.account import account
from domain.kernel import Refused
from projections.changes import Positions, positions
from projections.views import VIEWS

AGAIN_SECONDS = 5
"""When to come again after the process had no room."""


class Live:
    """What the connections of one process share."""

    def __init__(
        self,
        reach: Reach,
        schema: Schema,
        gate: Gate,
        documents: Documents,
        doorkeeper: Doorkeeper,
        clock: Callable[[], datetime],
        streams: Callable[[], None],
    ) -> None:
        self._reach = reach
        self._streams = streams
        self._settings = reach.settings
        self._doorkeeper = doorkeeper
        self.watcher = Watcher(
            self._positions, idle=reach.settings.live_poll_seconds, pace=reach.settings.live_pace_seconds
        )
        self.hall = Hall(reach.settings)
        self._subscriptions = Subscriptions(reach, schema, gate, documents, Feed(self.watcher), clock)

    async def _positions(self, institutions: Sequence[str]) -> list[Positions]:
        def look() -> list[Positions]:
            with self._reach.house.everywhere.connection() as connection:
                return positions(connection, institutions, list(VIEWS))

        return await in_thread(look)

    async def websocket(self, websocket: WebSocket) -> None:
        """A client that would speak `graphql-transport-ws`."""
        if not self._at_home(websocket.headers):
            sentence = "Pages of this origin may not subscribe here; an operator may allow it (origins)."
            await websocket.send_denial_response(refused(403, code="request.origin", sentence=sentence))
        elif self.hall.full:
            await websocket.send_denial_response(self._no_room())
        elif PROTOCOL not in websocket.scope["subprotocols"]:
            await websocket.accept()
            await websocket.close(Close.SUBPROTOCOL, "Subprotocol not acceptable")
        else:
            await websocket.accept(PROTOCOL)
            connection = Connection(websocket, self._settings, self._doorkeeper, self.hall, self._subscriptions)
            await connection.serve()

    async def events(self, request: Request) -> Response:
        """The answer to a request for server-sent events; raises Unauthenticated and Unacceptable."""
        address = client_address(request, self._settings.trusted_proxies)
        guest = Guest(self._doorkeeper, request.headers.get("authorization"), address)
        principal = await guest.principal()
        said = account()
        said.kind, said.institution, said.staff = "subscription", principal.institution, principal.staff_id
        asked = await asked_by(request, self._settings.body_bytes_max)
        if self.hall.full:
            return self._no_room()
        seat = ExitStack()
        try:
            seat.enter_context(self.hall.seat(principal))
        except Refused as problem:
            raise Unacceptable(429, problem.code, problem.sentence, Retry_After=str(AGAIN_SECONDS)) from None
        self._streams()
        purpose = request.headers.get("x-purpose")
        return EventStream(asked, purpose, guest, seat, self._settings, self.hall, self._subscriptions)

    def wake(self) -> None:
        """This process appended something."""
        self.watcher.wake()

    async def end(self) -> None:
        """Tell every client to come back later, and end."""
        await self.hall.end()
        await self.watcher.stop()

    def _no_room(self) -> Response:
        return refused(
            503,
            code="limit.live",
            sentence="There is no room for another subscriber now; come again in a moment.",
            headers={"Retry-After": str(AGAIN_SECONDS)},
        )

    def _at_home(self, headers: Headers) -> bool:
        """Whether a browser's page of this origin may connect: ours, or one that an operator allowed.

        Browsers let any page open a WebSocket anywhere and read it. Tokens are never in cookies, so there is nothing to
        ride on; a page that was given a token by somebody still has to be one of ours.
        """
        origin = headers.get("origin")
        if origin is None:
            return True  # no browser
        ours = urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        return ours or origin.lower() in self._settings.origins


def wants_events(request: Request) -> bool:
    """Whether the answer is to be a stream of events."""
    return MEDIA_TYPE in request.headers.get("accept", "")
