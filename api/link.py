"""Links between the rows of views, said once: a field that is a link has it in its metadata, as `{"link": …}`.

What resolves a field and what compiles a selection to SQL read the same link.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from api.asof import Then
from api.context import Context
from api.identity import Named
from api.node import loaded
from api.page import Connection, page_within
from projections.page import Pager, Slice
from projections.view import Row, View

T = TypeVar("T", bound=Row)


@dataclass(frozen=True)
class ToMany(Generic[T]):
    """The rows of another view whose `child` column holds what is in this row's `parent` column, page by page."""

    parent: str
    child: str
    pager: Pager[T]

    async def page(self, context: Context, row: Row, slice: Slice) -> Connection[T]:
        """A page of them; many rows' pages are asked for at once."""
        return await page_within(context, self.pager, self.child, getattr(row, self.parent), slice)


@dataclass(frozen=True)
class ToOne:
    """The row of another view whose key is in this row's `column`; nobody sees it who may not ask `asks`.

    None when there is no such row, or the view does not show it yet.
    """

    column: str
    view: View[Any]
    asks: str

    async def row(self, context: Context, row: Row) -> Any:
        """The row, as it was then if this one is shown so; many are asked for at once. Raises Refused."""
        context.may_ask(self.asks)
        then: Then | None = getattr(row, "then", None)
        bound = None if then is None else next(iter(then.bounds.items()))
        return await loaded(context, Named(self.view.name, (getattr(row, self.column),), bound))
