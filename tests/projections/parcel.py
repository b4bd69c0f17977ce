"""A made-up aggregate for the tests of the views' machinery: parcels that are sent, carried, weighed and delivered."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from domain.kernel import Event, Stamp, SubjectId
from domain.personal import Personal
from projections.view import Key, Row, View

ANN = UUID(int=7)
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
PLACES = ("Anqing", "Beijing", "Chengdu", "Dalian")


class Standing(StrEnum):
    UNDER_WAY = "under_way"
    DELIVERED = "delivered"


@dataclass(frozen=True)
class Size:
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class ParcelSent(Event, topic="test.parcel.sent", former={"test.parcel.posted": lambda old: {"number": old["code"]}}):
    """Somebody gave a parcel to the carrier."""

    number: str
    sender: SubjectId | None = None
    name: Annotated[str | None, Personal("sender")] = None
    size: Size | None = None


@dataclass(frozen=True, kw_only=True)
class ParcelCarried(Event, topic="test.parcel.carried"):
    """The parcel came to a place."""

    place: str


@dataclass(frozen=True, kw_only=True)
class ParcelWeighed(Event, topic="test.parcel.weighed"):
    """Somebody weighed the parcel."""

    kilos: Decimal


@dataclass(frozen=True, kw_only=True)
class ParcelDelivered(Event, topic="test.parcel.delivered"):
    """The parcel is where it should be."""


@dataclass(frozen=True, kw_only=True)
class ParcelScrapped(Event, topic="test.parcel.scrapped"):
    """The parcel is to be forgotten."""


@dataclass(frozen=True, kw_only=True)
class ParcelTouched(Event, topic="test.parcel.touched"):
    """Somebody touched the parcel: a fact no view listens to."""


ParcelEvents = (ParcelSent, ParcelCarried, ParcelWeighed, ParcelDelivered, ParcelScrapped)


@dataclass(kw_only=True)
class ParcelRow(Row):
    """One parcel, as it is now."""

    parcel_id: UUID
    number: str
    name: str | None = None
    size: Size | None = None
    standing: Standing = Standing.UNDER_WAY
    place: str | None = None
    places: tuple[str, ...] = ()
    kilos: Decimal | None = None
    sent_at: datetime
    delivered_at: datetime | None = None


def show(row: ParcelRow | None, event: Any) -> ParcelRow | None:
    if isinstance(event, ParcelSent):
        return ParcelRow(
            parcel_id=event.originator_id, number=event.number, name=event.name, size=event.size, sent_at=event.stamp.at
        )
    assert row is not None, "a parcel that was never sent"
    match event:
        case ParcelCarried():
            if event.place == "Nowhere":
                raise LookupError(f"there is no place {event.place}")
            return replace(row, place=event.place, places=(*row.places, event.place))
        case ParcelWeighed():
            return replace(row, kilos=event.kilos)
        case ParcelDelivered():
            return replace(row, standing=Standing.DELIVERED, delivered_at=event.stamp.at)
        case _:
            return None


PARCELS = View("parcel", ParcelRow, ParcelEvents, show, ("parcel_id",), listed=False)


@dataclass(kw_only=True)
class LegRow(Row):
    """One stay of a parcel at a place: several rows of one stream, one event moves two of them."""

    parcel_id: UUID
    leg: int
    place: str
    came_at: datetime
    left_at: datetime | None = None


def legs(event: ParcelCarried) -> Iterator[tuple[Key, Any]]:
    yield (event.originator_id, event.originator_version), event
    if event.originator_version > 2:
        yield (event.originator_id, event.originator_version - 1), Left(event.stamp.at)


@dataclass(frozen=True)
class Left:
    at: datetime


def show_leg(row: LegRow | None, fact: ParcelCarried | Left) -> LegRow | None:
    if isinstance(fact, Left):
        return None if row is None else replace(row, left_at=fact.at)
    return LegRow(parcel_id=fact.originator_id, leg=fact.originator_version, place=fact.place, came_at=fact.stamp.at)


LEGS = View("parcel_leg", LegRow, (ParcelCarried,), show_leg, ("parcel_id", "leg"), legs, listed=False)


@dataclass(kw_only=True)
class PlaceRow(Row):
    """How many parcels came to a place: one row of many streams."""

    place: str
    came: int = 0
    last: UUID


def places(event: ParcelCarried) -> Iterator[tuple[Key, ParcelCarried]]:
    yield (event.place,), event


def show_place(row: PlaceRow | None, event: ParcelCarried) -> PlaceRow | None:
    if event.place == "Nowhere":
        raise LookupError(f"there is no place {event.place}")
    return PlaceRow(place=event.place, came=(row.came if row else 0) + 1, last=event.originator_id)


VISITS = View("parcel_place", PlaceRow, (ParcelCarried,), show_place, ("place",), places, gathers=True, listed=False)

ALL: tuple[View[Any], ...] = (PARCELS, LEGS, VISITS)


def stamp(number: int, *, at: datetime | None = None) -> Stamp:
    return Stamp(by=ANN, at=at or START + timedelta(minutes=number), command_id=UUID(int=number + 1))


def journeys(seed: int, parcels: int, events: int = 6, *, start: int = 0) -> list[list[Event]]:
    """A seeded log: one command per event, the parcels' events mixed, each parcel's in version order."""
    chance = random.Random(seed)
    ids = [UUID(int=chance.getrandbits(128), version=4) for _ in range(parcels)]
    left = [i for i in ids for _ in range(chance.randint(1, 2 * events - 1))]
    chance.shuffle(left)
    versions = dict.fromkeys(ids, 0)
    commands: list[list[Event]] = []
    for number, parcel in enumerate(left, start):
        versions[parcel] += 1
        commands.append([happened(parcel, versions[parcel], number, chance)])
    return commands


def happened(parcel: UUID, version: int, number: int, chance: random.Random) -> Event:
    """Some event of a parcel; its first is that it was sent."""
    # what people say of the time need not be in order
    at = START + timedelta(minutes=number - chance.randrange(90))
    envelope: dict[str, Any] = {"originator_id": parcel, "originator_version": version, "stamp": stamp(number, at=at)}
    if version == 1:
        return ParcelSent(**envelope, number=f"P{number:05}", size=chance.choice((None, Size(3, number))))
    kind = chance.random()
    if kind < 0.6:
        return ParcelCarried(**envelope, place=chance.choice(PLACES))
    if kind < 0.8:
        return ParcelWeighed(**envelope, kilos=Decimal(chance.randrange(10_000)) / 100)
    if kind < 0.9:
        return ParcelTouched(**envelope)
    return ParcelDelivered(**envelope)


def flat(commands: Iterable[Sequence[Event]]) -> list[Event]:
    return [event for command in commands for event in command]


@dataclass(kw_only=True)
class TrailRow(Row):
    """Everything that was folded, in the order it was folded: one row for the institution."""

    line: str
    trail: tuple[str, ...] = ()


def trail(event: Event) -> list[tuple[Key, Event]]:
    return [(("all",), event)]


def show_trail(row: TrailRow | None, event: Event) -> TrailRow:
    seen = f"{event.originator_id}/{event.originator_version}"
    return TrailRow(line="all", trail=(*(row.trail if row else ()), seen))


TRAIL = View("parcel_trail", TrailRow, (Event,), show_trail, ("line",), trail, gathers=True, listed=False)

EVERY: tuple[View[Any], ...] = (*ALL, TRAIL)
