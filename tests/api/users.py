"""Users of an embedded server, and what is seen of its processes from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psycopg

from api.embedded import Embedded

ROOT = Path(__file__).parents[2]
USER = """
import sys
from pathlib import Path
import psycopg
from api.embedded import Embedded

with Embedded(Path(sys.argv[1])) as server, psycopg.connect(server.owner_conninfo, autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS public.fact (number bigint)")
    number = 0
    while True:
        number += 1
        connection.execute("INSERT INTO public.fact VALUES (%s)", [number])
        print(number, flush=True)
        if len(sys.argv) > 2:
            sys.stdin.read()
            break
"""
"""A user of its own: records facts and says each number once it is acknowledged; with a second argument, only one."""


@contextlib.contextmanager
def user(directory: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", USER, str(directory), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[str], count: int) -> int:
    assert process.stdout is not None
    number = 0
    for _ in range(count):
        number = int(process.stdout.readline())
    return number


def facts(server: Embedded) -> set[int]:
    with psycopg.connect(server.owner_conninfo) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM public.fact")}


def postmaster(server: Embedded) -> int:
    return int((server.cluster.data / "postmaster.pid").read_text().split()[0])


def guardian(server: Embedded) -> int:
    status = Path(f"/proc/{postmaster(server)}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def begun(server: Embedded) -> object:
    """When the server was started: another time is another server."""
    with psycopg.connect(server.app_conninfo) as connection:
        return connection.execute("SELECT pg_postmaster_start_time()").fetchone()


def processes(directory: Path) -> list[int]:
    """Servers of this directory with all their processes, and guardians."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            works_there = Path(os.readlink(process / "cwd")).is_relative_to(directory)
            if works_there or (b"guardian.py" in words and os.fsencode(directory) in words):
                found.append(int(process.name))
    return found


def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's own time limit ends a wait in vain
        time.sleep(0.02)
