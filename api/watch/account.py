"""The account of one request: what is known of it by the time it is over, for its line in the log and the metrics.

Whoever learns something says it here: `account().cost = 12`. It never holds a document, variables or what people wrote.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID, uuid4

ANSWERED = "answered"
"""The code of a request that nothing was wrong with."""
NAME_MAX = 80
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")


class Road(StrEnum):
    """How a question was answered: by a plan, by resolvers, or by resolvers because the planner declined it."""

    PLANNED = "planned"
    RESOLVED = "resolved"
    DECLINED = "declined"
    CACHED = "cached"


class Carried(NamedTuple):
    """What became of one command: `done`, `repeated`, `refused` with a code, or `failed`."""

    outcome: str
    events: int = 0
    code: str | None = None


@dataclass
class Account:
    """One request. `code` is the first that was refused with; `commands` are those that said a line of their own."""

    correlation: str = field(default_factory=lambda: uuid4().hex)
    began: float = field(default_factory=time.perf_counter)
    operation: str | None = None
    kind: str | None = None
    code: str = ANSWERED
    cost: int | None = None
    road: Road | None = None
    institution: str | None = None
    staff: UUID | None = None
    commands: list[Carried] = field(default_factory=list["Carried"])
    shed: bool = False

    def asks(self, operation: str | None, *, command: bool) -> None:
        """Which operation it is; a name is kept only if it is one, and no longer than names are."""
        self.kind = "command" if command else "question"
        if operation is not None and len(operation) <= NAME_MAX and _NAME.fullmatch(operation):
            self.operation = operation

    def refused(self, code: str) -> None:
        """Something was refused; the first code stands."""
        if self.code == ANSWERED:
            self.code = code

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.began


_current: ContextVar[Account | None] = ContextVar("anjuan_account", default=None)


def account() -> Account:
    """The account of the request that is being answered; outside of any, one that nobody reads."""
    known = _current.get()
    return Account() if known is None else known


def begin() -> Account:
    """Open the account of a request in this task."""
    made = Account()
    _current.set(made)
    return made
