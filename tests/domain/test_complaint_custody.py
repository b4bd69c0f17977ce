"""Whose case it is: first contact, escalation, transfer; and cases taken over from another system's log."""

from datetime import timedelta
from typing import Any

import pytest

from domain.clock import Outcome, Step
from domain.complaint import (
    COMPLAINT,
    CaseEscalated,
    ComplaintImported,
    ImportedCaseEnded,
    Stage,
    WorkRecorded,
    import_case,
)
from tests.domain.given import (
    BOSS,
    CASE,
    CHEN,
    DOCTOR,
    LI,
    MED,
    MONDAY,
    POLICY,
    WANG,
    ZHAO,
    Told,
    accept,
    but,
    given,
    hours,
    qualify,
    received,
    refused,
    stamp,
)
from tests.rules import rule

OFFER: dict[str, Any] = {"to": MED, "department": "医务部", "reason": "不属本部门"}


@rule("CC-13")
def test_the_first_contact_owns_the_case_until_the_right_department_has_accepted() -> None:
    told = received()
    before = told.case.running
    told.then(lambda case: case.offer_transfer(stamp(ZHAO, 1), **OFFER))
    assert (told.case.owner, told.case.running) == (ZHAO, before)
    told.then(lambda case: case.accept_transfer(stamp(MED, 2)))
    after = told.case.running
    assert before is not None
    assert after is not None
    assert told.case.owner == after.responsible == MED
    assert (after.step, after.due_at, after.interval) == (before.step, before.due_at, 2)
    assert told.case.accept_transfer(stamp(MED, 3)) is None


@rule("CC-13")
def test_a_declined_case_stays_with_its_owner_and_can_be_offered_again() -> None:
    told = received().then(lambda case: case.offer_transfer(stamp(ZHAO, 1), **OFFER))
    told.then(lambda case: case.decline_transfer(stamp(MED, 2), reason="亦非本部门"))
    assert (told.case.owner, told.case.offered_to) == (ZHAO, None)
    assert told.case.decline_transfer(stamp(MED, 3), reason="亦非本部门") is None
    assert told.case.offer_transfer(stamp(ZHAO, 3), **but(OFFER, to=LI)) is not None


@rule("CC-13")
def test_only_the_owner_offers_and_only_who_is_offered_answers() -> None:
    told = received()
    with refused("complaint.not_owner"):
        told.case.offer_transfer(stamp(LI, 1), **OFFER)
    with refused("complaint.owner_already", "to"):
        told.case.offer_transfer(stamp(ZHAO, 1), **but(OFFER, to=ZHAO))
    told.then(lambda case: case.offer_transfer(stamp(ZHAO, 1), **OFFER))
    assert told.case.offer_transfer(stamp(ZHAO, 2), **OFFER) is None
    with refused("complaint.offered", "to"):
        told.case.offer_transfer(stamp(ZHAO, 2), **but(OFFER, to=LI))
    with refused("complaint.not_offered"):
        told.case.accept_transfer(stamp(LI, 2))
    with refused("complaint.not_offered"):
        told.case.decline_transfer(stamp(LI, 2), reason="否")


@rule("CC-17")
@rule("CC-18")
@pytest.mark.parametrize("level", ["department_manager", "cs_director", "cs_chief", "leadership"])
def test_who_cannot_solve_it_takes_it_up_and_the_deadlines_run_on(level: str) -> None:
    told = received().then(accept())
    dues = {clock.step: clock.due_at for clock in told.case.clocks.running}
    told.then(lambda case: case.escalate(stamp(LI, 3), to=WANG, level=level, reason="无法处理"))
    escalated = told.events[-1]
    assert isinstance(escalated, CaseEscalated)
    assert (told.case.owner, escalated.level) == (WANG, level)
    assert {clock.step: clock.due_at for clock in told.case.clocks.running} == dues
    assert {clock.responsible for clock in told.case.clocks.running} == {WANG}
    assert {end.outcome for end in told.events[-1].stopped} == {Outcome.SUPERSEDED}
    assert told.case.escalate(stamp(LI, 4), to=WANG, level=level, reason="无法处理") is None


@rule("CC-48")
def test_nobody_complained_about_gets_the_case_by_escalation_or_transfer() -> None:
    case = received().case
    with refused("complaint.accused_owner", "to"):
        case.escalate(stamp(ZHAO, 1), to=DOCTOR, level="leadership", reason="无法处理")
    with refused("complaint.accused_owner", "to"):
        case.offer_transfer(stamp(ZHAO, 1), **but(OFFER, to=DOCTOR))


def test_an_escalation_ends_an_offer_and_a_finished_case_is_nobodys_to_take_up() -> None:
    told = received().then(lambda case: case.offer_transfer(stamp(ZHAO, 1), **OFFER))
    told.then(lambda case: case.escalate(stamp(ZHAO, 2), to=LI, level="cs_director", reason="急"))
    with refused("complaint.not_offered"):
        told.case.accept_transfer(stamp(MED, 3))
    with refused("complaint.finished"):
        received().up_to(Stage.FINISHED).case.escalate(stamp(LI, 50), to=CHEN, level="leadership", reason="急")


