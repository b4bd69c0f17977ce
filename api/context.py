"""What every resolver knows of its request: who asks, the one moment it is, and the way to the store and the views."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import anyio.to_thread
import strawberry
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool
from strawberry.dataloader import DataLoader

from api.access.glass import glass_for, open_glasses
from api.access.mask import masked, sees
from api.access.proof import Proof
from api.access.read_log import UNSAID, Asking, Entry, ReadLog, Reads
from api.access.roles import QUERIES, Principal, must_be_allowed, must_be_in_scope
from api.settings import Settings
from domain.credential import Scope
from domain.glass import Glass
from domain.institution import INSTITUTION, Institution, institution_id
from domain.kernel import Refused
from domain.personal import ERASED
from domain.store.casebook import Casebook, House, conninfo_as
from domain.store.tenant import begin_reading
from projections.personal import personal_columns, view_of
from projections.tracking import wait_for_async
from projections.view import Row, View

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Reach:
    """What the process holds for all requests. `wake` tells a runner of this process that something was appended."""

    settings: Settings
    house: House
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    read_log: ReadLog
    wake: Callable[[], None] = lambda: None
    institutions: dict[str, Institution] = field(default_factory=dict[str, Institution])

    def institution(self, code: str) -> Institution:
        """The institution as it was opened; refused when it was not. Blocks."""
        known = self.institutions.get(code)
        if known is None:
            known = self.house.casebook(code).read(INSTITUTION, institution_id(code))
            if known is None:
                raise Refused("institution.unknown", f"{code} is not open yet; open the institution first.")
            self.institutions[code] = known
        return known


@dataclass
class Context:
    """One request."""

    reach: Reach
    principal: Principal
    moment: datetime
    correlation: str
    loaders: dict[Any, DataLoader[Any, Any]] = field(default_factory=dict[Any, "DataLoader[Any, Any]"])
    asking: Asking = UNSAID
    reads: Reads = field(default_factory=Reads)
    proof: Proof | None = None
    """That the principal's token still holds, where this is asked together with the question."""

    passes: bool = field(default=False, init=False)
    """Whether something in the answer is of the moment, or not to be kept for another reason."""
    made_of: frozenset[str] | None = field(default=None, init=False)
    """The views a planned answer is made of, once it is known that nothing in it passes."""

    @property
    def now(self) -> datetime:
        """The one moment of the request. Whoever asks for it makes an answer that is of this moment."""
        self.passes = True
        return self.moment

    @property
    def institution(self) -> str:
        """The principal's institution: every statement carries it, never one the client named."""
        return self.principal.institution

    @property
    def casebook(self) -> Casebook:
        """The histories of the principal's institution."""
        return self.reach.house.casebook(self.institution)

    @property
    def glasses(self) -> tuple[Glass, ...]:
        """The broken glasses of whoever asks that are open now; what they show follows from the row, not from posts."""
        return open_glasses(self.principal, self.now) if self.principal.glasses else ()

    def reveal(self, row: Row, column: str) -> Any:
        """A personal column of a row as whoever asks may see it: a mask, or the value, and then it is to be logged."""
        value = getattr(row, column)
        if value is None or value == ERASED:
            return value
        view = view_of(type(row))
        glass = None
        if not sees(self.principal.roles, view.name, column):
            glass = glass_for(self.principal, self.now, view, row) if self.principal.glasses else None
            if glass is None:
                return masked(view.name, column, value)
        subject = getattr(row, personal_columns(view.row)[column])
        self.saw(view.name, column, (subject,), None if glass is None else glass.id)
        return value

    def saw(self, view: str, columns: str | Iterable[str], subjects: Iterable[UUID], glass: UUID | None = None) -> None:
        """Whoever asks is shown these columns of these people unmasked, so the answer is logged, and not kept."""
        self.passes = True
        self.reads.add(view, columns, subjects, glass)

    async def log_reads(self) -> None:
        """Store what was shown since the last time, which every answer waits for; raises ReadLogAway.

        Whoever sends an answer, by whatever road, calls this first and sends nothing if it raises.
        """
        if self.reads:
            who, asking = self.principal, self.asking
            await self.reach.read_log.store(
                [
                    Entry(who.institution, who.staff_id, who.token_id, self.correlation, asking, shown)
                    for shown in self.reads.taken()
                ]
            )

    def may_ask(self, question: str) -> None:
        """Refuse unless the principal's token is for questions, and their posts may ask this."""
        must_be_in_scope(self.principal, Scope.ASK)
        must_be_allowed(self.principal, QUERIES.get(question, frozenset()), question)

    async def consistent(self, views: Sequence[View[Any]], position: int | None) -> None:
        """Wait until the views show the institution up to `position`, or refuse, naming how far behind they are."""
        if position is None:
            return
        async with self.reading() as connection:
            found = await connection.execute(
                "SELECT position FROM institution_position WHERE institution = %s", (self.institution,), prepare=True
            )
            row = await found.fetchone()
        head: int = row[0] if row else 0
        if position > head:
            raise Refused(
                "view.no_such_position",
                f"Your institution's history ends at position {head}; ask with the position a command answered.",
                field="consistent_with",
            )
        stale = await wait_for_async(
            self.reach.pool, views, self.institution, position, self.reach.settings.wait_seconds
        )
        if stale is not None:
            raise Refused(
                "view.behind",
                f"What you asked for is still {stale.behind} event(s) behind position {position}; ask again in a"
                " moment, or without consistentWith for what is known so far.",
                field="consistent_with",
            )

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection[Any]]:
        """A connection for questions about the principal's institution. Every question of a request goes this way.

        It is in a transaction that only reads, in which row-level security shows the principal's institution and no
        other; the transaction ends with the block. Whoever sends several statements at once on a connection of the pool
        sends `domain.store.tenant.SET_INSTITUTION` before them.
        """
        async with self.reach.pool.connection() as connection:
            await begin_reading(connection, self.institution)
            yield connection

    def loader(self, key: Any, load: Callable[[list[K]], Awaitable[list[Any]]]) -> DataLoader[K, Any]:
        """The batch of this request for `key`: all that is asked for in one tick is loaded by one statement."""
        if key not in self.loaders:
            self.loaders[key] = DataLoader(load)
        return self.loaders[key]


