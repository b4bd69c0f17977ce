"""Which post sees which personal column unmasked, and what the others see in its place.

`MASKS` is the one table (PIPL art. 6 and 51, B18, B22; B24; OP-26): a post sees what its part in a case needs. A column
that is not in it is masked for everybody, and a test refuses that. Whoever must see more for once breaks the glass
(`domain/glass.py`). Each mask is said twice, alike: in Python for resolvers, in SQL for whatever compiles answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from domain.complaint_state import DESK
from domain.kernel import Role
from domain.personal import ERASED
from projections.complaint import COMPLAINTS
from projections.personal import personal_columns
from projections.view import VIEWS


@dataclass(frozen=True)
class Form:
    """A mask: `python` takes the value, `sql` has `{0}` for the column. Neither tells how long the value is."""

    python: Callable[[str], str]
    sql: str


def _ends(found: str, shortest: int, longest: int, kept: int, stars: str) -> Form:
    """The first three characters and the last `kept` of what looks as it should, nothing of what does not."""
    looks = re.compile(found)

    def mask(value: str) -> str:
        fits = shortest <= len(value) <= longest and looks.fullmatch(value)
        return f"{value[:3]}{stars}{value[-kept:]}" if fits else HIDDEN

    return Form(
        mask,
        f"CASE WHEN char_length({{0}}) BETWEEN {shortest} AND {longest} AND {{0}} ~ '^{found}$'"
        f" THEN left({{0}}, 3) || '{stars}' || right({{0}}, {kept}) ELSE '{HIDDEN}' END",
    )


HIDDEN = "***"
NAME = Form(
    lambda value: f"{value[0]}**" if len(value) > 1 else "**",
    "CASE WHEN char_length({0}) > 1 THEN left({0}, 1) || '**' ELSE '**' END",
)
"""王女士 -> 王**."""
PHONE = _ends("[0-9+() -]+", 11, 20, kept=4, stars="****")
"""13800138000 -> 138****8000. Of a shorter number too little would stay hidden, so nothing of it is shown."""
ID_NUMBER = _ends("[0-9]+[0-9Xx]", 15, 18, kept=4, stars="***********")
"""居民身份证号码: 110101199003071234 -> 110***********1234."""
TEXT = Form(lambda _: HIDDEN, f"'{HIDDEN}'")
"""What people said: nothing of it."""


@dataclass(frozen=True)
class Mask:
    """How one column is masked, for all posts but these, and why these need it."""

    form: Form
    seen_by: frozenset[Role]
    why: str


_DESK = frozenset(DESK)
_CONTENT = Mask(
    TEXT,
    _DESK | {Role.DEAN, Role.GM_OFFICE},
    "the desk handles it (CC-05, CC-06, CC-26); the dean decides on the plan (CC-28); the general manager's office"
    " gives legal support and reviews what was closed (CC-45, CC-46, CC-47, CC-72)",
)
MASKS: Mapping[str, Mapping[str, Mask]] = MappingProxyType(
    {
        COMPLAINTS.name: MappingProxyType(
            {
                "complainant": Mask(
                    NAME,
                    _DESK | {Role.DEAN, Role.CASHIER},
                    "the desk speaks with them (CC-22); the dean decides on the plan (CC-28); the cashier pays them"
                    " (CC-68, CC-71)",
                ),
                "phone": Mask(PHONE, _DESK, "the desk calls them (CC-22, CC-29, CC-38, CC-53)"),
                "statement": _CONTENT,
                "demand": _CONTENT,
                "reason": _CONTENT,
                "result": _CONTENT,
            }
        )
    }
)
"""By view and column. Auditors, accountants, consultants (who may be whom it is about) and guides (PJ-45) see masks."""

NOBODY = Mask(TEXT, frozenset(), "not in the table")


def mask_of(view: str, column: str) -> Mask | None:
    """The mask of a personal column; None for one that is not personal."""
    if column not in personal_columns(VIEWS[view].row):
        return None
    return MASKS.get(view, {}).get(column, NOBODY)


@cache
def sees(roles: frozenset[Role], view: str, column: str) -> bool:
    """Whether one of these posts sees the column as it is; true of every column that is not personal."""
    mask = mask_of(view, column)
    return mask is None or bool(roles & mask.seen_by)


def masked(view: str, column: str, value: str | None) -> str | None:
    """What stands in the place of a personal value. None stays None, and what was erased says so."""
    mask = mask_of(view, column)
    if mask is None or value is None or value == ERASED:
        return value
    return mask.form.python(value)


def mask_sql(view: str, column: str) -> str:
    """The same as an SQL expression of type text, with `{0}` for the column and no other brace."""
    mask = mask_of(view, column)
    if mask is None:
        return "{0}"
    return f"(CASE WHEN {{0}} IS NULL OR {{0}} = '{ERASED}' THEN {{0}} ELSE {mask.form.sql} END)"
