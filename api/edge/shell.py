"""What surrounds every route: ids for the logs, other sites' requests (CORS), HEAD, headers, compression.

An ASGI application around the application, so that no answer leaves without it: not that of a path nobody serves, nor
that of a fault. Streams pass as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from api.edge.coding import GZIP, coding_for, packed
from api.edge.fault import presentable, wrapped
from api.edge.request_id import ids_of_client
from api.edge.said import refused, said
from api.settings import Environment, Settings
from api.watch.account import account

SECURE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer."""
CLOSED = "default-src 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page; a page says its own."""
FRAMELESS = "frame-ancestors 'none'"
PREFLIGHT_SECONDS = 600
_ASKED_BY_OTHERS = "authorization, content-type, content-encoding, if-none-match, x-purpose, x-request-id, traceparent"
_SHOWN_TO_OTHERS = "etag, x-correlation-id, retry-after, www-authenticate"


class Shell:
    """Serves `app`, with all that every answer has in common."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origins = frozenset(settings.origins)
        self._packs_from = settings.compress_bytes_min
        self._develops = settings.environment is Environment.DEVELOPMENT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        correlation = account().correlation
        bind_contextvars(correlation=correlation, **ids_of_client(headers))
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = headers.get("origin")
        answer = _Answer(
            send,
            head=scope["method"] == "HEAD",
            options=scope["method"] == "OPTIONS",
            more={"x-correlation-id": correlation, **self._leave(origin)},
            coding=coding_for(headers.get("accept-encoding")),
            packs_from=self._packs_from,
        )
        if answer.options and "access-control-request-method" in headers:
            await self._preflight(origin)(scope, receive, answer.send)
            return
        try:
            await self._app({**scope, "method": "GET"} if answer.head else scope, receive, answer.send)
        except Exception as problem:
            if answer.begun:
                raise
            error = presentable(wrapped(problem), correlation, at_length=self._develops)
            account().refused("internal")
            await said({"errors": [error]}, 500)(scope, receive, answer.send)

    def _leave(self, origin: str | None) -> dict[str, str]:
        """The headers by which a browser lets another site read the answer."""
        if not self._origins:
            return {}
        if origin is None or origin.lower() not in self._origins:
            return {"vary": "Origin"}
        return {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _SHOWN_TO_OTHERS,
        }

    def _preflight(self, origin: str | None) -> ASGIApp:
        """What a browser asks before it sends another site's request. Never with credentials: there are no cookies."""
        if origin is None or origin.lower() not in self._origins:
            return refused(
                403,
                code="request.origin",
                sentence="Pages of this origin may not ask here; an operator may allow it (setting `origins`).",
            )
        return said(
            None,
            204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": _ASKED_BY_OTHERS,
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            },
        )


@dataclass
class _Answer:
    """The answer on its way out: its start is held until it is known whether all of it is there."""

    to: Send
    head: bool
    options: bool
    more: Mapping[str, str]
    coding: str
    packs_from: int
    begun: bool = field(default=False, init=False)
    _start: Message | None = field(default=None, init=False)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body":
            await self.to(message)
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._start is not None:
            body = await self._begin(self._start, body, whole=not more)
            self._start = None
        if not self.head:
            await self.to({"type": "http.response.body", "body": body, "more_body": more})
        elif not more:
            await self.to({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, start: Message, body: bytes, *, whole: bool) -> bytes:
        """Send the start; the body as it leaves."""
        self.begun = True
        headers = MutableHeaders(raw=list(start["headers"]))
        if self.options and start["status"] == 405:
            allowed = {*(word.strip() for word in headers.get("allow", "").split(",")), "HEAD", "OPTIONS"}
            start, body = {**start, "status": 204}, b""
            headers["allow"] = ", ".join(sorted(allowed - {""}))
            for name in ("content-length", "content-type"):
                del headers[name]
        for name, value in {**SECURE, **self.more}.items():
            if name == "vary":
                headers.add_vary_header(value)
            else:
                headers[name] = value
        if "content-security-policy" not in headers:
            page = headers.get("content-type", "").startswith("text/html")
            headers["content-security-policy"] = FRAMELESS if page else CLOSED
        if whole and body and self.packs_from:
            body = self._packed(headers, body)
        await self.to({**start, "headers": headers.raw})
        return body

    def _packed(self, headers: MutableHeaders, body: bytes) -> bytes:
        if "content-encoding" in headers or "no-transform" in headers.get("cache-control", ""):
            return body
        if not packable(len(body), self.packs_from):
            return body
        headers.add_vary_header("Accept-Encoding")
        if self.coding != GZIP:
            return body
        body = packed(body)
        headers["content-encoding"] = GZIP
        headers["content-length"] = str(len(body))
        return body


def packable(size: int, packs_from: int) -> bool:
    """Whether an answer of so many bytes is compressed for whoever accepts it; `packs_from` 0 is never."""
    return 0 < packs_from <= size
