"""The application as a process of its own, served as `anjuan up` serves it, on a database of the test's."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import MASTER_KEY, Database

ROOT = Path(__file__).parents[2]
SECONDS = 60
SERVE = """
import sys
from api.serve import serve
from api.settings import Settings
from domain.store.casebook import House

with House(sys.argv[1], bytes.fromhex(sys.argv[2]), pool_timeout=5.0) as house:
    serve(house, Settings(_env_file=None), 0, wake=lambda: None, ready=lambda url: print(url, flush=True))
print("Stopped.", flush=True)
"""


@dataclass
class Served:
    """A process that serves; `errors` is what it says on standard error, line by line."""

    process: subprocess.Popen[str]
    url: str
    errors: list[str] = field(default_factory=list[str])
    _said: queue.Queue[str] = field(default_factory=lambda: queue.Queue[str]())

    @property
    def host(self) -> tuple[str, int]:
        """Where it listens."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    def get(self, path: str) -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.get(str(httpx.URL(self.url).join(path)), timeout=SECONDS)

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line of the log with this event."""
        while True:
            line = self._said.get(timeout=SECONDS)
            if line.startswith("{") and (said := json.loads(line))["event"] == event:
                return said

    def logged(self) -> list[dict[str, Any]]:
        """All lines of the log so far."""
        return [json.loads(line) for line in self.errors if line.startswith("{")]

    def ended(self) -> int:
        """The exit code, once the process has ended and all it said was read."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def peers(self) -> set[int]:
        """The ports of clients the process holds a connection with, whatever the kernel still keeps of others."""
        sockets: set[str] = set()
        for held in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(os.readlink(held).removeprefix("socket:[").removesuffix("]"))
        lines = [line.split() for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]]
        return {int(line[2].partition(":")[2], 16) for line in lines if line[9] in sockets}

    def read(self) -> None:
        """Read standard error beside the test."""

        def lines() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.errors.append(line)
                self._said.put(line)

        self._reader = threading.Thread(target=lines, daemon=True)
        self._reader.start()


@contextmanager
def served(database: Database, *, quiet: bool = False, **settings: Any) -> Generator[Served]:
    """Serve this database with these settings until the block ends; `quiet`: what it logs is not read."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANJUAN_", "DATABASE_"))}
    environment |= {f"ANJUAN_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-c", SERVE, database.app, MASTER_KEY.hex()]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        one = Served(process, url)
        if not quiet:
            one.read()
        assert url, one.ended()
        yield one
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
