"""Whatever is decided, in whatever order: one owner, one running step clock, results that never change."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.clock import ClockKind, ClockStarted, ClockStopped, Outcome, Step
from domain.complaint import (
    COMPLAINT,
    CaseEvent,
    CaseReopened,
    ComplaintCase,
    ComplaintEvent,
    ComplaintReceived,
    EscalationLevel,
    FeedbackGiven,
    PlanApproved,
    PlanProposed,
    Stage,
)
from domain.kernel import Refused, Role, StaffId, Stamp, named, replay
from domain.money import Money
from tests.domain.given import (
    CHEN,
    DOCTOR,
    FORM,
    LI,
    MED,
    MONDAY,
    POLICY,
    QIAN,
    WANG,
    ZHAO,
    Told,
    received,
    usual,
)
from tests.rules import rule

EVERYONE = (ZHAO, LI, WANG, CHEN, QIAN, DOCTOR, MED)
ALL_POSTS = frozenset(Role)
Choice = Callable[[ComplaintCase, Stamp, random.Random], ComplaintEvent | None]


def someone(dice: random.Random) -> StaffId:
    return dice.choice(EVERYONE)


def settlement(dice: random.Random) -> dict[str, object]:
    kind = dice.choice(["none", "refund", "compensation"])
    return {"settlement": kind, "amount": Money.of(0 if kind == "none" else dice.choice([100, 5000]))}


def plan(c: ComplaintCase, s: Stamp, d: random.Random) -> ComplaintEvent | None:
    chosen = settlement(d)
    remedies = ["apology", *([str(chosen["settlement"])] if chosen["settlement"] != "none" else [])]
    return c.propose_plan(s, POLICY, submitted_to=someone(d), remedies=remedies, content="方案", **chosen)  # pyright: ignore[reportArgumentType]  chosen by name


def agree(c: ComplaintCase, s: Stamp, d: random.Random) -> ComplaintEvent | None:
    return c.agree(s, POLICY, terms="接受", **settlement(d))  # pyright: ignore[reportArgumentType]  chosen by name


def qualify(c: ComplaintCase, s: Stamp, d: random.Random) -> ComplaintEvent | None:
    complexity, dispute = d.choice(["simple", "complex", "cross_department"]), d.random() < 0.3
    return c.qualify(
        s, POLICY, reason="属实", complexity=complexity, category="fees", severity="serious", is_dispute=dispute
    )


def improve(c: ComplaintCase, s: Stamp, d: random.Random) -> ComplaintEvent | None:
    by = s.at + timedelta(days=d.randint(0, 9))
    return c.propose_improvement(s, measure="制度", responsible=someone(d), execute_by=by)


def follow_up(c: ComplaintCase, s: Stamp, d: random.Random) -> ComplaintEvent | None:
    next_by = s.at + timedelta(days=3) if d.random() < 0.3 else None
    return c.follow_up(s, content="回访", satisfaction=d.randint(1, 10), next_by=next_by)


CHOICES: list[Choice] = [
    lambda c, s, d: c.accept(s, POLICY, number="BJ20260301", handler=someone(d), **FORM),  # pyright: ignore[reportArgumentType]
    lambda c, s, d: c.make_first_contact(s, account="要求退费"),
    lambda c, s, d: c.gather_evidence(s, source="科室", content="记录"),
    lambda c, s, d: c.complete_investigation(s, POLICY, findings="属实"),
    qualify,
    lambda c, s, d: c.attribute_responsibility(s, responsible=(DOCTOR,), reason="未回访"),
    lambda c, s, d: c.inform_rights(s, how="书面"),
    plan,
    lambda c, s, d: c.return_plan(s, POLICY, reason="再议"),
    lambda c, s, d: c.approve_plan(s, POLICY),
    lambda c, s, d: c.record_negotiation(s, POLICY, content="再谈"),
    agree,
    lambda c, s, d: c.fail_negotiation(s, POLICY, reason="不接受"),
    lambda c, s, d: c.sign_documents(s, documents=("协议",)),
    lambda c, s, d: c.complete_formalities(s, POLICY, payment=d.choice([None, "cash", "bank_transfer"])),
    lambda c, s, d: c.give_feedback(s, content="已办结"),
    lambda c, s, d: c.close(s, POLICY, summary="完"),
    lambda c, s, d: c.propose_internal_handling(s, POLICY, persons=(), proposal="无"),
    improve,
    lambda c, s, d: c.waive_improvement(s, POLICY, reason="偶发"),
    lambda c, s, d: c.execute_improvement(s, POLICY, account="完成"),
    lambda c, s, d: c.confirm_improvement(s, POLICY, effective=d.random() < 0.7, finding="查"),
    follow_up,
    lambda c, s, d: c.reopen(s, POLICY, reason="未解决") if d.random() < 0.3 else None,
    lambda c, s, d: c.escalate(s, to=someone(d), level=d.choice(list(EscalationLevel)), reason="急"),
    lambda c, s, d: c.offer_transfer(s, to=someone(d), department="科", reason="不属"),
    lambda c, s, d: c.accept_transfer(s),
    lambda c, s, d: c.decline_transfer(s, reason="否"),
]


def wander(seed: int, tries: int = 250) -> Told:
    """A case on which people with every post decide at random, at times that mostly go forward; refusals skipped."""
    dice = random.Random(seed)
    told = received()
    case, now = told.case, MONDAY + timedelta(hours=1)
    for n in range(tries):
        now += timedelta(minutes=dice.choice([0, 10, 300, 3000]))
        at = now - timedelta(hours=dice.choice([0, 0, 0, 30]))
        stamp = Stamp(by=someone(dice), at=at, command_id=named(str(seed), str(n)), roles=ALL_POSTS)
        try:
            event = dice.choice(CHOICES)(case, stamp, dice)
        except Refused:
            continue
        if event is not None:
            told.events.append(event)
            case = COMPLAINT.evolve(case, event)
    return told


SEEDS = st.integers(0, 2**32)
often = settings(max_examples=120, deadline=None)


@rule("CC-64")
@rule("CC-13")
@often
@for_all(SEEDS)
def test_until_it_is_finished_a_case_has_one_owner_and_one_running_step_clock_with_a_date(seed: int) -> None:
    case: ComplaintCase | None = None
    for event in wander(seed).events:
        case = COMPLAINT.evolve(case, event)
        assert case is not None
        steps = [clock for clock in case.clocks.running if clock.kind == ClockKind.STEP]
        assert len(steps) == (0 if case.stage == Stage.FINISHED else 1)
        assert all(clock.due_at is not None for clock in case.clocks.running)
        assert case.owner in EVERYONE


@rule("CC-48")
@often
@for_all(SEEDS)
def test_the_accused_never_owns_the_case(seed: int) -> None:
    events = wander(seed).events
    assert all(getattr(event, "owner", None) != DOCTOR for event in events)


@rule("CC-28")
@often
@for_all(SEEDS)
def test_nobody_approves_their_own_plan(seed: int) -> None:
    author: StaffId | None = None
    for event in wander(seed).events:
        if isinstance(event, PlanProposed):
            author = event.author
        if isinstance(event, PlanApproved):
            assert event.approver != author


@rule("CC-53")
@often
@for_all(SEEDS)
def test_every_closing_comes_after_feedback_of_its_own_round(seed: int) -> None:
    told = False
    for event in wander(seed).events:
        told = not isinstance(event, CaseReopened) and (told or isinstance(event, FeedbackGiven))
        assert event.topic != "complaint.case_closed" or told


@rule("CC-24")
@often
@for_all(SEEDS)
def test_intervals_count_up_never_overlap_and_end_once(seed: int) -> None:
    began: dict[Step, list[ClockStarted]] = defaultdict(list)
    ended: dict[tuple[Step, int], ClockStopped] = {}
    for event in wander(seed).events:
        for clock in event.started:
            began[clock.step].append(clock)
        for end in event.stopped:
            key = (end.step, end.interval)
            assert key not in ended, "an interval ends once, so its result never changes"
            assert end.started_at <= end.stopped_at
            late = end.due_at is not None and end.stopped_at > end.due_at
            assert (end.late_seconds > 0) == late
            assert end.outcome not in (Outcome.MET, Outcome.LATE) or (end.outcome == Outcome.LATE) == late
            ended[key] = end
    for step, intervals in began.items():
        assert [clock.interval for clock in intervals] == list(range(1, len(intervals) + 1))
        for one, following in pairwise(intervals):
            assert ended[step, one.interval].stopped_at <= following.started_at
    assert all(interval <= len(began[step]) for step, interval in ended)


@often
@for_all(SEEDS)
def test_folding_any_prefix_never_raises_and_folding_on_is_folding_from_the_start(seed: int) -> None:
    events = wander(seed, 80).events
    case: ComplaintCase | None = None
    for n, event in enumerate(events, start=1):
        case = COMPLAINT.evolve(case, event)
        assert case == replay(COMPLAINT, events[:n])
        assert case is not None
        assert case.version == n == event.originator_version


def test_wandering_reaches_the_end_and_comes_back() -> None:
    """The properties above are about something: walks get through every stage."""
    seen: set[type[CaseEvent]] = set()
    for seed in range(60):
        seen |= {type(event) for event in wander(seed, 600).events}
    missing = {kind.__name__ for kind in COMPLAINT.events} - {kind.__name__ for kind in seen}
    assert missing == {"ComplaintImported", "WorkRecorded", "ImportedCaseEnded"}


def test_each_decision_asked_again_adds_nothing() -> None:
    """test-list 4, in the domain: the same words a second time are answered with nothing new."""
    told = received()
    for _, decision in usual(settlement="refund", amount=Money.of(100), payment="cash"):
        told.then(decision)
        assert decision(told.case) is None
    assert isinstance(told.events[0], ComplaintReceived)
