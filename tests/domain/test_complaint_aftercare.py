"""Internal handling, improvement, follow-up and handling again."""

from datetime import timedelta

from domain.clock import Outcome, Step
from domain.complaint import COMPLAINT, CaseClosed, FollowUpMade, Stage
from domain.kernel import Role
from tests.domain.given import (
    DOCTOR,
    LI,
    MED,
    MONDAY,
    POLICY,
    WANG,
    ZHAO,
    Told,
    given,
    hours,
    received,
    refused,
    stamp,
    usual,
)
from tests.rules import rule


def told_to(stage: Stage) -> Told:
    return received().up_to(stage)


@rule("CC-34")
def test_internal_handling_is_the_chiefs_within_two_days_for_those_responsible() -> None:
    told = told_to(Stage.CLOSED)
    running = told.case.running
    assert running is not None
    assert running.due_at is not None
    assert (running.step, running.due_at - running.started_at) == (Step.INTERNAL_HANDLING, timedelta(hours=48))
    with refused("access.role"):
        told.case.propose_internal_handling(stamp(LI, 20), POLICY, persons=(DOCTOR,), proposal="警告")
    with refused("complaint.not_responsible", "persons"):
        told.case.propose_internal_handling(stamp(WANG, 20), POLICY, persons=(ZHAO,), proposal="警告")
    with refused("text.empty", "proposal"):
        told.case.propose_internal_handling(stamp(WANG, 20), POLICY, persons=(), proposal="")
    assert told.case.propose_internal_handling(stamp(WANG, 20), POLICY, persons=(), proposal="情节轻微") is not None


@rule("CC-39")
def test_without_attribution_nobody_is_handled() -> None:
    events = [event for event in told_to(Stage.CLOSED).events if event.topic != "complaint.responsibility_attributed"]
    with refused("complaint.no_attribution"):
        given(COMPLAINT, *events).propose_internal_handling(stamp(WANG, 20), POLICY, persons=(), proposal="无")


@rule("CC-35")
def test_improvement_is_proposed_within_a_week() -> None:
    told = told_to(Stage.INTERNALLY_HANDLED)
    running = told.case.running
    assert running is not None
    assert (running.step, running.due_at) == (Step.IMPROVE, MONDAY.replace(hour=0) + timedelta(days=8))
    assert running.rule == "CC-35"
    with refused("complaint.execute_by", "execute_by"):
        told.case.propose_improvement(stamp(LI, 20), measure="回访", responsible=ZHAO, execute_by=hours(20))


@rule("CC-37")
def test_improvement_goes_from_proposal_through_execution_to_confirmation_by_another() -> None:
    proposed = told_to(Stage.IMPROVING)
    with refused("complaint.not_improved"):
        proposed.case.confirm_improvement(stamp(MED, 20), POLICY, effective=True, finding="有效")
    execute = proposed.case.running
    assert execute is not None
    assert (execute.step, execute.responsible, execute.due_at) == (Step.EXECUTE, ZHAO, hours(101))
    done = told_to(Stage.IMPROVED).case
    with refused("complaint.own_improvement"):
        done.confirm_improvement(stamp(LI, 20), POLICY, effective=True, finding="有效")
    confirmed = done.confirm_improvement(stamp(MED, 20), POLICY, effective=True, finding="有效")
    assert confirmed is not None
    assert given(COMPLAINT, *told_to(Stage.IMPROVED).events, confirmed).stage == Stage.FOLLOWING_UP


@rule("CC-37")
def test_an_improvement_that_does_not_work_is_followed_by_another() -> None:
    told = told_to(Stage.IMPROVED).then(
        lambda case: case.confirm_improvement(stamp(MED, 20), POLICY, effective=False, finding="无效")
    )
    running = told.case.running
    assert running is not None
    assert (told.case.stage, running.step, running.interval) == (Stage.INTERNALLY_HANDLED, Step.IMPROVE, 2)


def test_the_loop_may_end_in_a_reasoned_none() -> None:
    """B6."""
    told = told_to(Stage.INTERNALLY_HANDLED)
    with refused("text.empty", "reason"):
        told.case.waive_improvement(stamp(LI, 20), POLICY, reason=" ")
    told.then(lambda case: case.waive_improvement(stamp(LI, 20), POLICY, reason="偶发"))
    assert told.case.stage == Stage.FOLLOWING_UP


