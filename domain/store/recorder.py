"""The PostgreSQL recorder: one institution's streams and their one gapless order.

It keeps the interfaces of the library's recorders and passes their test cases. What differs, and why, is in the
README's decision records: a counter row instead of a table lock, no NOTIFY, one round trip, and no retry here – an
error says whether the transaction is known to be rolled back (`Rolledback`), known to conflict (`StaleVersion`,
`CommandKnown`), or of unknown outcome (`OutcomeUnknown`), and the casebook decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, LiteralString, Protocol, TypeVar
from uuid import UUID, uuid4
from weakref import WeakSet, ref

import psycopg
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    InternalError,
    Notification,
    OperationalError,
    PersistenceError,
    ProgrammingError,
    StoredEvent,
    Subscription,
)
from psycopg.rows import class_row
from psycopg_pool import PoolTimeout

from domain.store.envelope import Envelope, Recorded
from domain.store.statements import APPEND, APPEND_ONE, COLUMNS, LOCK_HEAD, appended, one
from domain.store.subscription import PolledSubscription
from domain.store.tenant import about, asked

Answer = TypeVar("Answer")
NOBODY = UUID(int=0)
COMMAND_EVENTS_MAX = 1000
"""Most events one command may store; more than that is several commands."""


class StaleVersion(IntegrityError):
    """Somebody else moved the stream first, or the version does not follow its last event."""


class CommandKnown(IntegrityError):
    """An event of this command is already stored."""


class Rolledback(OperationalError):
    """The database says the transaction was rolled back; the same append may be sent again."""


class Busy(Rolledback):
    """No connection became free in time; nothing was sent."""


class OutcomeUnknown(OperationalError):
    """The connection was lost while the append was under way: it may or may not be stored. Ask for the command."""


ROLLED_BACK = ("40001", "40P01", "55P03", "57014", "57P03")
"""SQLSTATEs that prove a rollback; class 53 (resources) too. 57014 is a statement cancelled before it could commit.
Never 08xxx or 57P01: the commit may have happened."""


LEFT_TO_THE_FUNCTION = (
    psycopg.errors.NotNullViolation,  # no counter row yet, or a version that does not follow
    psycopg.errors.InsufficientPrivilege,  # a planner that looks at tables before it is told the institution
    psycopg.errors.FeatureNotSupported,  # tables spread over several nodes
)
"""Why the one statement may not do where the function does."""


class said_clearly:
    """Turn the driver's errors in a block into the library's, split by what is known of the outcome."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(problem, psycopg.Error | PoolTimeout):
            raise clear(problem) from problem


def clear(problem: psycopg.Error | PoolTimeout) -> PersistenceError:
    """What an error of the driver means for an append."""
    if isinstance(problem, PoolTimeout):
        return Busy("Every database connection is in use; try again, or allow more (pool_max).")
    state = problem.sqlstate or ""
    said = problem.diag.message_primary or str(problem) or type(problem).__name__
    if isinstance(problem, psycopg.errors.UniqueViolation):
        kind = CommandKnown if problem.diag.constraint_name == "event_institution_event_id_key" else StaleVersion
        return kind(f"{problem.diag.constraint_name}: {said}")
    if state == "AJ001":
        return StaleVersion(said)
    if state in ROLLED_BACK or state.startswith("53"):
        return Rolledback(f"{state}: {said}")
    for theirs, library in CLEAR.items():
        if isinstance(problem, theirs):
            return library(said)
    return InternalError(said)


CLEAR: dict[type[psycopg.Error], type[PersistenceError]] = {
    psycopg.OperationalError: OutcomeUnknown,
    psycopg.InterfaceError: OutcomeUnknown,
    psycopg.DataError: DataError,
    psycopg.IntegrityError: IntegrityError,
    psycopg.ProgrammingError: ProgrammingError,
}


