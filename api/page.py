"""Relay connections over the pages of views."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

import strawberry

from api.scalars import BigInt
from projections.page import COUNT_MAX, PAGE_DEFAULT, PAGE_MAX, Page
from projections.view import Row

T = TypeVar("T", bound=Row)

First = Annotated[int | None, strawberry.argument(description=f"The first so many, 1 to {PAGE_MAX}.")]
After = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")]
Last = Annotated[int | None, strawberry.argument(description=f"The last so many, 1 to {PAGE_MAX}.")]
Before = Annotated[str | None, strawberry.argument(description="Only what comes before this cursor.")]
ConsistentWith = Annotated[
    BigInt | None,
    strawberry.argument(
        description="A position a command answered: waits a moment until it is shown, or says how far behind it is."
    ),
]


@strawberry.type(description="Whether there is more on either side, and where this page begins and ends.")
class PageInfo:
    """Relay's page info."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(description="One row and its place in the list.")
class Edge(Generic[T]):
    """Relay's edge."""

    cursor: str
    node: T


@strawberry.type(description=f"分页 – a page of a list; {PAGE_DEFAULT} rows unless said otherwise.")
class Connection(Generic[T]):
    """Relay's connection."""

    edges: list[Edge[T]]
    page_info: PageInfo
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field(
        description=f"How many there are in all; counting stops at {COUNT_MAX}, which means that or more."
    )
    async def total_count(self) -> BigInt:
        """Counted only when asked for."""
        return BigInt(await self.count())


def connection(page: Page[T], count: Callable[[], Awaitable[int]]) -> Connection[T]:
    """A page as Relay shows it."""
    return Connection(
        edges=[Edge(cursor=cursor, node=row) for cursor, row in zip(page.cursors, page.rows, strict=True)],
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else None,
        ),
        count=count,
    )
