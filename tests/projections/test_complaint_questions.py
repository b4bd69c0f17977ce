"""The complaint list page by page against a list in memory, with ties, both ways; and the index of every question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from domain.clock import ClockKind
from domain.complaint import Category, Channel, Severity, Stage
from domain.store.casebook import House, conninfo_as
from domain.store.tenant import SET_INSTITUTION, begin_reading
from projections.changes import Changed, cases_after
from projections.clock import CLOCKS, ClockRow
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.complaint_questions import (
    CLOCKS_BY_DUE,
    ORDERS,
    CaseFilter,
    CaseOrder,
    ClockFilter,
    cases,
    cases_numbered,
    clocks_late,
    clocks_of,
)
from projections.history import BY_VERSION, HISTORY, HistoryRow, histories, history_after
from projections.page import Condition, Page, Pager, Slice
from projections.question import Question, ask, ask_async
from projections.runner import catch_up
from projections.view import Row
from tests.conftest import Database
from tests.projections.walks import DEPARTMENTS, STAFF, START, stored
from tests.rules import rule

MINE, THEIRS = "QUESTA", "QUESTB"
NEVER = datetime.max.replace(tzinfo=UTC)
LATER = START + timedelta(days=30)
Filter = CaseFilter | ClockFilter | None
T = TypeVar("T")
R = TypeVar("R", bound=Row)

PAGERS = {order: Pager(COMPLAINTS, ComplaintRow, by) for order, by in ORDERS.items()}
PLACES: dict[CaseOrder, Callable[[ComplaintRow], Any]] = {
    CaseOrder.RECEIVED: lambda row: row.received_at,
    CaseOrder.DUE: lambda row: row.next_due_at or NEVER,
    CaseOrder.NUMBER: lambda row: row.number,
}


class Filled:
    """A store with 150 cases in an institution, many received in the same hour, and the like in another."""

    def __init__(self, house: House, owner: str) -> None:
        self.house = house
        self.reader = conninfo_as(house.conninfo, "anjuan_reader")
        for code, seed in ((MINE, 7), (THEIRS, 8)):
            histories = stored(house.casebook(code), seed, 150, 25)
            catch_up(house, [COMPLAINTS, CLOCKS, HISTORY], code)
            if code == MINE:
                self.ids = [events[0].originator_id for events in histories]
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("ANALYZE complaint_case, complaint_clock, history")
        self.cases = self.ask(cases(MINE, self.ids))
        self.clocks = self.ask(clocks_of(MINE, self.ids))

    def ask(self, question: Question[R]) -> list[R]:
        with self.house.everywhere.connection() as connection:
            return ask(connection, question)

    def run(self, asking: Callable[[AsyncConnection[Any]], Coroutine[Any, Any, T]], institution: str = MINE) -> T:
        """What something asks that does not wait, as the edge's questions are asked."""

        async def asked() -> T:
            connection: AsyncConnection[Any] = await AsyncConnection.connect(self.reader, autocommit=True)
            async with connection:
                await begin_reading(connection, institution)
                return await asking(connection)

        return asyncio.run(asked())

    def page(self, pager: Pager[R], slice: Slice, filter: Filter = None) -> Page[R]:
        return self.run(lambda connection: pager.page(connection, MINE, slice, conditions(filter)))


def conditions(filter: Filter) -> list[Condition]:
    return filter.conditions() if filter is not None else []


@pytest.fixture(scope="module")
def filled(house: House, shared_database: Database) -> Filled:
    return Filled(house, shared_database.owner)


def walked(filled: Filled, pager: Pager[R], size: int, *, backwards: bool, filter: Filter = None) -> list[R]:
    """Every row, page by page, from either end; each page says truly whether there are more."""
    where = conditions(filter)

    async def all_pages(connection: AsyncConnection[Any]) -> list[R]:
        rows: list[R] = []
        cursor: str | None = None
        while True:
            slice = Slice(last=size, before=cursor) if backwards else Slice(first=size, after=cursor)
            page = await pager.page(connection, MINE, slice, where)
            rows = [*page.rows, *rows] if backwards else [*rows, *page.rows]
            if not (page.has_previous if backwards else page.has_next):
                return rows
            assert len(page.rows) == size
            cursor = page.cursors[0 if backwards else -1]

    return filled.run(all_pages)


def in_order(rows: Sequence[ComplaintRow], by: CaseOrder, down: bool) -> list[ComplaintRow]:
    return sorted(rows, key=lambda row: (PLACES[by](row), row.complaint_id), reverse=down)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("by", "down"), list(ORDERS))
