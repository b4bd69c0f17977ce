"""The clocks' own list: a line per step and interval, each with one result for ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings

from domain.clock import ClockKind, ClockStarted, ClockStopped, Outcome, Step
from domain.complaint import ComplaintEvent, PlanApproved, Stage
from domain.store.casebook import Casebook, House
from projections.asof import as_of
from projections.clock import CLOCKS, ClockRow, Moved, moves, show
from projections.complaint_questions import clocks_late, clocks_of
from projections.question import ask
from projections.runner import catch_up
from projections.verify import verify
from projections.view import Key
from tests.domain.given import LI, POLICY, WANG, ZHAO, hours, received, stamp
from tests.projections.walks import HISTORIES, stored
from tests.rules import rule

KEPT = ("institution", "position", "version", "recorded_at")


def folded(events: Iterable[ComplaintEvent]) -> dict[Key, ClockRow]:
    """The lines after these events, in no particular order."""
    rows: dict[Key, ClockRow] = {}
    for event in events:
        for key, moved in moves(event):
            row = show(rows.get(key), moved)
            assert row is not None
            rows[key] = row
    return rows


def said(row: ClockRow) -> dict[str, Any]:
    """What `show` sets."""
    return {name: value for name, value in vars(row).items() if name not in KEPT}


def line(events: Iterable[ComplaintEvent], step: Step, interval: int = 1) -> ClockRow:
    """One of the lines."""
    return next(r for r in folded(events).values() if (r.step, r.interval) == (step, interval))


@rule("CC-02")
def test_the_first_record_starts_and_stops_in_one_event_and_keeps_its_verdict():
    in_time, late = line(received(at=0.5).events, Step.FIRST_RECORD), line(received(at=1.5).events, Step.FIRST_RECORD)
    assert (in_time.outcome, in_time.late_seconds, in_time.responsible) == (Outcome.MET, 0, ZHAO)
    assert (in_time.started_at, in_time.stopped_at) == (hours(0), hours(0.5))
    assert (late.outcome, late.late_seconds, late.assumed) == (Outcome.LATE, 1800, True)


@rule("CC-24")
def test_each_step_has_its_own_responsible_limit_and_verdict():
    told = received().up_to(Stage.PLAN_PROPOSED)
    form, approve = line(told.events, Step.FORM), line(told.events, Step.APPROVE)
    assert (form.responsible, form.due_at, form.outcome) == (ZHAO, hours(4.5), Outcome.MET)
    assert (approve.responsible, approve.due_at, approve.outcome) == (WANG, hours(30), None)
    assert (approve.rule, approve.policy, approve.policy_version) == ("CC-28", POLICY.id, 0)


@rule("CC-29")
def test_a_pause_ends_an_interval_and_the_next_one_has_what_was_left():
    told = received().up_to(Stage.AGREED)
    paused, resumed = line(told.events, Step.CLOSE), line(told.events, Step.CLOSE, 2)
    assert (paused.outcome, resumed.outcome) == (Outcome.PAUSED, None)
    assert paused.due_at is not None
    assert paused.stopped_at is not None
    assert resumed.due_at is not None
    assert resumed.due_at - resumed.started_at == paused.due_at - paused.stopped_at
    approved = next(e for e in told.events if isinstance(e, PlanApproved))
    assert paused.stopped_at == approved.stamp.at


@rule("CC-52")
def test_a_step_that_was_late_stays_late_when_the_case_is_reopened():
    told = received(at=1.5).up_to(Stage.FINISHED, 50)
    before = {key: said(row) for key, row in folded(told.events).items()}
    assert line(told.events, Step.FORM).outcome == Outcome.LATE
    after = folded(told.then(lambda case: case.reopen(stamp(LI, 400), POLICY, reason="又肿了")).events)
    assert {key: said(row) for key, row in after.items() if key in before} == before
    assert (line(told.events, Step.EVIDENCE, 2).outcome, len(after) > len(before)) == (None, True)


def test_a_result_is_never_overwritten_by_a_later_one():
    event = received().events[0]
    begun = next(c for c in event.started if c.step == Step.FORM)
    row = show(None, Moved(event, begun))
    first = ClockStopped(
        step=Step.FORM,
        kind=ClockKind.STEP,
        interval=1,
        responsible=ZHAO,
        started_at=begun.started_at,
        due_at=begun.due_at,
        stopped_at=hours(40),
        outcome=Outcome.LATE,
        late_seconds=99,
    )
    once = show(row, Moved(event, first))
    twice = show(once, Moved(event, replace(first, outcome=Outcome.MET, late_seconds=0, stopped_at=hours(2))))
    assert once is not None
    assert twice == once
    assert (once.outcome, once.late_seconds, once.stopped_at) == (Outcome.LATE, 99, hours(40))
    assert show(once, Moved(event, begun)) == once, "nor does it begin again"
    assert row is not None
    assert row.outcome is None, "and the line given is left as it was"


def test_an_interval_that_never_started_cannot_stop():
    event = received().events[0]
    with pytest.raises(AssertionError):
        show(None, Moved(event, event.stopped[0]))


@settings(deadline=None)
@for_all(HISTORIES)
def test_a_line_for_every_interval_started_with_the_result_of_the_stop_that_names_it(events: list[ComplaintEvent]):
    """test-list 22: against the lists in the events themselves."""
    began = {(e.originator_id, c.step, c.interval): (e, c) for e in events for c in e.started}
    ended = {(e.originator_id, c.step, c.interval): c for e in events for c in e.stopped}
    rows = folded(events)
    assert rows.keys() == began.keys() >= ended.keys()
    for key, row in rows.items():
        event, clock = began[key]
        assert _promise(row) == _promise(clock)
        assert row.started_version == event.originator_version
        end = ended.get(key)
        results = (end.stopped_at, end.outcome, end.late_seconds) if end else (None, None, 0)
        assert (row.stopped_at, row.outcome, row.late_seconds) == results


def _promise(clock: ClockRow | ClockStarted) -> tuple[Any, ...]:
    return (
        clock.step,
        clock.kind,
        clock.interval,
        clock.responsible,
        clock.started_at,
        clock.counted_from,
        clock.due_at,
        clock.due_provisional,
        clock.policy,
        clock.policy_version,
        clock.rule,
        clock.assumed,
        clock.clamped,
    )


@rule("CC-64")
@settings(deadline=None)
@for_all(HISTORIES)
def test_what_has_stopped_never_changes_and_one_step_clock_runs_until_the_end(events: list[ComplaintEvent]):
    results: dict[Key, dict[str, Any]] = {}
    rows: dict[Key, ClockRow] = {}
    for event in events:
        for key, moved in moves(event):
            row = show(rows.get(key), moved)
            assert row is not None
            rows[key] = row
        for key, before in results.items():
            assert said(rows[key]) == before
        results |= {key: said(row) for key, row in rows.items() if row.stopped_at is not None}
        assert sum(r.kind == ClockKind.STEP and r.stopped_at is None for r in rows.values()) <= 1


# on a real PostgreSQL


def test_followed_lines_are_the_folded_ones_and_verify(house: House, casebook: Casebook, institution: str):
    """test-list 22."""
    histories = stored(casebook, 2, 20)
    catch_up(house, [CLOCKS], institution, batch=61)
    with house.everywhere.connection() as connection:
        rows = ask(connection, clocks_of(institution, [events[0].originator_id for events in histories]))
    expected = {key: row for events in histories for key, row in folded(events).items()}
    assert {(r.complaint_id, r.step, r.interval): said(r) for r in rows} == {k: said(r) for k, r in expected.items()}
    order = [(r.complaint_id, r.started_at, r.started_version, r.step, r.interval) for r in rows]
    assert order == sorted(order)
    found = verify(house, CLOCKS, institution)
    assert found.ok, found.first
    assert found.rows == len(expected)


def test_clocks_as_they_were_at_any_version(house: House, casebook: Casebook, institution: str):
    """test-list 32."""
    (events,) = stored(casebook, 3, 1, 80)
    for version in range(1, len(events) + 1):
        rows = as_of(house, CLOCKS, institution, events[0].originator_id, version=version)
        then = folded(events[:version])
        assert [said(row) for row in rows] == [said(then[key]) for key in sorted(then)]


@rule("CC-36")
def test_late_intervals_are_listed_latest_end_first(house: House, casebook: Casebook, institution: str):
    histories = stored(casebook, 4, 20)
    catch_up(house, [CLOCKS], institution)
    late = [r for events in histories for r in folded(events).values() if r.outcome == Outcome.LATE]
    ends = sorted(r.stopped_at for r in late if r.stopped_at is not None)
    assert len(ends) > 10
    since, before = ends[2], ends[-2]
    with house.everywhere.connection() as connection:
        found = ask(connection, clocks_late(institution, since, before, 1000))
        assert len(ask(connection, clocks_late(institution, since, before, 3))) == 3
    wanted = [r for r in late if r.stopped_at is not None and since <= r.stopped_at < before]
    wanted.sort(key=lambda r: (r.stopped_at or datetime.max.replace(tzinfo=UTC), r.complaint_id, r.step, r.interval))
    assert [said(r) for r in found] == [said(r) for r in reversed(wanted)]
    assert all(r.late_seconds > 0 for r in found)