def test_the_approvers_clock_stays_the_approvers_when_the_owner_changes() -> None:
    told = received().up_to(Stage.PLAN_PROPOSED)
    told.then(lambda case: case.escalate(stamp(LI, 6.5), to=CHEN, level="leadership", reason="急"))
    running = told.case.running
    assert running is not None
    assert (told.case.owner, running.step, running.responsible) == (CHEN, Step.APPROVE, WANG)


LOG: dict[str, Any] = {
    "id": CASE,
    "source": "coselog",
    "reference": "case-10011",
    "number": "XX20260301",
    "received_at": MONDAY,
    "channel": "other",
    "department": "General",
    "owner": LI,
    "planned_close_by": MONDAY + timedelta(days=56),
}


def imported(**said: Any) -> Told:
    event = import_case(None, stamp(BOSS, 0), **but(LOG, **said))
    assert event is not None
    return Told(event)


def work(told: Told, reference: str, at: float, stage: str | None = None) -> WorkRecorded | None:
    return told.case.record_work(
        stamp(BOSS, at),
        activity="Confirmation of receipt",
        performer="R21",
        unit="G1",
        reference=reference,
        stage=stage,
    )


def test_an_imported_case_has_an_owner_and_runs_to_its_planned_end() -> None:
    case = imported().case
    assert {clock.step: clock.due_at for clock in case.clocks.running} == {
        Step.IMPORTED_WORK: LOG["planned_close_by"],
        Step.PLANNED: LOG["planned_close_by"],
    }
    assert (case.owner, case.number, case.stage) == (LI, "XX20260301", Stage.RECEIVED)
    assert import_case(case, stamp(BOSS, 0), **LOG) is None
    with refused("complaint.exists", "reference"):
        import_case(case, stamp(BOSS, 0), **but(LOG, department="Other"))


def test_the_lines_of_the_log_are_kept_with_their_dates_and_none_twice() -> None:
    told = imported()
    early = work(told, "task-1", -24)
    assert early is not None
    told.events.append(early)
    assert early.stamp.at == hours(-24)
    assert work(told, "task-1", -24) is None
    staged = work(told, "task-2", 3, "investigated")
    assert staged is not None
    assert given(COMPLAINT, *told.events, staged).stage == Stage.INVESTIGATED
    with refused("complaint.word", "stage"):
        work(told, "task-3", 3, "half way")
    with refused("complaint.import_stage", "stage"):
        work(told, "task-3", 3, "finished")


@pytest.mark.parametrize(("day", "outcome"), [(55, Outcome.MET), (57, Outcome.LATE)])
def test_the_planned_clock_is_judged_by_the_end_the_log_gives(day: int, outcome: Outcome) -> None:
    told = imported().then(lambda case: case.end_import(stamp(BOSS, 2000), ended_at=MONDAY + timedelta(days=day)))
    event = told.events[-1]
    assert isinstance(event, ImportedCaseEnded)
    assert {end.outcome for end in event.stopped} == {outcome}
    assert {end.late_seconds for end in event.stopped} == {0 if outcome == Outcome.MET else 86400}
    assert (told.case.stage, told.case.clocks.running) == (Stage.FINISHED, ())
    assert told.case.end_import(stamp(BOSS, 2000), ended_at=MONDAY + timedelta(days=day)) is None
    with refused("complaint.import_ended", "reference"):
        work(told, "task-9", 3)


def test_an_end_before_the_receipt_is_kept_as_the_log_has_it() -> None:
    """Its clocks end without a verdict: nobody was in time, or late, before there was anything to do."""
    told = imported().then(lambda case: case.end_import(stamp(BOSS, 0), ended_at=hours(-5)))
    assert told.case.stage == Stage.FINISHED
    ended = told.case.last(ImportedCaseEnded)
    assert ended is not None
    assert ended.stopped
    assert {clock.outcome for clock in ended.stopped} == {Outcome.ABANDONED}
    assert {clock.late_seconds for clock in ended.stopped} == {0}


def test_an_open_imported_case_is_taken_over_and_walked_on() -> None:
    told = imported()
    told.then(accept(number="XX20260399"))
    assert (told.case.number, told.case.stage) == ("XX20260301", Stage.INVESTIGATING)
    with refused("complaint.taken_over"):
        work(told, "task-9", 3)
    told.then(lambda case: case.make_first_contact(stamp(ZHAO, 2), account="要求退费"))
    told.then(lambda case: case.gather_evidence(stamp(ZHAO, 3), source="皮肤科", content="记录"))
    told.then(lambda case: case.complete_investigation(stamp(LI, 4), POLICY, findings="属实"))
    assert told.then(qualify()).case.stage == Stage.QUALIFIED


def test_an_imported_stage_does_not_get_past_the_guards() -> None:
    told = imported()
    line = work(told, "task-1", 1, "plan_proposed")
    assert isinstance(line, WorkRecorded)
    told.events.append(line)
    with refused("complaint.no_plan"):
        told.case.approve_plan(stamp(WANG, 2), POLICY)


def test_only_an_administrator_imports_and_only_into_imported_cases() -> None:
    with refused("access.role"):
        import_case(None, stamp(LI, 0), **LOG)
    with refused("complaint.not_imported"):
        work(received(), "task-1", 3)
    assert isinstance(imported(planned_close_by=None).events[0], ComplaintImported)
    assert {clock.step for clock in imported(planned_close_by=None).case.clocks.running} == {Step.IMPORTED_WORK}