def test_pages_of_any_size_make_the_whole_list(filled: Filled, by: CaseOrder, down: bool, backwards: bool):
    """test-list 33."""
    places = [PLACES[by](row) for row in filled.cases]
    assert len(set(places)) < len(places), "there are ties"
    for size in (7, 50):
        assert walked(filled, PAGERS[by, down], size, backwards=backwards) == in_order(filled.cases, by, down)


def meets(row: ComplaintRow, f: CaseFilter) -> bool:
    """Whether the filter lets a row through, said in Python."""
    return all(
        (
            not f.stages or row.stage in f.stages,
            not f.channels or row.channel in f.channels,
            not f.categories or row.category in f.categories,
            not f.severities or row.severity in f.severities,
            f.owner is None or row.owner == f.owner,
            f.department is None or f.department in row.departments,
            f.overdue_at is None or (row.next_due_at or NEVER) < f.overdue_at,
            f.received_from is None or row.received_at >= f.received_from,
            f.received_before is None or row.received_at < f.received_before,
            f.closed is None or (row.closed_at is not None) == f.closed,
            f.source is None or row.source == f.source,
            not f.text or f.text.lower() in row.number.lower() or f.text.lower() in (row.reference or "").lower(),
        )
    )


def some(kind: type[StrEnum]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(kind), unique=True)


moments = st.integers(0, 60 * 24).map(lambda n: START + timedelta(hours=n))
hours = st.integers(0, 40).map(lambda n: START + timedelta(hours=n))
filters = st.builds(
    CaseFilter,
    stages=some(Stage),
    channels=some(Channel),
    categories=some(Category),
    severities=some(Severity),
    owner=st.none() | st.sampled_from(STAFF),
    department=st.none() | st.sampled_from(DEPARTMENTS) | st.just("%"),
    overdue_at=st.none() | moments,
    received_from=st.none() | hours,
    received_before=st.none() | hours,
    closed=st.none() | st.booleans(),
    source=st.none() | st.just("another system"),
    text=st.none() | st.sampled_from(["", "bj2026", "x-1", "CASE-", "03", "%", "_", "'"]),
)


@settings(deadline=None, max_examples=60)
@for_all(filters, st.sampled_from(list(ORDERS)))
def test_a_filter_lets_through_what_it_says(filled: Filled, filter: CaseFilter, order: tuple[CaseOrder, bool]):
    wanted = in_order([row for row in filled.cases if meets(row, filter)], *order)
    page = filled.page(PAGERS[order], Slice(first=100), filter)
    assert page.rows == wanted[:100]
    assert page.has_next == (len(wanted) > 100)
    count = filled.run(lambda connection: PAGERS[order].count(connection, MINE, filter.conditions()))
    assert count == len(wanted)


@settings(deadline=None, max_examples=60)
@for_all(st.lists(filters, min_size=1, max_size=20))
def test_filters_asked_at_once_let_through_what_each_of_them_says(filled: Filled, wanted: list[CaseFilter]):
    numbered = dict(enumerate(wanted, 7))

    async def changed(connection: AsyncConnection[Any]) -> list[Changed[ComplaintRow]]:
        found: list[Changed[ComplaintRow]] = []
        after = 0
        while (step := await cases_after(connection, ComplaintRow, MINE, after, numbered)).upto > after:
            found, after = found + step.cases, step.upto
        return found

    changes = filled.run(changed)
    assert [one.case for one in changes] == sorted(filled.cases, key=lambda row: row.position)
    for one in changes:
        assert one.meets == {n for n, filter in numbered.items() if meets(one.case, filter)}
        assert one.steady == {n for n, filter in numbered.items() if meets(one.case, replace(filter, overdue_at=None))}


def test_a_change_says_the_version_before_its_command(filled: Filled):
    """What one command appends was never seen in part."""
    changes = filled.run(lambda connection: cases_after(connection, ComplaintRow, MINE, 0, {}, most=10**6)).cases
    for one in changes:
        recorded = filled.house.casebook(MINE).recorder.events_of(one.case.complaint_id)
        commands = [event.command_id for event in recorded]
        assert one.case.version == len(recorded)
        assert one.before == commands.index(commands[-1])


@rule("CC-36")
def test_the_overdue_board_shows_running_clocks_past_their_time_what_was_due_first_comes_first(filled: Filled):
    pager = Pager(CLOCKS, ClockRow, CLOCKS_BY_DUE)
    for overdue in (ClockFilter(overdue_at=LATER), ClockFilter(overdue_at=LATER, responsible=STAFF[1])):
        wanted = [
            row
            for row in filled.clocks
            if row.stopped_at is None
            and (row.due_at or NEVER) < LATER
            and overdue.responsible in (None, row.responsible)
        ]
        wanted.sort(key=lambda row: (row.due_at or NEVER, row.complaint_id, row.step, row.interval))
        assert wanted
        assert walked(filled, pager, 50, backwards=False, filter=overdue) == wanted
    statutory = filled.page(pager, Slice(first=100), ClockFilter(kinds=[ClockKind.STATUTORY]))
    assert {row.kind for row in statutory.rows} == {ClockKind.STATUTORY}


