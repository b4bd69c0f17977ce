"""Which fields of an event are personal, and whose.

`name: Annotated[str, Personal("complainant_id")]` says: the field holds data of the person whose id stands in the
event's field `complainant_id`. The store encrypts it under that person's key (PIPL art. 28 and 47, B20); when the key
is gone the field reads `ERASED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

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
    """Field name -> name of the field that holds its subject's id, for one event type.

    A mark that stands inside another type (`Annotated[str, Personal("x")] | None`) is a mistake that would leave the
    field in the clear: it is an AssertionError, as is a subject that is no field.
    """
    found: dict[str, str] = {}
    hints = get_type_hints(event, include_extras=True)
    for name, hint in hints.items():
        inside = get_args(hint)
        if get_origin(hint) is Annotated:
            inside = get_args(hint)[:1]
            found.update((name, mark.subject) for mark in get_args(hint)[1:] if isinstance(mark, Personal))
        assert not any(map(_marked, inside)), f"{event.__name__}.{name}: write Annotated[str | None, Personal(…)]"
    assert all(subject in hints for subject in found.values()), f"{event.__name__}: a subject is no field of it"
    return found


def _marked(hint: Any) -> bool:
    return isinstance(hint, Personal) or any(map(_marked, get_args(hint)))
