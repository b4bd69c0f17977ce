"""Views as they were, over GraphQL: the one bound up to which events are folded, and what such a fold is shown with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import strawberry

from api.context import Context, in_thread
from api.scalars import BigInt
from projections.asof import Bounds as PastBounds
from projections.asof import as_of
from projections.asof import must_be_past as past
from projections.view import Key, Row, View

T = TypeVar("T", bound=Row)
Bounds = dict[str, Any]
"""The one bound that was named, by the name `projections.asof` has for it; empty for as it is now."""


@strawberry.input(one_of=True, description="何时 – the moment to look at; name exactly one.")
class AsOf:
    """The bound up to which events are folded."""

    version: BigInt | None = strawberry.field(default=strawberry.UNSET, description="案卷版本 – events of the case.")
    position: BigInt | None = strawberry.field(default=strawberry.UNSET, description="机构内位置 – a position.")
    occurred_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="发生时间 – what is known today of how things stood then."
    )
    recorded_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="记录时间 – what was known then."
    )

    def bounds(self) -> Bounds:
        """The one bound that was named."""
        return {name: value for name, value in vars(self).items() if value not in (strawberry.UNSET, None)}


@dataclass(frozen=True)
class Then:
    """When something is shown as it was: the bound, and the time it is looked at.

    `latest`: it was folded up to its last event, so it is what it is now, under the id it has now.
    """

    bounds: Bounds
    at: datetime
    latest: bool = False

    @classmethod
    def of(cls, bounds: Bounds, last_at: datetime, *, latest: bool = False) -> "Then":
        """Looked at when the bound says, or else when the last event within it happened."""
        return cls(bounds, bounds.get("occurred_at") or bounds.get("recorded_at") or last_at, latest)


async def must_be_past(context: Context, stream: UUID, bounds: Bounds) -> None:
    """Refuse a bound that lies ahead of the stream, of the institution's history, or of the moment of the request."""
    house, institution, now = context.reach.house, context.institution, context.now
    await in_thread(lambda: past(house, institution, stream, now, PastBounds(**bounds)))


async def folded(context: Context, view: View[T], key: UUID | Key, bounds: Bounds) -> list[T]:
    """The rows of a stream, or the row of a whole key, folded from the events up to the bounds."""
    house, institution = context.reach.house, context.institution
    return await in_thread(lambda: as_of(house, view, institution, key, **bounds))
