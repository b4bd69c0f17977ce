"""The few words everything in the domain is said with: event, stamp, state, refusal, fold, replay.

An *event* is a fact that has happened. A *decision* is a method of a state that returns an event (or refuses);
*evolve* folds an event into the state and never refuses. Nothing here, and nothing that decides or folds, reads a
clock, a random number or a table: time, ids and policy come in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid5

StaffId = UUID
"""Who acts: the id of a staff member's stream."""

SubjectId = UUID
"""A person whose data is held; their personal fields are encrypted under a key of their own."""

TEXT_LENGTH_MAX = 20_000
"""Longest text accepted in one field, in characters; longer statements belong in an attachment."""


class Role(StrEnum):
    """The posts of the rule books that may decide something. The Chinese terms are in the descriptions of the edge."""

    GUIDE = "guide"  # 导医
    CONSULTANT = "consultant"  # 咨询师
    CS_AGENT = "cs_agent"  # 客服专员
    CS_DIRECTOR = "cs_director"  # 客服主任
    CS_CHIEF = "cs_chief"  # 客服总监
    MEDICAL_DIRECTOR = "medical_director"  # 医务部主任
    DEAN = "dean"  # 院长
    GM_OFFICE = "gm_office"  # 总经办
    HR = "hr"  # 人事
    CASHIER = "cashier"  # 出纳
    ACCOUNTANT = "accountant"  # 会计
    AUDITOR = "auditor"  # 稽核
    KEEPER = "keeper"  # 保管员
    ADMIN = "admin"  # 管理员


class Refused(Exception):
    """The rule says no. `code` is stable, `sentence` names the remedy, `field` the input that was wrong, if one was."""

    def __init__(self, code: str, sentence: str, *, field: str | None = None) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence
        self.field = field

    def __str__(self) -> str:
        where = f" [{self.field}]" if self.field else ""
        return f"{self.code}{where}: {self.sentence}"


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Who says a fact, when it happened (said by the actor, UTC) and under which command.

    `roles` are the posts the actor holds now; decisions read them, the store does not keep them.
    """

    by: StaffId
    at: datetime
    command_id: UUID
    roles: frozenset[Role] = frozenset()

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise Refused(
                "time.no_zone", "Say the time with its offset, for example 2026-01-07T09:30:00+08:00.", field="at"
            )
        object.__setattr__(self, "at", self.at.astimezone(UTC))

    def must_hold(self, *allowed: Role) -> None:
        """Refuse with `access.role` unless the actor holds one of these posts."""
        if not self.roles & set(allowed):
            posts = " or ".join(allowed)
            raise Refused("access.role", f"Only {posts} may decide this; ask one of them.")


TOPICS: dict[str, type[Event]] = {}
"""Every event type by its topic. Topics are chosen by us and live for ever; import paths may change."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
FORMER: dict[str, tuple[type[Event], Upcast]] = {}
"""Topics no longer written: how their stored fields become those of the event that took their place."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact of one stream. Subclasses name it in the past tense and add fields; the envelope is here.

    `class Opened(Event, topic="complaint.opened", former={"complaint.begun": upcast})`: `former` maps topics that are
    no longer written to a function from their stored fields to this event's fields.
    """

    topic: ClassVar[str]

    originator_id: UUID
    originator_version: int
    stamp: Stamp

    def __init_subclass__(cls, *, topic: str | None = None, former: Mapping[str, Upcast] | None = None) -> None:
        super().__init_subclass__()
        if topic is None:
            return
        # a dataclass with slots is made twice; the same name is the same event
        known = TOPICS.get(topic)
        assert known is None or known.__qualname__ == cls.__qualname__, f"topic {topic} is taken by {known}"
        cls.topic = topic
        TOPICS[topic] = cls
        for old, upcast in (former or {}).items():
            assert old not in TOPICS, f"topic {old} is still written"
            FORMER[old] = (cls, upcast)


@dataclass(frozen=True, kw_only=True)
class State:
    """What a decision needs to know of one stream: its id, how many events it has folded, and what subclasses add."""

    id: UUID
    version: int = 0

    def next(self, stamp: Stamp, after: int = 0) -> dict[str, Any]:
        """The envelope of the event this decision returns; `after` counts events already returned by it."""
        return {"originator_id": self.id, "originator_version": self.version + 1 + after, "stamp": stamp}


S = TypeVar("S", bound=State)
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Fold:
    """One aggregate: the events it knows and how they become its state. `evolve(None, event)` begins it."""

    name: str
    evolve: Callable[[Any, Any], Any]
    events: tuple[type[Event], ...] = field(default=())


def replay(fold: Fold, events: Iterable[Event]) -> Any | None:
    """The state after these events of one stream, in order; None when there are none."""
    state: Any | None = None
    for event in events:
        state = fold.evolve(state, event)
    return state


HOUSE = UUID("6f7f2b0e-6e0f-5d39-9a55-0a6f2c8b5a10")
"""Namespace of the ids that are names: the same words give the same stream, on every machine."""


def named(*words: str) -> UUID:
    """The id of a stream or command that is found by its name, for example `named("BJ", "policy", "complaint")`."""
    return uuid5(HOUSE, "/".join(words))


def text(value: str, field: str, *, required: bool = True, longest: int = TEXT_LENGTH_MAX) -> str:
    """`value` without outer blanks, or a refusal that names the field: empty, too long, or not storable as text."""
    value = value.strip()
    if "\x00" in value:
        raise Refused("text.nul", "The text holds a NUL character; remove it.", field=field)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("text.surrogate", "The text is not valid Unicode; send it as UTF-8.", field=field) from None
    if len(value) > longest:
        raise Refused(
            "text.too_long",
            f"The text has {len(value)} characters, at most {longest} are kept; shorten it, attach what is longer.",
            field=field,
        )
    if required and not value:
        raise Refused("text.empty", "Fill this field; it may not be blank.", field=field)
    return value


__all__ = [
    "FORMER", "HOUSE", "TEXT_LENGTH_MAX", "TOPICS", "Event", "Fold", "Refused", "Role", "StaffId", "Stamp",
    "State", "SubjectId", "Upcast", "named", "replay", "text",
]  # fmt: skip
