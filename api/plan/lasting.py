"""Whether what a statement answers stays the same as long as its views do: what may be kept."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from api.plan.sql import NOW
from projections.personal import personal_columns
from projections.views import VIEWS

_MOMENT = re.compile(re.escape(NOW).encode() + rb"(?![0-9])")


@lru_cache(maxsize=2000)
def lasting(statement: bytes) -> bool:
    """Whether it neither uses the moment of the request nor names a personal column, masked or not.

    Told from the statement itself, not from what it was made of, so that no way of making one can forget to say so.
    Personal columns are never kept: a copy would outlive the destruction of its subject's key, and everybody who is
    shown one is in the log of reads.
    """
    return not _MOMENT.search(statement) and not _personal().search(statement)


@cache
def _personal() -> re.Pattern[bytes]:
    names = sorted({name for view in VIEWS.values() for name in personal_columns(view.row)})
    return re.compile(rb"(?<![A-Za-z0-9_])(?:%b)(?![A-Za-z0-9_])" % "|".join(names).encode())
