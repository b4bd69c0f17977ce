"""Plan, approval, negotiation, formalities, feedback and closing."""

from datetime import timedelta
from typing import Any

import pytest

from domain.clock import Outcome, Step
from domain.complaint import CaseClosed, FormalitiesCompleted, PlanProposed, Stage
from domain.kernel import Role, StaffId
from domain.money import Money
from tests.domain.given import (
    CHEN,
    LI,
    MED,
    MONDAY,
    POLICY,
    QIAN,
    WANG,
    ZHAO,
    Told,
    hours,
    propose,
    qualify,
    received,
    refused,
    stamp,
)
from tests.rules import rule

MIDNIGHT = MONDAY.replace(hour=0)
YUAN = Money.of("8000")


def told_to(stage: Stage, **choices: Any) -> Told:
    return received().up_to(stage, **choices)


def refund(stage: Stage) -> Told:
    """A case with a refund of 8,000 yuan by bank, at this stage."""
    return told_to(stage, settlement="refund", amount=YUAN, payment="bank_transfer")


def closed(**choices: Any) -> CaseClosed:
    event = told_to(Stage.CLOSED, **choices).events[-1]
    assert isinstance(event, CaseClosed)
    return event


@rule("CC-27")
def test_the_plan_is_worked_out_within_a_day_by_a_director() -> None:
    told = told_to(Stage.QUALIFIED)
    plan_clock = told.case.running
    assert plan_clock is not None
    assert (plan_clock.step, plan_clock.due_at) == (Step.PLAN, hours(29))
    with refused("access.role"):
        told.then(propose(by=ZHAO))
    approve_clock = told.then(propose(by=MED)).case.running
    assert approve_clock is not None
    assert (approve_clock.step, approve_clock.responsible) == (Step.APPROVE, WANG)
    plan = told.case.last(PlanProposed)
    assert plan is not None
    assert (plan.author, plan.submitted_to) == (MED, WANG)


def test_a_plan_needs_the_qualification() -> None:
    with refused("complaint.no_plan_now"):
        told_to(Stage.INVESTIGATED).then(propose())


@rule("CC-28")
@pytest.mark.parametrize("by", [LI, ZHAO, MED, QIAN])
def test_only_chief_or_dean_approve(by: StaffId) -> None:
    case = told_to(Stage.PLAN_PROPOSED).case
    with refused("access.role"):
        case.approve_plan(stamp(by, 9), POLICY)
    assert case.approve_plan(stamp(CHEN, 9), POLICY) is not None


@rule("CC-28")
def test_whoever_wrote_the_plan_cannot_approve_or_return_it() -> None:
    both = (Role.CS_DIRECTOR, Role.CS_CHIEF)
    case = told_to(Stage.PLAN_PROPOSED).case
    with refused("complaint.own_plan"):
        case.approve_plan(stamp(LI, 9, *both), POLICY)
    with refused("complaint.own_plan"):
        case.return_plan(stamp(LI, 9, *both), POLICY, reason="再议")
    with refused("complaint.own_plan", "submitted_to"):
        told_to(Stage.QUALIFIED).then(propose(submitted_to=LI))


@rule("CC-28")
def test_a_returned_plan_is_worked_out_again_on_a_clock_of_its_own() -> None:
    told = told_to(Stage.PLAN_PROPOSED).then(lambda case: case.return_plan(stamp(WANG, 8), POLICY, reason="金额过高"))
    assert told.case.return_plan(stamp(WANG, 9), POLICY, reason="金额过高") is None
    running = told.case.running
    assert running is not None
    assert (running.step, running.interval, told.case.stage) == (Step.PLAN, 2, Stage.QUALIFIED)
    told.then(propose(at=9)).then(lambda case: case.approve_plan(stamp(WANG, 10), POLICY))
    assert told.case.stage == Stage.NEGOTIATING


def test_approving_twice_is_answered_once() -> None:
    assert told_to(Stage.NEGOTIATING).case.approve_plan(stamp(WANG, 9), POLICY) is None
    with refused("complaint.no_plan"):
        told_to(Stage.NEGOTIATING).case.approve_plan(stamp(CHEN, 9), POLICY)


def test_in_a_dispute_the_legal_ways_are_told_before_negotiation() -> None:
    """B8."""
    told = told_to(Stage.INVESTIGATED).then(qualify(is_dispute=True)).then(propose())
    with refused("complaint.rights_not_told"):
        told.case.approve_plan(stamp(WANG, 7), POLICY)
    told.then(lambda case: case.inform_rights(stamp(ZHAO, 7), how="书面告知五种途径"))
    assert told.then(lambda case: case.approve_plan(stamp(WANG, 8), POLICY)).case.stage == Stage.NEGOTIATING


