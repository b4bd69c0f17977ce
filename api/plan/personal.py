"""Personal columns in plans: masked for whoever's posts do not see them, else shown with whose they are.

The masks are those of `api.access.mask`; what is shown unmasked is said to `Context.saw`, as `Context.reveal` does for
the resolvers: nobody is logged for a value that is not there, or was erased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from uuid import UUID

from api.access.mask import mask_sql
from api.context import Context
from api.plan.sql import Piece, Scope, of_other
from api.plan.wire import Lines
from domain.personal import ERASED
from projections.personal import personal_columns
from projections.view import View

PEOPLE_KEPT = 10_000


@dataclass(frozen=True)
class Shown:
    """A personal column that is shown unmasked, and in SQL whose it is in a row; null where there is nothing to see."""

    view: str
    column: str
    whose: Piece

    def within(self, index: int, view: str, key: str, column: str) -> Shown:
        """The same seen from a row that names the row it is in."""
        return replace(self, whose=of_other([self.whose], index, view, key, column))


def masked(view: View[Any], name: str) -> Piece:
    """The column as JSON, masked."""
    mask = mask_sql(view.name, name)
    return lambda scope: "coalesce(to_json(" + mask.replace("{0}", f'{scope.alias}."{name}"') + ")::text, 'null')"


def shown(view: View[Any], name: str) -> Shown:
    """The column as it is shown unmasked."""
    subject = personal_columns(view.row)[name]

    def whose(scope: Scope) -> str:
        value = f'{scope.alias}."{name}"'
        return f"CASE WHEN {value} <> '{ERASED}' THEN {scope.alias}.\"{subject}\"::text END"

    return Shown(view.name, name, whose)


def say(context: Context, columns: Sequence[Shown], first: int, lines: Lines) -> None:
    """Tell the request what these lines of its answer showed; whose it is begins at the column `first`."""
    for place, column in enumerate(columns, first):
        subjects = [_person(one) for one in {line[place] for line in lines} if one is not None]
        if subjects:
            context.saw(column.view, column.column, subjects)


@lru_cache(maxsize=PEOPLE_KEPT)
def _person(id: bytes) -> UUID:
    """The same people are on page after page, and reading an id takes longer than all else that is done for it."""
    return UUID(id.decode())
