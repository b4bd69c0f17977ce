"""Going through a whole institution: its events in order, every case folded, and one digest for all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from api.exchange.rows import Progress, never, no_progress
from domain.complaint import COMPLAINT, ComplaintCase
from domain.kernel import FORMER, TOPICS, Event
from domain.store.casebook import Casebook
from domain.store.mapper import encode_body
from domain.store.recorder import Recorded
from projections.fold import Failure, opened
from projections.log import FIRST_STREAM, LAST_STREAM, by_position, by_stream

EVENTS_AT_ONCE = 2_000


@dataclass
class Replay:
    """What folding every case gave: how many cases and events, and which case failed at which position and why."""

    cases: int = 0
    events: int = 0
    failures: list[tuple[UUID, Failure]] = field(default_factory=list[tuple[UUID, Failure]])


def recorded_events(casebook: Casebook, *, after: int = 0, upto: int | None = None) -> Iterator[list[Recorded]]:
    """The institution's stored events in position order, some thousand at a time, to its present head or `upto`."""
    topics = [*TOPICS, *FORMER]
    last = casebook.head() if upto is None else min(upto, casebook.head())
    for begin in range(after, last, EVENTS_AT_ONCE):
        with casebook.house.within(casebook.institution) as connection:
            batch = by_position(connection, casebook.institution, begin, min(begin + EVENTS_AT_ONCE, last), topics)
        yield batch


def history_digest(casebook: Casebook) -> str:
    """SHA-256 over all that was said in this institution, in order, personal fields in the clear, in hexadecimal.

    Times of recording and the encryption of a run are not in it: the same acts give the same digest anywhere.
    """
    digest = hashlib.sha256()
    encode = msgspec.json.Encoder(uuid_format="canonical").encode
    for batch in recorded_events(casebook):
        for recorded, event in zip(batch, casebook.bodies.to_events(batch), strict=True):
            said = (
                recorded.institution, recorded.position, recorded.originator_id, recorded.originator_version,
                recorded.topic, encode_body(event).decode(), recorded.occurred_at, recorded.actor, recorded.command_id,
            )  # fmt: skip
            digest.update(encode(said) + b"\n")
    return digest.hexdigest()


def replay_all(casebook: Casebook, *, progress: Progress = no_progress, stop: Callable[[], bool] = never) -> Replay:
    """Fold every complaint case from its first event to its last. A case whose fold raises is a failure, no more."""
    found = Replay()
    head = casebook.head()
    topics = [event.topic for event in COMPLAINT.events]
    topics += [old for old, (event, _) in FORMER.items() if event in COMPLAINT.events]
    after, case, failed = (FIRST_STREAM, 0), None, False
    state: ComplaintCase | None = None
    while not stop():
        with casebook.house.within(casebook.institution) as connection:
            batch = by_stream(connection, casebook.institution, after, LAST_STREAM, head, topics, EVENTS_AT_ONCE)
        for recorded, event in opened(casebook.bodies, batch):
            if recorded.originator_id != case:
                case, state, failed = _stream(recorded), None, False
                found.cases += 1
            found.events += 1
            problem = event if isinstance(event, Failure) else None
            if not failed and problem is None:
                state, problem = _folded(state, recorded, event)
            if not failed and problem is not None:
                failed = True
                found.failures.append((_stream(recorded), problem))
        if len(batch) < EVENTS_AT_ONCE:
            break
        after = (_stream(batch[-1]), batch[-1].originator_version)
        progress("replaying", found.cases, None)
    progress("replaying", found.cases, found.cases)
    return found


def _stream(recorded: Recorded) -> UUID:
    assert isinstance(recorded.originator_id, UUID), "our streams are named by UUIDs"
    return recorded.originator_id


def _folded(
    state: ComplaintCase | None, recorded: Recorded, event: Event | Failure
) -> tuple[ComplaintCase | None, Failure | None]:
    try:
        return COMPLAINT.evolve(state, event), None
    except Exception as problem:  # whatever a fold may raise is what is looked for
        return state, Failure.of(recorded, problem)