@rule("CC-29")
def test_negotiation_starts_only_with_an_approved_plan() -> None:
    case = told_to(Stage.PLAN_PROPOSED).case
    with refused("complaint.not_negotiating"):
        case.record_negotiation(stamp(LI, 7), POLICY, content="先谈谈")
    with refused("complaint.not_negotiating"):
        case.agree(stamp(LI, 7), POLICY, terms="接受")


@rule("CC-29")
def test_while_negotiating_the_closing_clock_rests_and_the_laws_does_not() -> None:
    told = told_to(Stage.NEGOTIATING)
    close = next(end for end in told.events[-1].stopped if end.step == Step.CLOSE)
    assert (close.outcome, close.due_at) == (Outcome.PAUSED, MIDNIGHT + timedelta(days=8))
    assert told.case.clocks.of(Step.CLOSE) is None
    assert told.case.clocks.of(Step.FEEDBACK) is not None
    ten_days = close.stopped_at + timedelta(days=10)
    told.then(lambda case: case.agree(stamp(LI, ten_days), POLICY, terms="接受"))
    again = told.case.clocks.of(Step.CLOSE)
    assert again is not None
    assert close.due_at is not None
    assert (again.interval, again.due_at) == (2, close.due_at + timedelta(days=10))


@rule("CC-64")
def test_negotiating_still_has_a_date_to_look_again_that_each_talk_moves() -> None:
    told = told_to(Stage.NEGOTIATING)
    first = told.case.running
    told.then(lambda case: case.record_negotiation(stamp(LI, 48), POLICY, content="再考虑"))
    second = told.case.running
    assert first is not None
    assert second is not None
    assert (first.due_at, second.due_at) == (MIDNIGHT + timedelta(days=8), MIDNIGHT + timedelta(days=10))
    assert (second.step, second.interval) == (Step.NEGOTIATE, 2)


def test_at_most_five_speak_for_a_side() -> None:
    """B12."""
    with refused("complaint.representatives", "representatives"):
        told_to(Stage.NEGOTIATING).case.record_negotiation(stamp(LI, 9), POLICY, content="谈", representatives=6)
    with refused("complaint.representatives", "representatives"):
        told_to(Stage.NEGOTIATING).case.record_negotiation(stamp(LI, 9), POLICY, content="谈", representatives=0)


def test_no_more_than_was_approved_is_agreed() -> None:
    case = refund(Stage.NEGOTIATING).case
    with refused("complaint.not_approved", "amount"):
        case.agree(stamp(LI, 9), POLICY, terms="多退", settlement="refund", amount=Money.of("8000.01"))
    with refused("complaint.not_approved", "settlement"):
        case.agree(stamp(LI, 9), POLICY, terms="赔偿", settlement="compensation", amount=YUAN)
    with refused("complaint.amount", "amount"):
        case.agree(stamp(LI, 9), POLICY, terms="退", settlement="refund")
    assert case.agree(stamp(LI, 9), POLICY, terms="不退了") is not None


def test_a_failed_negotiation_is_a_dispute_that_a_new_plan_or_a_late_agreement_can_end() -> None:
    told = told_to(Stage.NEGOTIATING).then(lambda case: case.fail_negotiation(stamp(LI, 9), POLICY, reason="不接受"))
    running = told.case.running
    assert running is not None
    assert (told.case.stage, running.step) == (Stage.DISPUTED, Step.DISPUTE)
    anew = Told(*told.events).then(propose(at=10))
    assert anew.case.stage == Stage.PLAN_PROPOSED
    assert anew.case.clocks.of(Step.CLOSE) is not None
    late = told.then(lambda case: case.agree(stamp(LI, 11), POLICY, terms="调解后接受"))
    assert late.case.stage == Stage.AGREED


@rule("CC-30")
def test_formalities_take_two_days() -> None:
    told = refund(Stage.AGREED)
    running = told.case.running
    assert running is not None
    assert running.due_at is not None
    assert (running.step, running.due_at - running.started_at) == (Step.FORMALITIES, timedelta(hours=48))


@rule("CC-31")
def test_without_refund_the_form_is_completed_and_the_posts_are_told() -> None:
    event = told_to(Stage.SETTLED).events[-1]
    assert isinstance(event, FormalitiesCompleted)
    assert (event.payer, event.notified) == (None, "医务部、前台")


