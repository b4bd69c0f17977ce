"""Serving GraphQL until somebody ends it: one process, requests under way are finished first."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from api.app import create_app
from api.logs import configure
from api.settings import Settings
from domain.kernel import Refused
from domain.store.casebook import House

GRACE_SECONDS = 20
"""How long requests that are under way may take to end when the server is stopped."""


class Server(uvicorn.Server):
    """Ends at SIGINT or SIGTERM and says so by returning, so that what stands around it is closed in order."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Listen for the two signals while serving."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    house: House, settings: Settings, port: int | None, *, wake: Callable[[], None], ready: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is told the address once it is bound; port 0 is any free one."""
    configure(settings.environment)
    with _bound(settings.host, settings.port if port is None else port) as listener:
        config = uvicorn.Config(
            create_app(settings, house, wake=wake),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        host, bound = listener.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/graphql")
        Server(config).run(sockets=[listener])


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
