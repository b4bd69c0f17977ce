"""Statements sent to PostgreSQL together and their answers as bytes, without a driver's row in between.

What is sent in one go is one transaction, ended by its sync: nothing is begun or committed, and a setting made local by
the first statement holds for those after it. There is one wait for all of it, however many pieces the answer comes in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

PREPARED_KEPT = 200
"""How many statements are kept prepared on one connection."""
CANCEL_SECONDS = 2.0
"""How long to wait for the server to hear that an answer is no longer wanted."""

Lines = list[list[bytes | None]]
Key = tuple[bytes, tuple[int, ...]]

_UNKNOWN, _BOOL, _INT8, _TEXTS, _TIMESTAMPTZ, _UUID, _UUIDS = 0, 16, 20, 1009, 1184, 2950, 2951
_QUOTED = re.compile(r'(["\\])')
_FORGOTTEN = frozenset({"26000", "0A000"})
"""SQLSTATEs of a prepared statement that is gone, or whose tables are others since."""
_names = count()
_prepared: WeakKeyDictionary[AsyncConnection[Any], dict[Key, bytes]] = WeakKeyDictionary()
"""The names of the statements each connection has prepared, those last used at the end."""


class Statement(NamedTuple):
    """A statement with its values as PostgreSQL reads them, and their types."""

    text: bytes
    values: Sequence[bytes | None]
    types: tuple[int, ...]


class Failed(Exception):
    """The server refused a statement, the one after those whose answers were `found`."""

    def __init__(self, problem: psycopg.Error, found: list[Lines]) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.found = found


class Unsendable(ValueError):
    """A value that no statement takes: a text with a NUL, or one that is no Unicode."""


def bound(text: bytes, values: Sequence[Any]) -> Statement:
    """A statement with these values. Raises Unsendable, and TypeError for a value of a type no statement has."""
    said = [_said(value) for value in values]
    return Statement(text, [value for value, _ in said], tuple([type_ for _, type_ in said]))


def _said(value: Any) -> tuple[bytes | None, int]:
    if isinstance(value, str):
        return _text(value).encode(), _UNKNOWN
    if isinstance(value, datetime):
        return value.isoformat().encode(), _TIMESTAMPTZ
    if isinstance(value, bool):
        return (b"t" if value else b"f"), _BOOL
    if isinstance(value, int):
        return b"%d" % value, _INT8
    if isinstance(value, UUID):
        return str(value).encode(), _UUID
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode(), _UNKNOWN
    if isinstance(value, list | tuple):
        several = cast("Sequence[Any]", value)
        if several and isinstance(several[0], UUID):
            return f"{{{','.join(map(str, several))}}}".encode(), _UUIDS
        words = ['"' + _QUOTED.sub(r"\\\1", _text(one)) + '"' for one in several]
        return ("{" + ",".join(words) + "}").encode(), _TEXTS
    if value is None:
        return None, _UNKNOWN
    raise TypeError(f"no statement takes {type(value).__name__}")


def _text(value: str) -> str:
    if "\0" in value:
        raise Unsendable("a text with a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unsendable("a text that is no Unicode") from None
    return value


async def ask(connection: AsyncConnection[Any], statements: Sequence[Statement]) -> list[Lines]:
    """The lines each statement answers, in one transaction and one round trip.

    Raises Failed for a statement the server refused, and OperationalError when the connection is lost; then, and when
    the wait is cut short, the connection is closed.
    """
    known = _prepared.setdefault(connection, {})
    try:
        return await _once(connection, statements, known)
    except Failed as failed:
        if failed.problem.sqlstate not in _FORGOTTEN or not known:
            raise
    # whoever else uses the connection may have had its statements forgotten; these only read, so they are sent again
    await connection.execute("DEALLOCATE ALL")
    known.clear()
    return await _once(connection, statements, known)


async def _once(
    connection: AsyncConnection[Any], statements: Sequence[Statement], known: dict[Key, bytes]
) -> list[Lines]:
    exchange = _Exchange(connection, known)
    ended = False
    try:
        await exchange.run(statements)
        connection.pgconn.exit_pipeline_mode()
        ended = True
    finally:
        if not ended:
            await _abandon(connection)
    if exchange.problem is not None:
        raise Failed(exchange.problem, exchange.found)
    return exchange.found


async def _abandon(connection: AsyncConnection[Any]) -> None:
    """Tell the server to stop, and close: what still comes is nobody's answer."""
    if connection.pgconn.status == ConnStatus.OK:
        with suppress(psycopg.Error, OSError):
            await connection.cancel_safe(timeout=CANCEL_SECONDS)
    await connection.close()


class _Exchange:
    """One round trip."""

    def __init__(self, connection: AsyncConnection[Any], known: dict[Key, bytes]) -> None:
        self._pgconn = connection.pgconn
        self._known = known
        self._awaited: list[tuple[Key, bytes] | bool] = []
        """What each command is: a statement being prepared, or whether its answer is one of those asked for."""
        self.found: list[Lines] = []
        self.problem: psycopg.Error | None = None

    async def run(self, statements: Sequence[Statement]) -> None:
        """Send all and wait for the sync. Raises OperationalError when the connection is lost."""
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for one in statements:
            pgconn.send_query_prepared(self._name(one), one.values)
            self._awaited.append(True)
        self._awaited.reverse()
        pgconn.pipeline_sync()
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        socket = pgconn.socket
        if pgconn.flush():
            loop.add_writer(socket, self._write, loop, socket)
        loop.add_reader(socket, self._read)
        try:
            await self._done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)

    def _name(self, one: Statement) -> bytes:
        """The name it is prepared under, prepared now if it is not yet."""
        key = one.text, one.types
        name = self._known.pop(key, None)
        if name is None:
            if len(self._known) >= PREPARED_KEPT:
                oldest = self._known.pop(next(iter(self._known)))
                self._pgconn.send_query_params(b"DEALLOCATE " + oldest, None)
                self._awaited.append(False)
            name = b"anjuan_plan_%d" % next(_names)
            self._pgconn.send_prepare(name, one.text, one.types)
            self._awaited.append((key, name))
        self._known[key] = name
        return name

    def _write(self, loop: asyncio.AbstractEventLoop, socket: int) -> None:
        try:
            if not self._pgconn.flush():
                loop.remove_writer(socket)
        except psycopg.Error as problem:
            self._lost(problem)

    def _read(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while not self._done.done() and not pgconn.is_busy():
                self._take(pgconn.get_result())
        except psycopg.Error as problem:
            self._lost(problem)

    def _take(self, result: PGresult | None) -> None:
        if result is None:  # between two commands
            return
        status = result.status
        if status == ExecStatus.PIPELINE_SYNC:
            self._done.set_result(None)
            return
        what = self._awaited.pop() if self._awaited else False
        if status == ExecStatus.TUPLES_OK:
            width = range(result.nfields)
            self.found.append([[result.get_value(n, place) for place in width] for n in range(result.ntuples)])
        elif status != ExecStatus.COMMAND_OK:
            if isinstance(what, tuple):
                self._known.pop(what[0], None)
            if self.problem is None and status != ExecStatus.PIPELINE_ABORTED:
                self.problem = error_from_result(result)

    def _lost(self, problem: psycopg.Error) -> None:
        if not self._done.done():
            self._done.set_exception(problem)
