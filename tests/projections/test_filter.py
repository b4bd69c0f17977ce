"""Every declared filter and order is served by the index it names; a declaration that is not so is caught."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection, Connection
from psycopg.sql import SQL, Identifier

from domain.clock import ClockKind
from domain.complaint import Category, Channel, Severity, Stage
from domain.store.casebook import House
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.complaint_questions import CLOCKS_AS_BEGUN, CLOCKS_BY_DUE, ORDERS, CaseFilter, ClockFilter
from projections.filter import Filter, Narrowing, narrowings
from projections.glass import GLASSES, LATEST_FIRST, GlassFilter
from projections.history import BY_POSITION, BY_VERSION, HISTORY
from projections.history_filter import HistoryFilter
from projections.page import Condition, Order, Pager, Slice
from projections.runner import catch_up
from projections.view import View
from tests.conftest import MASTER_KEY, Database, Server
from tests.projections.walks import stored

MINE = "FILLED"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 20_000
ONE, CASE = UUID(int=7), UUID(int=1)
BOARD: list[Condition] = ClockFilter().conditions()
OF_ONE_STREAM: list[Condition] = HistoryFilter(stream=CASE).conditions()

SAMPLES: dict[type[Filter], dict[str, Filter]] = {
    CaseFilter: {
        "stages": CaseFilter(stages=[Stage.DISPUTED]),
        "channels": CaseFilter(channels=[Channel.FAX]),
        "categories": CaseFilter(categories=[Category.FEES]),
        "severities": CaseFilter(severities=[Severity.SERIOUS]),
        "owner": CaseFilter(owner=ONE),
        "department": CaseFilter(department="外科"),
        "overdue_at": CaseFilter(overdue_at=BEGUN + timedelta(hours=3)),
        "received_from": CaseFilter(received_from=BEGUN + timedelta(days=364)),
        "received_before": CaseFilter(received_before=BEGUN + timedelta(days=1)),
        "closed": CaseFilter(closed=True),
        "source": CaseFilter(source="elsewhere"),
        "text": CaseFilter(text="0"),
    },
    ClockFilter: {
        "kinds": ClockFilter(kinds=[ClockKind.STEP]),
        "overdue_at": ClockFilter(overdue_at=BEGUN + timedelta(hours=3)),
        "responsible": ClockFilter(responsible=ONE),
    },
    GlassFilter: {
        "staff": GlassFilter(staff=ONE),
        "case": GlassFilter(case=CASE),
    },
    HistoryFilter: {
        "stream": HistoryFilter(stream=CASE),
        "actor": HistoryFilter(actor=ONE),
        "aggregate": HistoryFilter(aggregate="complaint"),
        "after_position": HistoryFilter(after_position=ROWS - 100),
        "version": HistoryFilter(stream=CASE, version=9),
        "position": HistoryFilter(position=100),
        "occurred_at": HistoryFilter(stream=CASE, occurred_at=BEGUN + timedelta(days=9)),
        "recorded_at": HistoryFilter(stream=CASE, recorded_at=BEGUN + timedelta(days=9)),
    },
}
"""A filter for each way to narrow: to few rows where rows are sought, to many where they are passed over."""

LISTS: dict[type[Filter], tuple[View[Any], Sequence[tuple[Order, Sequence[Condition]]]]] = {
    CaseFilter: (COMPLAINTS, [(order, ()) for order in ORDERS.values()]),
    ClockFilter: (CLOCKS, [(CLOCKS_BY_DUE, BOARD), (CLOCKS_AS_BEGUN, [("complaint_id = %s", CASE)])]),
    GlassFilter: (GLASSES, [(LATEST_FIRST, ())]),
    HistoryFilter: (
        HISTORY,
        [(BY_POSITION, ()), (replace(BY_POSITION, descending=True), ()), (BY_VERSION, OF_ONE_STREAM)],
    ),
}
"""The view of each filter, with every order its rows are paged in and what always narrows that."""

OVERRIDES = {
    COMPLAINTS: """
        'complaint_id', made.id, 'number', 'N' || made.n, 'source', 'elsewhere', 'departments', ARRAY['外科'],
        'stage', CASE WHEN made.n % 500 = 0 THEN 'disputed' ELSE 'closed' END,
        'channel', CASE made.n % 2 WHEN 0 THEN 'fax' ELSE 'letter' END,
        'category', CASE made.n % 2 WHEN 0 THEN 'fees' ELSE 'other' END,
        'severity', CASE made.n % 2 WHEN 0 THEN 'serious' ELSE 'ordinary' END,
        'owner', made.person, 'received_at', made.at, 'next_due_at', CASE made.n % 3 WHEN 0 THEN made.at END,
        'closed_at', CASE made.n % 3 WHEN 0 THEN NULL ELSE made.at END""",
    CLOCKS: """
        'complaint_id', made.id, 'responsible', made.person, 'started_at', made.at, 'due_at', made.at, 'kind', 'step',
        'stopped_at', CASE made.n % 2 WHEN 0 THEN NULL ELSE made.at END""",
    GLASSES: """
        'staff_id', made.person, 'case_id', made.stream, 'glass_id', made.id, 'broken_at', made.at""",
    HISTORY: """
        'stream_id', made.stream, 'version', 100 + made.n / 400, 'position', 1000000 + made.n, 'actor', made.person,
        'occurred_at', made.at, 'recorded_at', made.at""",
}
"""What differs from a row that a walk made, which gives all the rest."""


@pytest.fixture(scope="module")
def filled(server: Server, template: Database) -> Generator[Connection[Any]]:
    """A database with many rows of each view in two institutions."""
    database = server.create(template)
    with House(database.app, MASTER_KEY) as house, psycopg.connect(database.owner, autocommit=True) as connection:
        for code in (MINE, "OTHER"):
            stored(house.casebook(code), 7, 8, 12)
            catch_up(house, [COMPLAINTS, CLOCKS, HISTORY], code)
            connection.execute("SELECT set_config('anjuan.institution', %s, false)", (code,))
            connection.execute(
                "INSERT INTO broken_glass VALUES (%s, %s, %s, %s, 'r', now(), now(), NULL, 0, 1, 1, now())",
                (code, ONE, CASE, CASE),
            )
            for view, differs in OVERRIDES.items():
                made = differs.replace("%", "%%")
                text = f"""
                    INSERT INTO {view.name}
                    SELECT row.*
                    FROM (SELECT * FROM {view.name} AS v WHERE institution = %(code)s LIMIT 1) AS base,
                         (SELECT n, gen_random_uuid() AS id, %(begun)s + n * interval '26 minutes' AS at,
                                 lpad(to_hex(n %% 200), 32, '0')::uuid AS person,
                                 lpad(to_hex(n %% 400), 32, '0')::uuid AS stream
                          FROM generate_series(1, %(rows)s) AS n) AS made,
                         LATERAL jsonb_populate_record(base::{view.name}, jsonb_build_object({made})) AS row
                """
                connection.execute(text.encode(), {"code": code, "begun": BEGUN, "rows": ROWS})
        connection.execute("SELECT set_config('anjuan.institution', %s, false)", (MINE,))
        connection.execute("ANALYZE complaint_case, complaint_clock, broken_glass, history")
        connection.execute("ANALYZE complaint_case, complaint_clock, history")
        connection.execute("SET ROLE anjuan_reader")  # as the edge asks, under row-level security
        yield connection
    server.drop(database)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def planned(
    connection: Connection[Any], view: View[Any], order: Order, where: Sequence[Condition], slice: Slice
) -> list[dict[str, Any]]:
    """How PostgreSQL answers the very statement a pager sends, with nothing turned off."""
    sent: list[tuple[Any, Any]] = []

    class Listening(AsyncConnection[Any]):
        async def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
            sent.append((query, params))
            return await super().execute(query, params, **more)

    async def asked() -> None:
        async with await Listening.connect(connection.info.dsn, password=connection.info.password) as listening:
            await Pager(view, view.row, order).page(listening, MINE, slice, where)

    asyncio.run(asked())
    query, values = sent[-1]
    row = connection.execute(SQL("EXPLAIN (FORMAT JSON) {}").format(query), values).fetchone()
    assert row is not None
    return list(nodes(row[0][0]["Plan"]))


def must_order(connection: Connection[Any], view: View[Any], order: Order, always: Sequence[Condition] = ()) -> None:
    """Raise AssertionError unless pages in this order, from either end and after a row, are read from its index."""
    pager = Pager(view, view.row, order)
    row = connection.execute(
        SQL("SELECT {} FROM {} WHERE institution = %s OFFSET 500 LIMIT 1").format(
            SQL(", ").join(Identifier(c.name) for c in view.columns), Identifier(view.name)
        ),
        (MINE,),
    ).fetchone()
    assert row is not None
    cursor = pager.cursor(pager._row(row))
    for slice in (Slice(first=20), Slice(last=20), Slice(first=20, after=cursor), Slice(last=20, before=cursor)):
        found = planned(connection, view, order, always, slice)
        assert order.index in [node.get("Index Name") for node in found], (order, found)
        types = {node["Node Type"] for node in found}
        assert "Seq Scan" not in types, (order, found)
        # sorting further what the index gives in order reads no more of it: positions are unique
        assert order.of_few or "Sort" not in types, (order, found)


def serves(connection: Connection[Any], view: View[Any], order: Order, one: Narrowing, filter: Filter) -> bool:
    """Whether in this order the index serves the filter as it says."""
    found = planned(connection, view, order, filter.conditions(), Slice(first=20))
    if any(node["Node Type"] == "Seq Scan" for node in found):
        return False
    if one.walks:
        sorts = any(node["Node Type"] == "Sort" for node in found)
        return not sorts and any(node.get("Index Name") == one.index for node in found)
    # the first condition is the institution's
    return any(node.get("Index Name") == one.index and " AND " in node.get("Index Cond", "") for node in found)


def must_narrow(connection: Connection[Any], of: type[Filter], name: str, filter: Filter) -> None:
    """Raise AssertionError unless there is an order in which the index of this way to narrow serves it."""
    view, orders = LISTS[of]
    one = dict(narrowings(type(filter)))[name]
    assert getattr(filter, name) is not None
    assert any(serves(connection, view, order, one, filter) for order, _ in orders), (
        f"{name}: {one.index} serves it not"
    )


def test_every_filter_is_tried() -> None:
    ours = {kind for kind in Filter.__subclasses__() if kind.__module__.startswith("projections.")}
    assert ours == set(SAMPLES) == set(LISTS)
    for kind, samples in SAMPLES.items():
        assert [f.name for f in fields(kind)] == list(samples)


@pytest.mark.parametrize(("of", "name"), [(of, name) for of, samples in SAMPLES.items() for name in samples])
def test_every_filter_is_served_by_its_index(filled: Connection[Any], of: type[Filter], name: str) -> None:
    must_narrow(filled, of, name, SAMPLES[of][name])


@pytest.mark.parametrize("of", list(LISTS))
def test_every_order_is_read_from_its_index(filled: Connection[Any], of: type[Filter]) -> None:
    view, orders = LISTS[of]
    for order, always in orders:
        must_order(filled, view, order, always)


@dataclass(frozen=True, kw_only=True)
class Wrong(Filter):
    """What a careless hand might declare."""

    without: Annotated[str | None, Narrowing("reason = %s", index="complaint_case_reason")] = None
    unsought: Annotated[str | None, Narrowing("channel = %s", index="complaint_case_received")] = None
    anothers: Annotated[UUID | None, Narrowing("owner = %s", index="complaint_case_stage")] = None
    unordered: Annotated[str | None, Narrowing("source = %s", index="complaint_case_pkey", walks=True)] = None


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(without="x"),
        Wrong(unsought="fax"),
        Wrong(anothers=ONE),
        Wrong(unordered="elsewhere"),
    ],
    ids=["without", "unsought", "anothers", "unordered"],
)
def test_a_filter_that_no_index_serves_is_caught(
    filled: Connection[Any], wrong: Wrong, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    with pytest.raises(AssertionError, match="serves it not"):
        must_narrow(filled, CaseFilter, name, wrong)


@pytest.mark.parametrize(
    "order",
    [
        Order(("category",), index="complaint_case_category"),
        Order(("category",), index="complaint_case_received"),
        Order(("received_at",), index="complaint_case_number"),
        Order(("received_at",)),
    ],
    ids=["without", "anothers", "mistaken", "unsaid"],
)
def test_an_order_that_no_index_gives_is_caught(filled: Connection[Any], order: Order) -> None:
    with pytest.raises(AssertionError):
        must_order(filled, COMPLAINTS, order)


def test_a_field_that_does_not_say_how_it_narrows_is_no_filter() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Silent(Filter):
        owner: Annotated[UUID | None, "by somebody"] = None

    with pytest.raises(AssertionError, match=r"Silent\.owner does not say"):
        Silent(owner=uuid4()).conditions()


def test_what_is_left_out_or_empty_does_not_narrow() -> None:
    assert CaseFilter(stages=[], text="", owner=None).conditions() == []
    assert [text for text, _ in CaseFilter(closed=False, stages=[Stage.CLOSED]).conditions()] == [
        "stage = ANY(%s)", "(closed_at IS NOT NULL) = %s",
    ]  # fmt: skip
    assert len(BOARD) == 1, "the board is of running clocks whatever else is asked"
