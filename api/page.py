"""Relay connections over the pages of views."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import strawberry

from api.context import Context
from api.scalars import BigInt
from projections.page import COUNT_MAX, PAGE_DEFAULT, PAGE_MAX, Condition, Page, Pager, Slice
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


class Asked(NamedTuple, Generic[T]):
    """A page as a question asks for it: of which list, which part of it, and under which conditions."""

    pager: Pager[T]
    slice: Slice
    where: Sequence[Condition] = ()


async def page_of(context: Context, pager: Pager[T], slice: Slice, where: Sequence[Condition] = ()) -> Connection[T]:
    """The page of the principal's institution's rows that meet the conditions."""
    async with context.reading() as database:
        page = await pager.page(database, context.institution, slice, where)
    return connection(page, partial(_count, context, pager, where))


async def page_within(context: Context, pager: Pager[T], column: str, parent: UUID, slice: Slice) -> Connection[T]:
    """The page of the rows whose `column` names this parent; those of many parents are asked for at once."""

    async def load(parents: list[UUID]) -> list[Connection[T]]:
        async with context.reading() as database:
            pages = await pager.pages(database, context.institution, column, parents, slice)
        return [connection(pages[one], partial(_count, context, pager, [pager.of(column, one)])) for one in parents]

    return await context.loader((pager, column, slice), load).load(parent)


def known_page(pager: Pager[T], rows: Sequence[T], slice: Slice) -> Connection[T]:
    """The page of rows that are in memory."""

    async def count() -> int:
        return len(rows)

    return connection(pager.page_of(rows, slice), count)


async def _count(context: Context, pager: Pager[Any], where: Sequence[Condition]) -> int:
    async with context.reading() as database:
        return await pager.count(database, context.institution, where)
