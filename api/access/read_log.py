"""The log of reads: an answer with personal data leaves only once it is stored who saw whose data, and why (B22, B25).

A request collects what it shows unmasked in `Reads`. Before its answer leaves, `ReadLog.store` makes that durable or
raises `ReadLogAway`, and then nothing leaves. One task per process writes for all that wait: they share one transaction
and one flush to disk. No personal value is ever in the log, only which columns of whom were shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Any, LiteralString
from urllib.parse import unquote
from uuid import UUID

import orjson
import psycopg
import structlog
from psycopg import AsyncConnection

from api.plan import wire
from api.plan.wire import Statement, bound
from domain.kernel import Refused, text

PURPOSE_LENGTH_MAX = 200
GLASS_PURPOSE = "紧急查看 break-glass"
"""The purpose of a look through a broken glass that says none; its reason is with the glass."""
OPERATION_LENGTH_MAX = 200
APPLICATION_NAME = "anjuan-read-log"
"""What the writer's connection is called in `pg_stat_activity`."""
ENTRIES_MAX = 1_000
"""How many entries are stored in one transaction."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.read_log")


class Road(StrEnum):
    """How an answer left."""

    QUESTION = "question"
    COMMAND = "command"
    SUBSCRIPTION = "subscription"


class ReadLogAway(Refused):
    """The log of reads cannot be written, so nothing personal may leave."""

    def __init__(self) -> None:
        super().__init__(
            code="read_log.away",
            sentence="Reads of personal data cannot be logged for now, so nothing is shown; ask again in a moment."
            " A command you sent may be stored: send it again with the same command id, it is done once.",
        )


@dataclass(frozen=True)
class Asking:
    """What is logged of the request: the SHA-256 of its document, the operation's name, its road and its purpose."""

    document: bytes
    operation: str | None = None
    road: Road = Road.QUESTION
    purpose: str | None = None

    @staticmethod
    def of(document: str, operation: str | None, road: Road, purpose: str | None) -> Asking:
        """The same for a document in words."""
        return Asking(hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest(), operation, road, purpose)


UNSAID = Asking(bytes(32))
"""Of a request that has no document."""


@dataclass(frozen=True)
class Shown:
    """Columns of one view shown unmasked, whose data it was, and the broken glass that allowed it, if one did."""

    view: str
    columns: tuple[str, ...]
    subjects: tuple[UUID, ...]
    glass: UUID | None = None


_number = attrgetter("int")
"""What ids are ordered by; comparing ids themselves is slow."""


@dataclass
class Reads:
    """What one request has shown and not yet logged."""

    _seen: dict[tuple[str, str, UUID | None], set[UUID]] = field(
        default_factory=dict[tuple[str, str, "UUID | None"], set[UUID]]
    )

    def __bool__(self) -> bool:
        return bool(self._seen)

    def add(self, view: str, columns: str | Iterable[str], subjects: Iterable[UUID], glass: UUID | None = None) -> None:
        """These columns of these people were shown."""
        whose = tuple(subjects)
        if whose:
            for column in [columns] if isinstance(columns, str) else columns:
                self._seen.setdefault((view, column, glass), set()).update(whose)

    def include(self, other: Reads) -> None:
        """The same was shown here: for a message that was made once and is sent to several readers."""
        for key, subjects in other._seen.items():
            self._seen.setdefault(key, set()).update(subjects)

    def taken(self) -> list[Shown]:
        """All of it, columns shown of the same people together; and none is left."""
        together: list[tuple[str, UUID | None, set[UUID], list[str]]] = []
        for (view, column, glass), subjects in self._seen.items():
            for of_view, by_glass, whose, columns in together:
                # sets are compared without hashing their members again
                if (of_view, by_glass) == (view, glass) and whose == subjects:
                    columns.append(column)
                    break
            else:
                together.append((view, glass, subjects, [column]))
        self._seen.clear()
        return [
            Shown(view, tuple(sorted(columns)), tuple(sorted(subjects, key=_number)), glass)
            for view, glass, subjects, columns in together
        ]


@dataclass(frozen=True)
class Entry:
    """One line of the log: who, by which token, in which request, saw what."""

    institution: str
    reader: UUID
    token_id: str
    correlation: str
    asking: Asking
    shown: Shown

    def row(self) -> dict[str, Any]:
        """The columns of `read_log` that are not said by the database."""
        asking, shown = self.asking, self.shown
        purpose = asking.purpose or (GLASS_PURPOSE if shown.glass is not None else None)
        return {
            "reader": self.reader,
            "token_id": self.token_id,
            "road": asking.road,
            "purpose": purpose,
            "document": asking.document.hex(),
            "operation": asking.operation and asking.operation[:OPERATION_LENGTH_MAX],
            "correlation": self.correlation,
            "view": shown.view,
            "fields": shown.columns,
            "subjects": shown.subjects,
            "glass": shown.glass,
        }


