"""Institutions are opened once, under a good code, in a zone that exists."""

from typing import Any

import pytest

from domain.institution import INSTITUTION, CalendarName, ClosingZone, Institution, InstitutionOpened, open_institution
from tests.domain.given import BOSS, LI, given, refused, stamp

WORDS: dict[str, Any] = {"code": "BJ", "name": "北京联合丽格", "group": "联合丽格", "zone": "beijing"}


def opened(known: Institution | None = None, **said: Any) -> InstitutionOpened | None:
    return open_institution(known, stamp(BOSS), **{**WORDS, **said})


def test_an_institution_keeps_what_deadlines_need() -> None:
    event = opened()
    assert event is not None
    place = given(INSTITUTION, event).place
    assert (place.code, place.zone, place.calendar) == ("BJ", ClosingZone.BEIJING, CalendarName.CN)


def test_it_is_opened_once() -> None:
    event = opened()
    assert event is not None
    known = given(INSTITUTION, event)
    assert opened(known) is None
    with refused("institution.already_open", "code"):
        opened(known, name="另一家")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("code", "B"), ("code", "bj"), ("code", "B1"), ("code", "ABCDEFGHI"), ("code", "BJ\n"),
        ("zone", "moon"), ("time_zone", "Asia/Nowhere"), ("time_zone", "../etc"), ("time_zone", ""),
        ("calendar", "lunar"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(field: str, wrong: str) -> None:
    with refused(f"institution.{field}", field):
        opened(None, **{field: wrong})


def test_a_blank_name_is_refused() -> None:
    with refused("text.empty", "name"):
        opened(name="  ")


def test_only_an_administrator_opens_one() -> None:
    with refused("access.role"):
        open_institution(None, stamp(LI), **WORDS)