@rule("CC-68")
def test_money_leaves_only_signed_for_and_through_the_cashier() -> None:
    case = refund(Stage.AGREED).case
    with refused("complaint.not_signed"):
        case.complete_formalities(stamp(QIAN, 10), POLICY, payment="cash")
    signed = refund(Stage.AGREED).then(lambda case: case.sign_documents(stamp(LI, 10), documents=("协议",))).case
    with refused("access.role"):
        signed.complete_formalities(stamp(LI, 11), POLICY, payment="cash")
    with refused("complaint.payer_approved"):
        signed.complete_formalities(stamp(WANG, 11, Role.CASHIER), POLICY, payment="cash")
    with refused("complaint.payment", "payment"):
        signed.complete_formalities(stamp(QIAN, 11), POLICY)
    assert signed.complete_formalities(stamp(QIAN, 11), POLICY, payment="cash") is not None


@rule("CC-69")
def test_a_bank_transfer_is_expected_in_seven_working_days_and_closing_does_not_wait() -> None:
    """X3, paid by bank."""
    told = refund(Stage.SETTLED)
    event = told.events[-1]
    assert isinstance(event, FormalitiesCompleted)
    assert event.settlement_expected == MIDNIGHT + timedelta(days=10)
    told.then(lambda case: case.give_feedback(stamp(LI, 20), content="已退款"))
    event = told.case.close(stamp(LI, 21), POLICY, summary="退款")
    assert event is not None
    assert event.settlement_pending
    arrived = told.case.close(stamp(LI, MIDNIGHT + timedelta(days=10)), POLICY, summary="退款")
    assert arrived is not None
    assert not arrived.settlement_pending


def test_cash_is_settled_when_it_is_paid() -> None:
    """X3, paid in cash."""
    assert not closed(settlement="refund", amount=YUAN, payment="cash").settlement_pending


@rule("CC-32")
def test_only_the_director_closes_within_a_day_and_not_before_the_formalities() -> None:
    with refused("complaint.no_formalities"):
        told_to(Stage.AGREED).case.close(stamp(LI, 20), POLICY, summary="完")
    told = told_to(Stage.SETTLED)
    running = told.case.running
    assert running is not None
    assert running.due_at is not None
    assert (running.step, running.due_at - running.started_at) == (Step.FILE, timedelta(hours=24))
    told.then(lambda case: case.give_feedback(stamp(LI, 20), content="已办结"))
    with refused("access.role"):
        told.case.close(stamp(WANG, 21), POLICY, summary="完")
    told.then(lambda case: case.close(stamp(LI, 21), POLICY, summary="完"))
    assert {clock.step for clock in told.case.clocks.running} == {Step.INTERNAL_HANDLING}
    assert told.case.close(stamp(LI, 22), POLICY, summary="完") is None


@rule("CC-33")
def test_a_copy_goes_to_the_office_the_policy_names() -> None:
    assert closed().copy_to == "总经办"


@rule("CC-53")
def test_no_case_is_closed_without_telling_the_complainant() -> None:
    with refused("complaint.no_feedback"):
        told_to(Stage.SETTLED).case.close(stamp(LI, 20), POLICY, summary="完")
    with refused("complaint.no_feedback_now"):
        told_to(Stage.INVESTIGATING).case.give_feedback(stamp(LI, 20), content="处理中")


def test_feedback_ends_the_clock_of_the_law() -> None:
    """B2."""
    told = told_to(Stage.SETTLED)
    nine_days = MONDAY + timedelta(days=9)
    told.then(lambda case: case.give_feedback(stamp(LI, nine_days), content="已办结"))
    (end,) = told.events[-1].stopped
    assert (end.step, end.outcome, end.late_seconds) == (Step.FEEDBACK, Outcome.LATE, (24 + 9) * 3600)
    assert told.case.give_feedback(stamp(LI, nine_days + timedelta(days=1)), content="已办结") is None


@rule("CC-63")
def test_a_plan_says_what_the_patient_gets() -> None:
    told = told_to(Stage.QUALIFIED)
    with refused("complaint.no_remedy", "remedies"):
        told.then(propose(remedies=()))
    with refused("complaint.remedy", "remedies"):
        told.then(propose(settlement="refund", amount=YUAN, remedies=("apology",)))
    with refused("complaint.remedy", "remedies"):
        told.then(propose(settlement="compensation", amount=YUAN, remedies=("apology", "refund")))
    with refused("complaint.word", "remedies"):
        told.then(propose(remedies=("flowers",)))
    event = told.then(propose(settlement="refund", amount=YUAN)).events[-1]
    assert isinstance(event, PlanProposed)
    assert set(event.remedies) == {"apology", "refund"}