def purpose_of(header: str | None, extensions: dict[str, Any] | None) -> str | None:
    """What a request says it is for: `extensions.purpose`, else the header X-Purpose, UTF-8 or percent-encoded."""
    said: Any = (extensions or {}).get("purpose", header)
    if said is None:
        return None
    sentence = f"Say the purpose in at most {PURPOSE_LENGTH_MAX} characters of UTF-8, percent-encoded in the header."
    if not isinstance(said, str):
        raise Refused("request.purpose", sentence, field="purpose")
    try:
        if said is header:
            # ASGI servers give headers as Latin-1
            said = unquote(said.encode("latin-1").decode(), errors="strict")
        return text(said, "purpose", required=False, longest=PURPOSE_LENGTH_MAX) or None
    except (UnicodeError, Refused):
        raise Refused("request.purpose", sentence, field="purpose") from None


_SETTINGS: LiteralString = (
    "SELECT set_config('anjuan.institution', %s, true), set_config('synchronous_commit', %s, true)"
)
_STORE: LiteralString = """
    WITH said AS MATERIALIZED (
        SELECT nextval('read_log_entry') AS entry, one.*
        FROM json_to_recordset(%(rows)s::json) AS one (
            reader uuid, token_id text, road text, purpose text, document text, operation text, correlation text,
            view text, fields text[], subjects uuid[], glass uuid)
    ), stored AS (
        INSERT INTO read_log (institution, read_at, entry, reader, token_id, road, purpose, document, operation,
                              correlation, view, fields, subjects, glass, position)
        SELECT %(institution)s, statement_timestamp(), entry, reader, token_id, road, purpose, decode(document, 'hex'),
               operation, correlation, view, fields, subjects, glass,
               coalesce((SELECT position FROM institution_position WHERE institution = %(institution)s), 0)
        FROM said
    )
    INSERT INTO read_log_subject (institution, subject, read_at, entry)
    SELECT %(institution)s, one.subject, statement_timestamp(), said.entry
    FROM said
    CROSS JOIN unnest(said.subjects) AS one (subject)
"""

_SET = _SETTINGS.replace("%s", "$1", 1).replace("%s", "$2", 1).encode()
_PUT = _STORE.replace("%(institution)s", "$1::text").replace("%(rows)s", "$2").encode()

_Waiting = tuple[Sequence[Entry], "asyncio.Future[None]"]


class ReadLog:
    """Writes the log for one process. `flush`: ordinary reads wait for the disk too, as break-glass always does."""

    def __init__(self, conninfo: str, *, seconds: float, flush: bool) -> None:
        self._conninfo = conninfo
        self._seconds = seconds
        self._flush = flush
        self._waiting: list[_Waiting] = []
        self._writing = 0
        self._something = asyncio.Event()
        self._closing = False
        self._connection: AsyncConnection[Any] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many answers wait for the log."""
        return len(self._waiting) + self._writing

    def open(self) -> None:
        """Begin to write; on the event loop that serves."""
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="anjuan-read-log")

    async def close(self) -> None:
        """Write what waits, and end."""
        self._closing = True
        self._something.set()
        if self._task is not None:
            await self._task
        await self._disconnect()

    async def store(self, entries: Sequence[Entry]) -> None:
        """Return once all of these are stored; raises ReadLogAway."""
        if not entries:
            return
        if self._task is None or self._closing:
            raise ReadLogAway
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, stored))
        self._something.set()
        try:
            async with asyncio.timeout(self._seconds):
                await stored
        except TimeoutError:
            raise ReadLogAway from None

    async def _serve(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while batch := self._next():
                self._writing = len(batch)
                await self._settle(batch)
                self._writing = 0
            if self._closing:
                return

    def _next(self) -> list[_Waiting]:
        """As many of those that still wait as fit into one transaction, at least one."""
        batch: list[_Waiting] = []
        entries = 0
        waiting = [one for one in self._waiting if not one[1].done()]
        while waiting and (not batch or entries + len(waiting[0][0]) <= ENTRIES_MAX):
            batch.append(waiting.pop(0))
            entries += len(batch[-1][0])
        self._waiting = waiting
        return batch

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch and tell who waits; one that cannot be written does not take the others with it."""
        problem: Exception | None = None
        try:
            await self._written([entry for entries, _ in batch for entry in entries])
        except psycopg.OperationalError as away:
            problem = away
        except Exception as fault:
            await self._disconnect()
            if len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            problem = fault
        if problem is not None:
            _log.error("reads not logged", error=type(problem).__name__, waiting=len(batch))
        for _, stored in batch:
            if not stored.done():
                stored.set_result(None) if problem is None else stored.set_exception(ReadLogAway())

    async def _written(self, entries: Sequence[Entry]) -> None:
        known = self._connection is not None
        try:
            await self._write(entries)
        except psycopg.OperationalError:
            await self._disconnect()
            if not known:
                raise
            # the connection may have died while nobody read; entries written twice are better than none
            await self._write(entries)

    async def _write(self, entries: Sequence[Entry]) -> None:
        if self._connection is None:
            self._connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, application_name=APPLICATION_NAME
            )
        of: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            of.setdefault(entry.institution, []).append(entry.row())
        waits = "on" if self._flush or any(entry.shown.glass is not None for entry in entries) else "off"
        said: list[Statement] = []
        for institution, rows in of.items():
            said.append(bound(_SET, [institution, waits]))
            said.append(bound(_PUT, [institution, orjson.dumps(rows).decode()]))
        try:
            await wire.ask(self._connection, said)
        except wire.Failed as failed:
            raise failed.problem from None

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None