@rule("CC-38")
def test_a_closed_case_is_followed_up_as_often_as_is_planned() -> None:
    told = told_to(Stage.FOLLOWING_UP)
    running = told.case.running
    assert running is not None
    assert (running.step, running.due_at) == (Step.FOLLOW_UP, MONDAY.replace(hour=0) + timedelta(days=9))
    with refused("complaint.next_by", "next_by"):
        told.case.follow_up(stamp(ZHAO, 30), content="还肿", next_by=hours(30))
    with refused("complaint.next_by", "next_by"):
        told_to(Stage.CLOSED).case.follow_up(stamp(ZHAO, 30), content="还肿", next_by=hours(300))
    told.then(lambda case: case.follow_up(stamp(ZHAO, 30), content="还肿", satisfaction=5, next_by=hours(300)))
    again = told.case.running
    assert again is not None
    assert (told.case.stage, again.interval, again.due_at) == (Stage.FOLLOWING_UP, 2, hours(300))
    told.then(lambda case: case.follow_up(stamp(ZHAO, 299), content="好了", satisfaction=9))
    assert (told.case.stage, told.case.running) == (Stage.FINISHED, None)


@rule("CC-54")
def test_the_follow_up_asks_for_satisfaction_after_closing() -> None:
    with refused("complaint.not_closed"):
        told_to(Stage.SETTLED).case.follow_up(stamp(ZHAO, 30), content="满意")
    event = told_to(Stage.CLOSED).case.follow_up(stamp(ZHAO, 30), content="满意", satisfaction=10)
    assert isinstance(event, FollowUpMade)
    assert (event.satisfaction, event.stopped, event.started) == (10, (), ())
    for grade in (0, 11):
        with refused("complaint.satisfaction", "satisfaction"):
            told_to(Stage.FOLLOWING_UP).case.follow_up(stamp(ZHAO, 30), content="满意", satisfaction=grade)


@rule("CC-52")
def test_what_is_not_solved_is_handled_again_under_its_number() -> None:
    told = told_to(Stage.FINISHED).then(
        lambda case: case.reopen(stamp(ZHAO, 400), POLICY, reason="再次肿胀", new_evidence=True)
    )
    case = told.case
    assert (case.number, case.stage) == ("BJ20260301", Stage.INVESTIGATING)
    assert {clock.step: clock.interval for clock in case.clocks.running} == {
        Step.EVIDENCE: 2,
        Step.INVESTIGATE: 3,  # the second began when the director took the case over
        Step.FIRST_CONTACT: 3,
        Step.FEEDBACK: 3,
        Step.CLOSE: 3,  # the first rested while negotiating
    }
    since = hours(400)
    assert {clock.counted_from for clock in case.clocks.running} == {since}
    assert all(clock.due_at is not None and clock.due_at > since for clock in case.clocks.running)
    with refused("complaint.no_evidence"):
        case.complete_investigation(stamp(LI, 401), POLICY, findings="同前")
    assert case.reopen(stamp(ZHAO, 401), POLICY, reason="再次肿胀", new_evidence=True) is None


@rule("CC-52")
def test_a_reopened_case_can_be_walked_to_its_end_again() -> None:
    told = told_to(Stage.IMPROVING).then(lambda case: case.reopen(stamp(LI, 400), POLICY, reason="未解决"))
    assert [(end.step, end.outcome) for end in told.events[-1].stopped] == [(Step.EXECUTE, Outcome.SUPERSEDED)]
    for name, decision in usual(400):
        if name != "accept":
            told.then(decision)
    assert told.case.stage == Stage.FINISHED
    assert sum(isinstance(event, CaseClosed) for event in told.events) == 2


def test_rights_told_once_are_told_also_when_the_case_is_handled_again() -> None:
    told = told_to(Stage.QUALIFIED).then(lambda case: case.inform_rights(stamp(ZHAO, 5.5), how="书面"))
    for _, decision in usual()[5:]:
        told.then(decision)
    told.then(lambda case: case.reopen(stamp(ZHAO, 400), POLICY, reason="再次肿胀"))
    assert told.case.inform_rights(stamp(ZHAO, 401), how="书面") is None


def test_an_open_case_is_not_reopened() -> None:
    with refused("complaint.not_closed"):
        told_to(Stage.SETTLED).case.reopen(stamp(LI, 30), POLICY, reason="再来")


def test_the_confirmer_needs_a_post() -> None:
    with refused("access.role"):
        told_to(Stage.IMPROVED).case.confirm_improvement(
            stamp(ZHAO, 20, Role.CS_AGENT), POLICY, effective=True, finding="有效"
        )