Info = strawberry.Info[Context, None]


def query_pool(settings: Settings, house: House) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """The connections that answer questions: they only read, with a time limit per statement. Not yet open."""
    limit = f" -c default_transaction_read_only=on -c statement_timeout={int(settings.statement_seconds * 1000)}"

    conninfo = conninfo_as(settings.database_reader_url or house.conninfo, "anjuan_reader")
    options = str(conninfo_to_dict(conninfo).get("options") or "") + limit
    return AsyncConnectionPool(
        make_conninfo(conninfo, options=options),
        kwargs={"autocommit": True},
        min_size=1,
        max_size=settings.connections_max,
        timeout=5.0,
        open=False,
        check=_check,
        name="anjuan-queries",
    )


CHECKED_SECONDS = 0.5
"""A connection that was used within this time is taken to live."""
_used: WeakKeyDictionary[AsyncConnection[Any], float] = WeakKeyDictionary()


async def _check(connection: AsyncConnection[Any]) -> None:
    """Ask a connection that was idle whether it lives: a busy one is not asked each time, which is a round trip.

    One that a cancelled request left in the midst of a pipeline is closed, for whoever is lent it would fail: psycopg
    leaves it so when a busy event loop cancels whoever enters the pipeline, and the pool takes it for idle.
    """
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        await connection.close()
        raise OperationalError("the connection was left in a pipeline")
    now = time.monotonic()
    before, _used[connection] = _used.get(connection, 0.0), now
    if now - before > CHECKED_SECONDS:
        await AsyncConnectionPool.check_connection(connection)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work beside the event loop. It is never cut short: an append has happened or it has not."""
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=False)
