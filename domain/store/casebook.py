"""The casebook: one institution's histories, read, decided upon and appended to.

`casebook.act(COMPLAINT, id, lambda case: case.approve_plan(stamp, policy), command_id=stamp.command_id)` is the whole
shell around a decision. A command is done once: asked again it gives its first answer; a lost race is decided again, a
bounded number of times; an append of unknown outcome is looked up before anything else is done.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Self, cast, overload
from uuid import UUID, uuid5
from weakref import WeakSet

from eventsourcing.application import AggregateNotFoundError, Application, Repository
from eventsourcing.persistence import EventStore, InfrastructureFactory, OperationalError
from eventsourcing.utils import Environment, EnvType
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from domain.kernel import Event, Fold, replay
from domain.store.application import Envelopes, Infrastructure, projector
from domain.store.bulk import append_copied
from domain.store.keys import Keys
from domain.store.mapper import Mapper, encode_body
from domain.store.recorder import (
    COMMAND_EVENTS_MAX,
    CommandKnown,
    EventRecorder,
    OutcomeUnknown,
    Recorded,
    Rolledback,
    StaleVersion,
    watch_replication,
)
from domain.store.tenant import about

RACES = 3
"""How often a command decides anew after somebody else was first, before it decides while it holds the turn."""
ATTEMPTS = 8
"""How often an append that is known to be rolled back, or known not to have arrived, is sent again."""
SETTLE_SECONDS = 30.0
"""How long an append of unknown outcome is looked up while the database cannot be reached."""

Decided = Event | Sequence[Event] | None


class CommandReused(Exception):
    """The command id was already used for something else; a new command needs a new id."""


@dataclass(frozen=True)
class Receipt:
    """What a command did: its events, the position of the last of them, and the version its stream has now.

    `repeated` says that the command was known and nothing was done again. A decision that had nothing to say gives no
    events and the position of the stream's last event.
    """

    position: int
    version: int
    events: tuple[Event, ...]
    repeated: bool = False


class House:
    """What one process needs of the store: connections, keys and a casebook per institution.

    `conninfo` is the application's login; `runner` that of what is done for all institutions at once, if it is another.
    """

    def __init__(
        self,
        conninfo: str,
        master_key: bytes,
        *,
        runner: str | None = None,
        pool_max: int = 10,
        pool_timeout: float = 10.0,
    ) -> None:
        self.conninfo = application_conninfo(conninfo)
        self.runner_conninfo = conninfo_as(conninfo if runner is None else runner, "anjuan_runner")

        def pool(conninfo: str, name: str, size_min: int) -> ConnectionPool[Connection[Any]]:
            return ConnectionPool(
                conninfo,
                kwargs={"autocommit": True},
                min_size=size_min,
                max_size=pool_max,
                timeout=pool_timeout,
                open=False,
                configure=self._configure,
                name=name,
            )

        self.pool = pool(self.conninfo, "anjuan", 1)
        """Connections of the application; they see nothing until they say of which institution: see `within`."""
        self.everywhere = pool(self.runner_conninfo, "anjuan-everywhere", 0)
        """Connections of runners and operators, made when wanted; they see every institution."""
        self._connections: WeakSet[Connection[Any]] = WeakSet()
        self.ending = False
        self.keys = Keys(self.pool, master_key)
        self.mapper = Mapper(self.keys)
        self._casebooks: dict[str, Casebook] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect; raises psycopg_pool.PoolTimeout when the database cannot be reached in time."""
        self.pool.open(wait=True)
        self.everywhere.open()

    def close(self) -> None:
        """Give every connection back; what is under way is finished first."""
        self.everywhere.close()
        self.pool.close()

    def interrupt(self) -> None:
        """Have the database roll back what is under way, and try nothing again: whoever waits is told that.

        For a process that must end. Blocks briefly.
        """
        self.ending = True
        for connection in list(self._connections):
            if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                connection.cancel_safe(timeout=1.0)

    def _configure(self, connection: Connection[Any]) -> None:
        watch_replication(connection)
        self._connections.add(connection)

    @contextmanager
    def within(self, institution: str) -> Generator[Connection[Any]]:
        """A connection in a transaction about one institution: row-level security shows it that one and no other."""
        with self.pool.connection() as connection, about(connection, institution):
            yield connection

    def casebook(self, institution: str) -> Casebook:
        """The histories of one institution; the same object each time."""
        book = self._casebooks.get(institution)
        if book is None:
            book = self._casebooks.setdefault(institution, Casebook(self, institution))
        return book


