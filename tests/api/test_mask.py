"""Masks: which post sees which personal column, and that nothing personal goes round them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.access.mask import ID_NUMBER, MASKS, NAME, PHONE, TEXT, Form, mask_of, mask_sql, masked, sees
from api.access.roles import CASE_READERS, EVERYONE
from domain.complaint_state import DESK
from domain.kernel import Role
from domain.personal import ERASED
from projections.personal import personal_columns
from projections.views import VIEWS
from tests.conftest import Database

FORMS = {"name": NAME, "phone": PHONE, "id number": ID_NUMBER, "text": TEXT}
COLUMNS = [(view.name, column) for view in VIEWS.values() for column in personal_columns(view.row)]
NOBODY: frozenset[Role] = frozenset()
STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=40)
LIKE_NUMBERS = st.text("0123456789+() -Xx\n*", max_size=24)


@pytest.fixture(scope="module")
def connection(shared_database: Database) -> Generator[psycopg.Connection[Any]]:
    with psycopg.connect(shared_database.app, autocommit=True) as opened:
        yield opened


def test_every_personal_column_is_in_the_table_and_nothing_else_is() -> None:
    assert {(view, column) for view, masks in MASKS.items() for column in masks} == set(COLUMNS)
    assert len(COLUMNS) >= 6
    for view, column in COLUMNS:
        mask = mask_of(view, column)
        assert mask is not None
        assert mask.why
        (known,) = (c for c in VIEWS[view].columns if c.name == column)
        assert known.type == "text", "masks are of text"


def test_who_sees_what() -> None:
    desk = set(DESK)
    seen = {
        column: {role for role in Role if sees(frozenset({role}), "complaint_case", column)} for _, column in COLUMNS
    }
    assert seen == {
        "complainant": desk | {Role.DEAN, Role.CASHIER},
        "phone": desk,
        "statement": desk | {Role.DEAN, Role.GM_OFFICE},
        "demand": desk | {Role.DEAN, Role.GM_OFFICE},
        "reason": desk | {Role.DEAN, Role.GM_OFFICE},
        "result": desk | {Role.DEAN, Role.GM_OFFICE},
    }
    assert all(roles <= CASE_READERS for roles in seen.values()), "who may not ask need not be shown"


def test_of_several_posts_one_that_sees_is_enough_and_no_post_sees_nothing() -> None:
    assert sees(frozenset({Role.AUDITOR, Role.CS_AGENT}), "complaint_case", "phone")
    assert not sees(NOBODY, "complaint_case", "phone")
    assert sees(NOBODY, "complaint_case", "number"), "a number is not personal"


def test_a_personal_column_nobody_entered_is_masked_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.access.mask.MASKS", {})
    sees.cache_clear()
    try:
        assert not any(sees(EVERYONE, *column) for column in COLUMNS)
        assert masked("complaint_case", "complainant", "王女士") == "***"
        assert "left(" not in mask_sql("complaint_case", "complainant")
    finally:
        sees.cache_clear()


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (NAME, "王女士", "王**"),
        (NAME, "欧阳小明先生", "欧**"),
        (NAME, "王", "**"),
        (NAME, "", "**"),
        (NAME, "𠮷野家", "𠮷**"),
        (PHONE, "13800138000", "138****8000"),
        (PHONE, "+86 138-0013-8000", "+86****8000"),
        (PHONE, "62345678", "***"),
        (PHONE, "12345", "***"),
        (PHONE, "13800138000\n", "***"),
        (PHONE, "找她女儿 13800138000", "***"),
        (ID_NUMBER, "11010119900307123X", "110***********123X"),
        (ID_NUMBER, "110101900307123", "110***********7123"),
        (ID_NUMBER, "11010119900307", "***"),
        (TEXT, "等候时间过长", "***"),
        (TEXT, "", "***"),
    ],
)
def test_masks_are_those_usual_in_china(form: Form, value: str, shown: str) -> None:
    assert form.python(value) == shown


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@given(value=STORABLE | LIKE_NUMBERS, other=STORABLE | LIKE_NUMBERS)
@example(value="１３８００１３８０００", other="")
@example(value="13800138000", other="13800138000\n")
@example(value="e\u0301lan", other="\u202eabc")
def test_python_and_sql_mask_alike(connection: psycopg.Connection[Any], form: Form, value: str, other: str) -> None:
    """Test-list 45's other half: what the planner writes is what the resolver shows, whatever people typed."""
    said = ", ".join([form.sql.replace("{0}", f"said.v{n}") for n in (1, 2)])
    query: Any = f"SELECT {said} FROM (VALUES ($1::text, $2::text)) AS said (v1, v2)"
    with psycopg.RawCursor(connection) as cursor:
        row = cursor.execute(query, (value, other)).fetchone()
    assert row == (form.python(value), form.python(other))


@pytest.mark.parametrize(("view", "column"), COLUMNS)
@given(value=st.none() | st.just(str(ERASED)) | STORABLE)
def test_null_stays_null_and_erased_stays_erased(
    connection: psycopg.Connection[Any], view: str, column: str, value: str | None
) -> None:
    query: Any = "SELECT " + mask_sql(view, column).replace("{0}", "$1::text")
    with psycopg.RawCursor(connection) as cursor:
        row = cursor.execute(query, (value,)).fetchone()
    assert row == (masked(view, column, value),)
    if value is None or value == ERASED:
        assert masked(view, column, value) == value
    else:
        assert masked(view, column, value) != value or "*" in value, (
            "only what somebody wrote as a mask is its own mask"
        )


@given(value=STORABLE | LIKE_NUMBERS)
def test_a_mask_tells_little_and_never_the_length(value: str) -> None:
    assert NAME.python(value) in ("**", f"{value[:1]}**")
    assert TEXT.python(value) == "***"
    for form, stars in ((PHONE, "****"), (ID_NUMBER, "***********")):
        shown = form.python(value)
        assert shown in ("***", f"{value[:3]}{stars}{value[-4:]}")
        assert shown == "***" or len(value) - 7 >= 4, "at least four characters stay hidden"
