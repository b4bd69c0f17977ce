"""The complaint list: what it shows of any case the domain accepts, and of one on a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import example, settings
from hypothesis import given as for_all

from domain.complaint import CaseClosed, CaseReopened, Channel, ComplaintEvent, FollowUpMade, PlanApproved, Stage
from domain.money import Money
from domain.store.casebook import Casebook, House
from projections.asof import as_of, blame
from projections.complaint import COMPLAINTS, ComplaintRow, show
from projections.complaint_questions import cases, cases_numbered
from projections.personal import personal_columns
from projections.question import ask
from projections.runner import catch_up
from projections.schema import differences
from projections.verify import verify
from projections.view import Row
from projections.views import VIEWS
from tests.conftest import Database
from tests.domain.given import CASE, LI, PATIENT, POLICY, QIAN, WANG, ZHAO, accept, hours, received, stamp
from tests.projections.case_oracle import shown, step_clocks
from tests.projections.walks import HISTORIES, history, stored
from tests.rules import rule

KEPT = {f.name for f in fields(Row)}


def folded(events: Sequence[ComplaintEvent]) -> ComplaintRow:
    """The row after these events, as a runner would have it but for what the runner keeps."""
    row: ComplaintRow | None = None
    for event in events:
        row = show(row, event)
    assert row is not None
    return row


def said(row: ComplaintRow) -> dict[str, Any]:
    """What `show` sets."""
    return {name: value for name, value in vars(row).items() if name not in KEPT}


@rule("CC-04", "CC-64")
def test_a_complaint_just_received_shows_the_register_s_columns_owner_and_nearest_deadline():
    row = folded(received().events)
    assert (row.complaint_id, row.number, row.stage) == (CASE, "", Stage.RECEIVED)
    assert (row.complainant, row.phone, row.complainant_id) == ("孙女士", "13800000000", PATIENT)
    assert (row.departments, row.statement) == (("皮肤科",), "术后肿胀，无人解释")
    assert row.received_at == hours(0)
    assert (row.owner, row.clock_step, row.clock_responsible) == (ZHAO, "form", ZHAO)
    assert row.clock_assumed, "the rule book's figure for the form is lost"
    assert row.next_due_at == row.clock_due_at == hours(4.5)
    assert row.deadline_steps[0] == "form"


def test_the_first_record_is_met_and_counted_in_the_event_that_made_it():
    assert folded(received(at=0.5).events).clocks_met == 1
    assert folded(received(at=1.5).events).clocks_late == 1


@rule("CC-63")
def test_a_refund_shows_who_planned_approved_and_paid_it_and_that_the_bank_is_still_awaited():
    told = received().up_to(Stage.CLOSED, settlement="refund", amount=Money.of("1200.50"), payment="bank_transfer")
    row = folded(told.events)
    assert (row.plan_author, row.plan_submitted_to, row.plan_approver) == (LI, WANG, WANG)
    assert (row.plan_settlement, row.plan_amount) == ("refund", Money.of("1200.50").yuan)
    assert (row.agreed_settlement, row.agreed_amount, row.payment) == (
        "refund",
        Money.of("1200.50").yuan,
        "bank_transfer",
    )
    assert row.plan_remedies == ("apology", "refund")
    assert row.payer == QIAN
    assert row.settlement_pending
    assert row.settlement_expected_at is not None
    assert row.result == "已退费"


@rule("CC-52")
def test_a_reopened_case_keeps_its_number_and_counts_and_shows_no_plan_of_the_round_before():
    told = received().up_to(Stage.FINISHED)
    before = folded(told.events)
    assert before.finished_at is not None
    assert before.clock_step is None
    assert before.next_due_at is None
    row = folded(told.then(lambda case: case.reopen(stamp(ZHAO, 200), POLICY, reason="又肿了")).events)
    assert (row.number, row.reopened_count, row.stage) == ("BJ20260301", 1, Stage.INVESTIGATING)
    assert (row.closed_at, row.finished_at, row.plan_author, row.agreed_settlement) == (None, None, None, None)
    assert (row.clock_step, row.clock_interval) == ("evidence", 2)
    assert row.clocks_met == before.clocks_met, "what was met in the round before stays met"


def test_a_case_taken_over_by_a_department_shows_it_among_the_departments():
    told = (
        received()
        .then(accept(1))
        .then(lambda case: case.offer_transfer(stamp(LI, 2), to=WANG, department="外科", reason="术后"))
    )
    assert folded(told.events).offered_to == WANG
    row = folded(told.then(lambda case: case.accept_transfer(stamp(WANG, 3))).events)
    assert (row.owner, row.offered_to, row.departments) == (WANG, None, ("皮肤科", "外科"))
    assert row.clock_responsible == WANG


@settings(deadline=None)
@for_all(HISTORIES)
@example(history(24, 60))
def test_the_row_is_what_the_whole_history_says(events: list[ComplaintEvent]):
    """test-list 22: the fold against an oracle that does not fold."""
    assert said(folded(events)) == shown(events)


@settings(deadline=None)
@for_all(HISTORIES)
def test_showing_one_more_event_leaves_the_row_before_as_it_was(events: list[ComplaintEvent]):
    """test-list 30, 32: any prefix folded anew is what was shown then."""
    row: ComplaintRow | None = None
    kept: list[tuple[ComplaintRow, dict[str, Any]]] = []
    for event in events:
        row = show(row, event)
        assert row is not None
        kept.append((row, dict(vars(row))))
    for length, (then, as_shown) in enumerate(kept, 1):
        assert vars(then) == as_shown
        assert vars(folded(events[:length])) == as_shown


@rule("CC-64")
@settings(deadline=None)
@for_all(HISTORIES)
def test_an_open_case_always_shows_one_owner_and_one_step_clock(events: list[ComplaintEvent]):
    for length in range(1, len(events) + 1):
        row = folded(events[:length])
        running = row.stage != Stage.FINISHED
        assert (row.clock_step is not None) == running
        assert step_clocks(events[:length]) == running
        assert row.owner is not None


def test_the_marks_of_personal_columns_name_the_column_of_their_subject():
    marks = personal_columns(ComplaintRow)
    assert set(marks) == {"complainant", "phone", "statement", "demand", "reason", "result"}
    assert set(marks.values()) == {"complainant_id"}


# on a real PostgreSQL


def test_every_view_has_the_columns_of_its_row(database: Database):
    """test-list 48: the schema from all migrations against the row types."""
    assert {"complaint_case", "complaint_clock", "history"} <= VIEWS.keys()
    with psycopg.connect(database.owner) as connection:
        assert [d for view in VIEWS.values() for d in differences(connection, view)] == []


def test_followed_rows_are_the_folded_ones_and_verify(house: House, casebook: Casebook, institution: str):
    """test-list 22."""
    histories = stored(casebook, 1, 25)
    catch_up(house, [COMPLAINTS], institution, batch=97)
    with house.everywhere.connection() as connection:
        rows = ask(connection, cases(institution, [events[0].originator_id for events in histories]))
    assert len(rows) == len(histories)
    folds = {events[0].originator_id: folded(events) for events in histories}
    for row in rows:
        assert said(row) == said(folds[row.complaint_id])
        assert row.institution == institution
        assert row.version == len(next(e for e in histories if e[0].originator_id == row.complaint_id))
    found = verify(house, COMPLAINTS, institution)
    assert found.ok, found.first
    assert found.rows == len(histories)


def test_a_case_is_found_by_its_number_in_its_own_institution_only(house: House, casebook: Casebook, institution: str):
    """test-list 36."""
    told = received().up_to(Stage.QUALIFIED)
    casebook.append_many([[event] for event in told.events])
    catch_up(house, [COMPLAINTS], institution)
    with house.everywhere.connection() as connection:
        (row,) = ask(connection, cases_numbered(institution, "BJ20260301"))
        assert row.complaint_id == CASE
        assert ask(connection, cases_numbered("XX", "BJ20260301")) == []
        assert ask(connection, cases("XX", [CASE])) == []
        assert ask(connection, cases_numbered(institution, "")) == []


@rule("CC-03")
def test_one_register_holds_the_complaints_of_every_channel_with_their_result(house: House, casebook: Casebook):
    channel_of: dict[UUID, Channel] = {}
    for channel in Channel:
        id = uuid4()
        channel_of[id] = channel
        told = received(channel=channel).up_to(Stage.CLOSED)
        moved = [replace(e, originator_id=id, stamp=replace(e.stamp, command_id=uuid4())) for e in told.events]
        casebook.append_many([[event] for event in moved])
    catch_up(house, [COMPLAINTS], casebook.institution)
    with house.everywhere.connection() as connection:
        register = connection.execute(
            "SELECT complaint_id FROM complaint_case WHERE institution = %s", (casebook.institution,)
        ).fetchall()
        rows = ask(connection, cases(casebook.institution, list(channel_of)))
    assert {id for (id,) in register} == channel_of.keys()
    assert {row.complaint_id: row.channel for row in rows} == channel_of
    assert all(row.feedback_at is not None and row.closed_at is not None for row in rows)


def test_a_case_as_it_was_and_which_event_set_each_field(house: House, casebook: Casebook, institution: str):
    """test-list 32."""
    told = received().up_to(Stage.FINISHED)
    told.then(lambda case: case.reopen(stamp(ZHAO, 300), POLICY, reason="又肿了"))
    casebook.append_many([[event] for event in told.events])
    for version in range(1, len(told.events) + 1):
        (row,) = as_of(house, COMPLAINTS, institution, CASE, version=version)
        assert said(row) == said(folded(told.events[:version]))
        assert as_of(house, COMPLAINTS, institution, CASE, position=version) == [row]
        events = [e for e in told.events if e.stamp.at <= told.events[version - 1].stamp.at]
        (row,) = as_of(house, COMPLAINTS, institution, CASE, occurred_at=told.events[version - 1].stamp.at)
        assert said(row) == said(folded(events))
    setters = blame(house, COMPLAINTS, institution, CASE)
    reopened = next(e for e in told.events if isinstance(e, CaseReopened))
    assert setters["reopened_count"].version == setters["closed_at"].version == reopened.originator_version
    assert setters["complainant"].version == 1
    assert (
        setters["satisfaction"].version
        == next(e for e in told.events if isinstance(e, FollowUpMade)).originator_version
    )
    closed = next(e for e in told.events if isinstance(e, CaseClosed)).originator_version
    before = blame(house, COMPLAINTS, institution, CASE, version=closed)
    approved = next(e for e in told.events if isinstance(e, PlanApproved))
    assert (before["plan_approver"].version, before["plan_approver"].actor) == (approved.originator_version, WANG)
    assert before["closed_at"].version == closed


def test_two_institutions_with_the_same_case_id_do_not_see_each_other(
    house: House, casebook: Casebook, institution: str
):
    """test-list 36."""
    other = house.casebook(institution + "X")
    mine, theirs = received().up_to(Stage.QUALIFIED), received(complainant="钱先生")
    casebook.append_many([[event] for event in mine.events])
    other.append_many([[event] for event in theirs.events])
    catch_up(house, [COMPLAINTS])
    with house.everywhere.connection() as connection:
        (here,) = ask(connection, cases(institution, [CASE]))
        (there,) = ask(connection, cases(institution + "X", [CASE, UUID(int=1)]))
    assert (here.complainant, here.stage) == ("孙女士", Stage.QUALIFIED)
    assert (there.complainant, there.stage) == ("钱先生", Stage.RECEIVED)


def test_what_is_shown_does_not_depend_on_the_process_that_shows_it():
    """test-list 30: the same walks in processes with other hash seeds."""
    told = (
        "import random; from projections.views import OF_CASES; from tests.projections.walks import walk\n"
        "for view in OF_CASES:\n"
        "    rows = {}\n"
        "    for event in [e for seed in range(5) for e in walk(random.Random(seed), 60)]:\n"
        "        for key, fact in view.facts(event):\n"
        "            rows[key] = view.show(rows.get(key), fact)\n"
        "    print(view.name, list(rows.values()))\n"
    )
    shown_by = {
        subprocess.run(
            [sys.executable, "-c", told],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(shown_by) == 1
    assert len(shown_by.pop()) > 100_000
