"""Which fields of an event are personal, and whose.

`name: Annotated[str, Personal("complainant_id")]` says: the field holds data of the person whose id stands in the
event's field `complainant_id`. The store encrypts it under that person's key (PIPL art. 28 and 47, B20); when the key
is gone the field reads `ERASED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Final, get_args, get_origin, get_type_hints

from domain.kernel import Event


@dataclass(frozen=True)
class Personal:
    """Marks a field of type `str` (or `str | None`) as data of the subject named by another field of the event."""

    subject: str


class Erased(str):
    """What is left of a personal field whose key was destroyed. Like any other text, so folds need no special case."""

    __slots__ = ()


ERASED: Final = Erased("［已删除 erased］")


@cache
def personal_fields(event: type[Event]) -> dict[str, str]:
    """Field name -> name of the field that holds its subject's id, for one event type."""
    found: dict[str, str] = {}
    for name, hint in get_type_hints(event, include_extras=True).items():
        if get_origin(hint) is Annotated:
            for mark in get_args(hint)[1:]:
                if isinstance(mark, Personal):
                    found[name] = mark.subject
    return found