def application_conninfo(conninfo: str) -> str:
    """The same database as the application's role, which may add and read events and nothing else with them."""
    return conninfo_as(conninfo, "anjuan_app")


def conninfo_as(conninfo: str, role: str) -> str:
    """The same database in one of the house's roles, with the house's schema and time zone."""
    given = conninfo_to_dict(conninfo)
    options = f"{given.get('options') or ''} -c role={role} -c search_path=anjuan -c timezone=UTC".strip()
    return make_conninfo(conninfo, options=options, application_name="anjuan")


class Casebook(Application[UUID]):
    """The histories of one institution. Safe for use by many threads."""

    def __init__(self, house: House, institution: str) -> None:
        self.house = house
        self.institution = institution
        super().__init__()
        self.recorder: EventRecorder
        self.bodies = cast(Mapper, self.mapper)
        self._one_waits = (
            Lock()
        )  # at most one thread of a process waits for the turn, so waiting cannot use up the pool

    # what the library builds an application from

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Nothing is configured by the process environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        return Infrastructure(env, self.house.pool, self.institution)

    def construct_mapper(self) -> Mapper:
        return Mapper(self.house.keys, self.institution)

    def construct_recorder(self) -> EventRecorder:
        return EventRecorder(self.house.pool, self.institution)

    def construct_event_store(self) -> EventStore[UUID]:
        return Envelopes(self.mapper, self.recorder)

    def construct_repository(self) -> Repository[UUID]:
        return Repository(self.events)

    # reading

    def read(self, fold: Fold, id: UUID, *, version: int | None = None) -> Any | None:
        """The state of a stream, now or as it was at `version`; None when there is no such stream here."""
        try:
            return self.repository.get(id, version=version, projector_func=projector(fold))
        except AggregateNotFoundError:
            return None

    def history(
        self,
        id: UUID,
        *,
        version_max: int | None = None,
        position_max: int | None = None,
        occurred_max: datetime | None = None,
        recorded_max: datetime | None = None,
    ) -> list[tuple[Recorded, Event]]:
        """The events of a stream in version order with their records, optionally only those up to a bound."""
        recorded = [
            r
            for r in self.recorder.events_of(id, lte=version_max)
            if (position_max is None or r.position <= position_max)
            and (occurred_max is None or r.occurred_at <= occurred_max)
            and (recorded_max is None or r.recorded_at <= recorded_max)
        ]
        return list(zip(recorded, self.bodies.to_events(recorded), strict=True))

    def head(self) -> int:
        """The position of the institution's last event, 0 when there is none."""
        return self.recorder.head()

    def receipt(self, command_id: UUID) -> Receipt | None:
        """The first answer to a command, None if it is not known here."""
        return self._receipt(self.recorder.command(command_id, _event_id(command_id)), repeated=True)

    # writing

    @overload
    def act(self, fold: Fold, id: UUID, decide: Callable[[Any], Decided], *, command_id: UUID) -> Receipt: ...

    @overload
    def act(
        self,
        fold: Fold,
        id: UUID,
        decide: Callable[..., Decided],
        *,
        command_id: UUID,
        also: Sequence[tuple[Fold, UUID]],
    ) -> Receipt: ...

    def act(
        self,
        fold: Fold,
        id: UUID,
        decide: Callable[..., Decided],
        *,
        command_id: UUID,
        also: Sequence[tuple[Fold, UUID]] = (),
    ) -> Receipt:
        """Decide on the state of a stream (and of those in `also`) and append what was decided, once per command id.

        `decide` gets the state of each stream, None where there is none yet, and may be called again after a lost race.
        Raises Refused (from `decide`), CommandReused, OutcomeUnknown, Busy.
        """
        known = self.receipt(command_id)
        if known is not None:
            if all(e.originator_id != id for e in known.events):
                raise CommandReused(f"Command {command_id} was used for another stream; send a new command id.")
            return known

        def decided(recorder: EventRecorder) -> tuple[Event, ...] | Receipt:
            streams = [self._load(recorder, f, i) for f, i in ((fold, id), *also)]
            answer = decide(*(state for state, _ in streams))
            events = (answer,) if isinstance(answer, Event) else tuple(answer or ())
            assert all(e.stamp.command_id == command_id for e in events), "an event of another command"
            state, position = streams[0]
            return events or Receipt(position, state.version if state is not None else 0, ())

        for attempt in range(RACES):
            events = decided(self.recorder)
            if isinstance(events, Receipt):
                return events
            try:
                return self.append(*events)
            except StaleVersion:
                _pause(attempt)
        return self._act_in_turn(decided, command_id)

    def _act_in_turn(
        self, decided: Callable[[EventRecorder], tuple[Event, ...] | Receipt], command_id: UUID
    ) -> Receipt:
        """Decide while nobody else can append here: what a command does after it has lost RACES races."""
        events: tuple[Event, ...] | Receipt = ()
        try:
            with self._one_waits, self.recorder.turn() as held:
                events = decided(held)
                if isinstance(events, Receipt):
                    return events
                sealed = self.bodies.to_envelopes(events)
                stored = held.record(sealed)
                assert stored is not None
            return _stored(stored, events)
        except (CommandKnown, OutcomeUnknown) as problem:
            known = self._settled(command_id)
            if known is None or isinstance(events, Receipt):
                raise problem
            return _same(known, events)

    def append(self, *events: Event) -> Receipt:
        """Store the events of one command, all or none; their versions must follow their streams'.

        Raises StaleVersion, CommandReused (the id is known with other events), OutcomeUnknown, Busy.
        """
        assert 0 < len(events) <= COMMAND_EVENTS_MAX, f"a command stores 1 to {COMMAND_EVENTS_MAX} events"
        stamp = events[0].stamp
        assert all(e.stamp.command_id == stamp.command_id and e.stamp.by == stamp.by for e in events)
        assert all(e.originator_id.int for e in events), "the nil id names no stream"
        sealed = self.bodies.to_envelopes(events)
        for attempt in range(ATTEMPTS):
            try:
                stored = self.recorder.record(sealed)
            except (CommandKnown, StaleVersion):
                known = self.receipt(stamp.command_id)
                if known is None:
                    raise
                return _same(known, events)
            except OutcomeUnknown:
                known = self._settled(stamp.command_id)
                if known is not None:
                    return _same(known, events)
            except Rolledback:
                if attempt == ATTEMPTS - 1 or self.house.ending:
                    raise
                _pause(attempt)
            else:
                assert stored is not None
                return _stored(stored, events)
        raise OutcomeUnknown(
            f"Command {stamp.command_id} may or may not be stored; send it again with the same id, it is done once."
        )

    def append_many(self, batches: Iterable[Sequence[Event]]) -> int:
        """Store many commands, each a batch of events, in one transaction by COPY; how many were not yet known.

        For imports and simulators. Batches whose command is known are left out, so doing it again adds nothing; a
        version that does not follow its stream refuses the whole call with StaleVersion.
        """
        sealed = [self.bodies.to_envelopes(batch) for batch in batches if batch]
        return append_copied(self.house.pool, self.institution, sealed)

    def _load(self, recorder: EventRecorder, fold: Fold, id: UUID) -> tuple[Any | None, int]:
        recorded = recorder.events_of(id)
        state = replay(fold, self.bodies.to_events(recorded))
        return state, recorded[-1].position if recorded else 0

    def _settled(self, command_id: UUID) -> Receipt | None:
        """Look an append of unknown outcome up, waiting for a database that is away, after any append under way."""
        give_up = time.monotonic() + SETTLE_SECONDS
        attempt = 0
        while True:
            try:
                found = self.recorder.command(command_id, _event_id(command_id), settled=True)
            except OperationalError:
                if time.monotonic() > give_up or self.house.ending:
                    raise
                _pause(attempt)
                attempt = min(attempt + 1, ATTEMPTS)
                self.house.pool.check()
            else:
                return self._receipt(found, repeated=False)

    def _receipt(self, found: list[Recorded], *, repeated: bool) -> Receipt | None:
        if not found:
            return None
        version = max(r.originator_version for r in found if r.originator_id == found[0].originator_id)
        return Receipt(found[-1].position, version, tuple(self.bodies.to_events(found)), repeated)


def _stored(first_position: int, events: Sequence[Event]) -> Receipt:
    version = max(e.originator_version for e in events if e.originator_id == events[0].originator_id)
    return Receipt(first_position + len(events) - 1, version, tuple(events))


def _event_id(command_id: UUID) -> UUID:
    return uuid5(command_id, "0")


def _same(known: Receipt, events: Sequence[Event]) -> Receipt:
    """The known answer, provided it is the answer to the same words."""
    if [(e.topic, e.originator_id, encode_body(e)) for e in known.events] != [
        (e.topic, e.originator_id, encode_body(e)) for e in events
    ]:
        raise CommandReused(f"Command {events[0].stamp.command_id} was already used; send a new command id.")
    return known


def _pause(attempt: int) -> None:
    """Full jitter, so that racers do not meet again; at most about a second."""
    time.sleep(random.uniform(0, min(0.002 * 2**attempt, 1.0)))  # noqa: S311 - not a secret