class Connections(Protocol):
    """Where a recorder gets its connection: the pool, or the one connection that holds the institution's turn."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]: ...
    def getconn(self) -> psycopg.Connection[Any]: ...
    def putconn(self, conn: psycopg.Connection[Any]) -> None: ...
    def check(self) -> None: ...


@dataclass(frozen=True)
class Held:
    """One connection, lent out again and again inside one transaction."""

    lent: psycopg.Connection[Any]

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """The same connection each time."""
        return nullcontext(self.lent)

    def getconn(self) -> psycopg.Connection[Any]:
        """The same connection."""
        return self.lent

    def putconn(self, conn: psycopg.Connection[Any]) -> None:
        """It stays with whoever holds the turn."""

    def check(self) -> None:
        """A broken turn is over; there is nothing to replace."""


class StreamRecorder(AggregateRecorder):
    """Reads and writes the streams of one institution."""

    def __init__(self, pool: Connections, institution: str) -> None:
        self.pool = pool
        self.institution = institution

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store the events of one command, all or none. Raises what the module's docstring lists."""
        self.record(stored_events)
        return None

    def record(self, stored_events: Sequence[StoredEvent]) -> int | None:
        """Store the events in one round trip; the position of the first of them, None when there are none."""
        if not stored_events:
            return None
        sealed = [e if isinstance(e, Envelope) else _anonymous(e) for e in stored_events]
        with said_clearly():
            # not `connection()`: it would go round the driver once more to commit what is committed
            connection = self.pool.getconn()
            try:
                position = self._append(connection, sealed)
                unconfirmed(connection)
            finally:
                self.pool.putconn(connection)
        return position

    def _append(self, connection: psycopg.Connection[Any], sealed: Sequence[Envelope]) -> int:
        if len(sealed) == 1 and not isinstance(self.pool, Held):
            try:
                values = one(self.institution, sealed[0])
                row = connection.execute(APPEND_ONE, values, prepare=True, binary=True).fetchone()
            except LEFT_TO_THE_FUNCTION:
                pass
            else:
                assert row is not None
                return row[0]
        values = appended(self.institution, sealed)
        row = connection.execute(APPEND, values, prepare=True, binary=True).fetchone()
        assert row is not None
        return row[0]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The library's question; `events_of` gives whole envelopes."""
        return [
            StoredEvent(e.originator_id, e.originator_version, e.topic, e.state)
            for e in self.events_of(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
        ]

    def events_of(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[Recorded]:
        """The stored events of one stream in version order."""
        ascending: LiteralString = (
            "SELECT " + COLUMNS + " FROM event WHERE institution = %s AND originator_id = %s"
            " AND originator_version > %s AND originator_version <= %s ORDER BY originator_version LIMIT %s"
        )
        descending: LiteralString = (
            "SELECT " + COLUMNS + " FROM event WHERE institution = %s AND originator_id = %s"
            " AND originator_version > %s AND originator_version <= %s ORDER BY originator_version DESC LIMIT %s"
        )
        low = -1 if gt is None else gt
        high = 2**31 - 1 if lte is None else lte
        return self._recorded(descending if desc else ascending, (self.institution, originator_id, low, high, limit))

    def _recorded(self, query: LiteralString, values: tuple[Any, ...]) -> list[Recorded]:
        def ask(connection: psycopg.Connection[Any]) -> list[Recorded]:
            return asked(connection, self.institution, query, values, row_factory=class_row(Recorded), binary=True)

        return self._asked(ask)

    def _asked(self, ask: Callable[[psycopg.Connection[Any]], Answer]) -> Answer:
        """The answer to a question; asked again, once, when a connection turns out to be dead."""
        try:
            with said_clearly(), self.pool.connection() as connection:
                return ask(connection)
        except OutcomeUnknown:
            if isinstance(self.pool, Held):
                raise
            with said_clearly():
                self.pool.check()
                with self.pool.connection() as connection:
                    return ask(connection)


class EventRecorder(StreamRecorder, ApplicationRecorder):
    """The streams of one institution and their one order; `Notification.id` is the position."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store the events of one command, all or none; their positions."""
        stored = self.record(stored_events)
        return None if stored is None else list(range(stored, stored + len(stored_events)))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events in position order, from `start` to `stop`, at most `limit`, of these topics or of all."""
        low = 0 if start is None else start + (0 if inclusive_of_start else 1)
        high = 2**63 - 1 if stop is None else stop
        found = self._recorded(
            "SELECT " + COLUMNS + " FROM event WHERE institution = %s AND position >= %s AND position <= %s"
            " AND (%s::text[] IS NULL OR topic = ANY(%s::text[])) ORDER BY position LIMIT %s",
            (self.institution, low, high, list(topics) or None, list(topics), limit),
        )
        return [Notification(e.originator_id, e.originator_version, e.topic, e.state, e.position) for e in found]

    def max_notification_id(self) -> int | None:
        """The position of the last event, None when there is none."""
        return self.head() or None

    def head(self) -> int:
        """The position of the last event, 0 when there is none: one look-up by key."""
        query: LiteralString = "SELECT position FROM institution_position WHERE institution = %s"
        rows = self._asked(lambda connection: asked(connection, self.institution, query, (self.institution,)))
        return rows[0][0] if rows else 0

    def command(self, command_id: UUID, first_event: UUID, *, settled: bool = False) -> list[Recorded]:
        """The events a command has stored, none if it is not known here.

        With `settled`, waits for the append that may hold the counter row, so an answer of "none" says that no append
        of this command is under way.
        """
        # the events of a command lie side by side, so its first one finds them all
        find: LiteralString = (
            "WITH first AS MATERIALIZED (SELECT position FROM event WHERE institution = %s AND event_id = %s)"
            " SELECT " + COLUMNS + " FROM event WHERE institution = %s AND command_id = %s"
            " AND position >= (SELECT position FROM first) AND position < (SELECT position + %s FROM first)"
            " ORDER BY position"
        )
        values = (self.institution, first_event, self.institution, command_id, COMMAND_EVENTS_MAX)
        if not settled:
            return self._recorded(find, values)
        with said_clearly(), self.pool.connection() as connection:
            with about(connection, self.institution):
                connection.execute(LOCK_HEAD, (self.institution,))
                found = EventRecorder(Held(connection), self.institution)._recorded(find, values)
            unconfirmed(connection)
        return found

    @contextmanager
    def turn(self) -> Generator[EventRecorder]:
        """A recorder inside one transaction that nobody else's append to this institution can come between.

        What it records is stored when the block ends, and not if it raises.
        """
        with said_clearly(), self.pool.connection() as connection:
            with about(connection, self.institution):
                connection.execute(LOCK_HEAD, (self.institution,))
                yield EventRecorder(Held(connection), self.institution)
            unconfirmed(connection)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Events as they come, from after `gt`: what is stored first, then by polling the counter row."""
        return PolledSubscription(self, gt=gt, topics=topics)


_unconfirmed: WeakSet[psycopg.Connection[Any]] = WeakSet()


def watch_replication(connection: psycopg.Connection[Any]) -> None:
    """Listen, for the life of a connection, for the one warning that says a commit is not what it seems.

    A commit that gave up waiting for its synchronous standby reports success with only a warning.
    """
    doubted = ref(connection)

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        said = (notice.message_primary or "") + (notice.message_detail or "")
        itself = doubted()
        if notice.severity_nonlocalized == "WARNING" and "synchronous replication" in said and itself is not None:
            _unconfirmed.add(itself)

    connection.add_notice_handler(listen)


def unconfirmed(connection: psycopg.Connection[Any]) -> None:
    """Raise OutcomeUnknown if the commit just made was not confirmed by the synchronous standby."""
    if _unconfirmed and connection in _unconfirmed:
        _unconfirmed.discard(connection)
        raise OutcomeUnknown("The append is stored here, but its synchronous standby did not confirm it.")


def _anonymous(event: StoredEvent) -> Envelope:
    """An event stored through the library's own interface: nobody's, of a command of its own, happening now."""
    return Envelope(
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        topic=event.topic,
        state=event.state,
        event_id=uuid4(),
        command_id=uuid4(),
        actor=NOBODY,
        occurred_at=datetime.now(UTC),
    )
