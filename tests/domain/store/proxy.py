"""A wire between client and server that can be cut at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Self


class Cut(Enum):
    """When the wire breaks: before a request reaches the server, or after it was done, before its answer."""

    REQUEST = "request"
    ANSWER = "answer"


class Proxy:
    """Listens in `directory` like a PostgreSQL server and passes everything on to the real socket, until `cut`."""

    def __init__(self, directory: Path, server: str, port: str = "5432") -> None:
        self.cut: Cut | None = None
        self._server = f"{server}/.s.PGSQL.{port}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._wire, args=(client,), daemon=True).start()

    def _wire(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            answers = threading.Thread(target=self._pass, args=(server, client, Cut.ANSWER), daemon=True)
            answers.start()
            self._pass(client, server, Cut.REQUEST)
            answers.join()

    def _pass(self, source: socket.socket, sink: socket.socket, when: Cut) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.cut is when:
                    self.cut = None
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
