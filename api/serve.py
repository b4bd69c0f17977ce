"""Serving GraphQL until somebody ends it: one process, requests under way are finished first.

At the first signal the process says on `/readyz` that it ends, for `drain_seconds`; then it takes no more connections
and finishes what is under way. What is not finished after `grace_seconds` is rolled back and told so. A second signal
ends it at once, which loses nothing: what was acknowledged is stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.edge.connection import connection_with
from api.logs import configure
from api.settings import Settings
from domain.kernel import Refused
from domain.store.casebook import House

LAST_SECONDS = 5
"""How long requests have, after what they do was rolled back, to say so."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.serve")


class Server(uvicorn.Server):
    """Ends at SIGINT or SIGTERM and says so by returning, so that what stands around it is closed in order."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings, house: House) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._house = house
        self._draining: asyncio.TimerHandle | None = None
        self._told = False

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Listen for the two signals while serving."""
        loop = asyncio.get_running_loop()

        def told(number: int, _: FrameType | None) -> None:
            if self._told:
                # no cleaning up: a thread may be in a statement that does not end
                sys.stderr.write("Ended at once; what was acknowledged is stored.\n")
                sys.stderr.flush()
                os._exit(128 + number)
            self._told = True
            loop.call_soon_threadsafe(self._drain)

        before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _drain(self) -> None:
        self._app.state.health.draining = True
        seconds = self._settings.drain_seconds
        _log.info("ending", drain_seconds=seconds, grace_seconds=self._settings.grace_seconds)
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, finish what is under way, roll back what is not finished in time."""
        late = asyncio.create_task(self._interrupt())
        try:
            await self._app.state.live.end()  # before uvicorn waits for streams that do not end by themselves
            await super().shutdown(sockets)
        finally:
            late.cancel()

    async def _interrupt(self) -> None:
        await asyncio.sleep(self._settings.grace_seconds)
        _log.warning("not finished in time", requests=len(self.server_state.tasks))
        await asyncio.to_thread(self._house.interrupt)


def serve(
    house: House, settings: Settings, port: int | None, *, wake: Callable[[], None], ready: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is told the address once it is bound; port 0 is any free one."""
    configure(settings.environment)
    with _bound(settings.host, settings.port if port is None else port) as listener:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # the kernel's part: forget a subscriber who reads nothing, with what was still to be sent to them
            unread = int(settings.live_stall_seconds * 2000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
        app = create_app(settings, house, wake=wake)
        config = uvicorn.Config(
            app,
            http=connection_with(settings.head_seconds),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whose X-Forwarded-For is believed says ANJUAN_TRUSTED_PROXIES, and nothing else
            ws_max_size=settings.live_message_bytes_max,
            ws_per_message_deflate=False,  # it would be done again for each subscriber of the same message
            ws_ping_interval=None,  # subscribers are pinged by the protocol above, which browsers can answer, too
            timeout_graceful_shutdown=int(settings.grace_seconds) + LAST_SECONDS,
        )
        host, bound = listener.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/graphql")
        Server(config, app, settings, house).run(sockets=[listener])


@contextmanager
def _bound(host: str, port: int) -> Generator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise Refused("serve.address", f"{host} is no address of this machine ({problem}); see ANJUAN_HOST.") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as problem:
            sentence = f"{host}:{port} cannot be served ({problem.strerror}); choose another port with --port."
            raise Refused("serve.port", sentence, field="port") from None
        listener.listen(1024)
        yield listener
