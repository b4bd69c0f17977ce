"""A client's connection, with a limit on how long it may take over everything it does.

uvicorn times a connection only between two requests. Here one that does not finish a request's head, that sends bytes
which begin no request, or that stops reading its answer is ended too, so nobody holds connections for nothing. The
body's time is `api.edge.admission`'s.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LATE_SECONDS = 0.1
"""How long what is late is waited for once more."""


class Connection(HttpToolsProtocol):
    """One connection; `head_seconds` is how long a request's head may take, and each step of reading an answer."""

    head_seconds = 10.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: TimerHandle | None = None
        self._reading: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        self._has_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is None and not self.transport.is_closing() and self._idle():
            self._expect_head()  # bytes that begin no request, or a head that is not whole

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._head_is_here()
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()  # closing waits for the client to read what is left

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()  # whoever answers waits from now on

    def resume_writing(self) -> None:
        self._has_read()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reading()

    def _idle(self) -> bool:
        upgraded = self.transport.get_protocol() is not self
        cycle = self.cycle
        # uvicorn says a cycle is always there; before the first request it is None
        return not upgraded and (cycle is None or cycle.response_complete)  # pyright: ignore[reportUnnecessaryComparison]

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        # a busy loop may hear of the time before it hears of what has arrived
        self._head = self.loop.call_later(LATE_SECONDS, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _expect_reading(self) -> None:
        self._has_read()
        left = self.transport.get_write_buffer_size()
        if left:
            self._reading = self.loop.call_later(self.head_seconds, self._look, left)

    def _look(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._expect_reading()

    def _has_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def connection_with(head_seconds: float) -> type[Connection]:
    """The kind of connection with this limit; uvicorn wants a class."""
    return type("LimitedConnection", (Connection,), {"head_seconds": head_seconds})