def test_what_is_due_exactly_now_is_still_in_time(filled: Filled):
    """A deadline has passed from the next microsecond on: on the board, in the list, and by the domain's own count."""
    board = Pager(CLOCKS, ClockRow, CLOCKS_BY_DUE)
    clock = next(row for row in filled.clocks if row.stopped_at is None and row.due_at is not None)
    case = next(row for row in filled.cases if row.complaint_id == clock.complaint_id)
    assert clock.due_at is not None
    assert case.next_due_at is not None
    after = timedelta(microseconds=1)

    def on_board(at: datetime) -> bool:
        return clock in walked(filled, board, 100, backwards=False, filter=ClockFilter(overdue_at=at))

    def in_list(at: datetime) -> bool:
        return case in walked(
            filled, PAGERS[CaseOrder.DUE, False], 100, backwards=False, filter=CaseFilter(overdue_at=at)
        )

    assert (on_board(clock.due_at), on_board(clock.due_at + after)) == (False, True)
    assert (in_list(case.next_due_at), in_list(case.next_due_at + after)) == (False, True)


def test_who_waits_and_who_does_not_is_answered_the_same(filled: Filled):
    question = cases(MINE, filled.ids[:9])
    assert filled.run(lambda connection: ask_async(connection, question)) == filled.ask(question)

    class Shown(ComplaintRow):
        """As the edge inherits the row."""

    found = filled.ask(question.made_as(Shown))
    assert {type(row) for row in found} == {Shown}
    assert [vars(row) for row in found] == [vars(row) for row in filled.ask(question)]


def test_nothing_of_another_institution_is_ever_answered(filled: Filled):
    """test-list 35, 36: the same questions, put in the name of the other institution."""
    ids = set(filled.ids)
    pages = filled.run(lambda c: PAGERS[CaseOrder.DUE, False].page(c, THEIRS, Slice(first=100)), THEIRS)
    assert pages.rows
    assert not ids & {row.complaint_id for row in pages.rows}
    assert {row.institution for row in pages.rows} == {THEIRS}
    numbers = {row.number for row in filled.cases if row.number}
    numbered = [row for number in sorted(numbers)[:5] for row in filled.ask(cases_numbered(THEIRS, number))]
    assert not ids & {row.complaint_id for row in numbered}
    assert filled.ask(cases(THEIRS, filled.ids)) == []
    assert filled.ask(clocks_of(THEIRS, filled.ids)) == []
    assert filled.ask(histories(THEIRS, filled.ids, 10)) == []
    assert not ids & {row.stream_id for row in filled.ask(history_after(THEIRS, 0, 100))}
    assert not ids & {row.complaint_id for row in filled.ask(clocks_late(THEIRS, START, NEVER, 100))}


# plans


def plan(filled: Filled, query: bytes, values: Any) -> str:
    """How PostgreSQL would answer the edge, with row-level security, where it avoids reading whole tables if it can."""
    with psycopg.connect(filled.reader) as connection:
        connection.execute(SET_INSTITUTION, (MINE,))
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        rows = connection.execute(b"EXPLAIN (COSTS OFF) " + query, values).fetchall()
    return "\n".join(row[0] for row in rows)


def must_use(index: str, shown: str) -> None:
    assert re.search(rf"Index (Only )?Scan (Backward )?using {index}\b", shown), shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize(
    ("index", "question"),
    [
        ("complaint_case_pkey", cases(MINE, [UUID(int=1)])),
        ("complaint_case_number", cases_numbered(MINE, "BJ20260301")),
        ("complaint_clock_pkey", clocks_of(MINE, [UUID(int=1)])),
        ("complaint_clock_late", clocks_late(MINE, START, LATER, 10)),
        ("history_pkey", histories(MINE, [UUID(int=1), UUID(int=2)], 10)),
        ("history_position", history_after(MINE, 5, 10)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_question_is_answered_from_an_index(filled: Filled, index: str, question: Question[Any]):
    must_use(index, plan(filled, question.query, question.values))


def test_the_lines_of_several_cases_are_paged_by_one_statement(filled: Filled):
    """test-list 34."""
    pager = Pager(HISTORY, HistoryRow, BY_VERSION)
    ids = filled.ids[:20]
    pages = filled.run(lambda c: pager.pages(c, MINE, "stream_id", ids, Slice(first=3)))
    assert {id: [row.version for row in page.rows] for id, page in pages.items()} == {
        id: list(range(1, min(3, row.version) + 1)) for id in ids for row in filled.cases if row.complaint_id == id
    }
