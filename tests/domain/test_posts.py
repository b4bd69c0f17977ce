"""Who may decide what: every decision on a case, asked by every post there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from domain.clock import Step
from domain.complaint import ComplaintCase, ComplaintEvent, Stage, import_case, receive
from domain.kernel import Refused, Role, StaffId, Stamp, named
from domain.money import Money
from domain.policy import DEFAULT_VALUES, publish
from tests.domain.given import DOCTOR, LI, MED, MONDAY, POLICY, QIAN, WANG, ZHAO, Told, hours, received, refused
from tests.domain.test_complaint_custody import LOG, imported
from tests.rules import rule

SOMEBODY = named("BJ", "staff", "somebody")
"""Of no part in the case: neither owner nor author, nor named in it."""
Decide = Callable[[ComplaintCase, Stamp], ComplaintEvent | None]
DESK = {Role.CS_AGENT, Role.CS_DIRECTOR, Role.CS_CHIEF, Role.MEDICAL_DIRECTOR}
DIRECTORS = {Role.CS_DIRECTOR, Role.MEDICAL_DIRECTOR}
LEADERS = DIRECTORS | {Role.CS_CHIEF}


@dataclass(frozen=True)
class Post:
    """A decision at a stage where it is open, and the posts that may take it."""

    stage: Stage
    allowed: set[Role]
    decide: Decide
    paid: bool = False

    def case(self) -> ComplaintCase:
        """A case at which the decision is open."""
        money: dict[str, Any] = {"settlement": "refund", "amount": Money.of(9), "payment": "cash"} if self.paid else {}
        told = received().up_to(self.stage, **money)
        if self.paid:
            told.then(lambda case: case.sign_documents(by(LI, Role.CS_DIRECTOR), documents=("协议",)))
        if self.stage == Stage.INVESTIGATING:
            told.then(lambda case: case.make_first_contact(by(LI, Role.CS_DIRECTOR), account="述"))
            told.then(lambda case: case.gather_evidence(by(LI, Role.CS_DIRECTOR), source="科室", content="记录"))
        if self.stage == Stage.SETTLED:
            told.then(lambda case: case.give_feedback(by(LI, Role.CS_DIRECTOR), content="已办结"))
        return told.case


def by(who: StaffId, *roles: Role) -> Stamp:
    return Stamp(by=who, at=hours(40), command_id=named("posts", str(who)), roles=frozenset(roles))


FORM: dict[str, Any] = {"number": "BJ20260301", "cause": "因", "course": "过", "demand": "求"}
QUALIFIED: dict[str, Any] = {"reason": "因", "complexity": "simple", "category": "fees", "severity": "serious"}
PLAN: dict[str, Any] = {"submitted_to": WANG, "remedies": ("apology",), "content": "道歉"}
LATER = MONDAY + timedelta(days=9)

POSTS: dict[str, Post] = {
    "accept": Post(Stage.RECEIVED, {Role.CS_DIRECTOR, Role.CS_CHIEF}, lambda c, s: c.accept(s, POLICY, **FORM)),
    "first contact": Post(Stage.RECEIVED, DESK, lambda c, s: c.make_first_contact(s, account="述")),
    "evidence": Post(Stage.INVESTIGATING, DESK, lambda c, s: c.gather_evidence(s, source="监控", content="甲")),
    "investigated": Post(
        Stage.INVESTIGATING, DIRECTORS, lambda c, s: c.complete_investigation(s, POLICY, findings="属实")
    ),
    "qualify": Post(Stage.INVESTIGATED, DIRECTORS, lambda c, s: c.qualify(s, POLICY, is_dispute=False, **QUALIFIED)),
    "attribute": Post(
        Stage.QUALIFIED, LEADERS, lambda c, s: c.attribute_responsibility(s, responsible=(), reason="无")
    ),
    "rights": Post(Stage.QUALIFIED, DESK, lambda c, s: c.inform_rights(s, how="书面")),
    "plan": Post(Stage.QUALIFIED, DIRECTORS, lambda c, s: c.propose_plan(s, POLICY, **PLAN)),
    "return": Post(
        Stage.PLAN_PROPOSED, {Role.CS_CHIEF, Role.DEAN}, lambda c, s: c.return_plan(s, POLICY, reason="再议")
    ),
    "approve": Post(Stage.PLAN_PROPOSED, {Role.CS_CHIEF, Role.DEAN}, lambda c, s: c.approve_plan(s, POLICY)),
    "negotiation": Post(Stage.NEGOTIATING, DESK, lambda c, s: c.record_negotiation(s, POLICY, content="谈")),
    "agree": Post(Stage.NEGOTIATING, DESK, lambda c, s: c.agree(s, POLICY, terms="接受")),
    "fail": Post(Stage.NEGOTIATING, LEADERS, lambda c, s: c.fail_negotiation(s, POLICY, reason="不接受")),
    "sign": Post(Stage.AGREED, DESK, lambda c, s: c.sign_documents(s, documents=("和解书",))),
    "formalities": Post(Stage.AGREED, DESK, lambda c, s: c.complete_formalities(s, POLICY)),
    "payment": Post(
        Stage.AGREED, {Role.CASHIER}, lambda c, s: c.complete_formalities(s, POLICY, payment="cash"), paid=True
    ),
    "feedback": Post(Stage.QUALIFIED, DESK, lambda c, s: c.give_feedback(s, content="处理如下")),
    "close": Post(Stage.SETTLED, {Role.CS_DIRECTOR}, lambda c, s: c.close(s, POLICY, summary="完")),
    "handling": Post(
        Stage.CLOSED,
        {Role.CS_CHIEF},
        lambda c, s: c.propose_internal_handling(s, POLICY, persons=(), proposal="无"),
    ),
    "improve": Post(
        Stage.INTERNALLY_HANDLED,
        LEADERS,
        lambda c, s: c.propose_improvement(s, measure="制度", responsible=ZHAO, execute_by=LATER),
    ),
    "waive": Post(Stage.INTERNALLY_HANDLED, LEADERS, lambda c, s: c.waive_improvement(s, POLICY, reason="偶发")),
    "execute": Post(Stage.IMPROVING, DESK, lambda c, s: c.execute_improvement(s, POLICY, account="已执行")),
    "confirm": Post(
        Stage.IMPROVED,
        LEADERS | {Role.GM_OFFICE},
        lambda c, s: c.confirm_improvement(s, POLICY, effective=True, finding="有效"),
    ),
    "follow up": Post(Stage.FOLLOWING_UP, DESK, lambda c, s: c.follow_up(s, content="满意")),
    "reopen": Post(Stage.FINISHED, DESK | {Role.DEAN}, lambda c, s: c.reopen(s, POLICY, reason="未解决")),
    "escalate": Post(Stage.RECEIVED, DESK, lambda c, s: c.escalate(s, to=MED, level="cs_chief", reason="急")),
}


@rule("CC-17", "CC-21", "CC-22", "CC-25", "CC-26", "CC-27", "CC-28", "CC-31", "CC-32", "CC-34", "CC-35", "CC-37")
@rule("CC-09", "CC-38", "CC-39", "CC-52", "CC-53", "CC-54", "CC-68")
@pytest.mark.parametrize("name", POSTS)
def test_a_decision_is_taken_by_the_posts_it_belongs_to_and_by_no_other(name: str) -> None:
    post = POSTS[name]
    case = post.case()
    for role in Role:
        if role in post.allowed:
            assert post.decide(case, by(SOMEBODY, role)) is not None, role
            continue
        with pytest.raises(Refused) as refusal:
            post.decide(case, by(SOMEBODY, role))
        assert refusal.value.code == "access.role", role


@pytest.mark.parametrize(
    ("name", "stage", "code"),
    [
        ("evidence", Stage.RECEIVED, "complaint.no_inquiry"),
        ("evidence", Stage.AGREED, "complaint.no_inquiry"),
        ("investigated", Stage.RECEIVED, "complaint.not_investigating"),
        ("qualify", Stage.INVESTIGATING, "complaint.not_investigated"),
        ("rights", Stage.CLOSED, "complaint.closed"),
        ("plan", Stage.PLAN_PROPOSED, "complaint.no_plan_now"),
        ("return", Stage.QUALIFIED, "complaint.no_plan"),
        ("approve", Stage.QUALIFIED, "complaint.no_plan"),
        ("negotiation", Stage.AGREED, "complaint.not_negotiating"),
        ("fail", Stage.PLAN_PROPOSED, "complaint.not_negotiating"),
        ("sign", Stage.NEGOTIATING, "complaint.no_agreement"),
        ("formalities", Stage.NEGOTIATING, "complaint.no_agreement"),
        ("feedback", Stage.CLOSED, "complaint.no_feedback_now"),
        ("handling", Stage.SETTLED, "complaint.not_closed"),
        ("improve", Stage.CLOSED, "complaint.no_improvement_now"),
        ("waive", Stage.CLOSED, "complaint.no_improvement_now"),
        ("execute", Stage.INTERNALLY_HANDLED, "complaint.no_improvement"),
        ("confirm", Stage.IMPROVING, "complaint.not_improved"),
        ("follow up", Stage.SETTLED, "complaint.not_closed"),
        ("escalate", Stage.FINISHED, "complaint.finished"),
    ],
)
def test_a_decision_out_of_its_order_is_refused(name: str, stage: Stage, code: str) -> None:
    case = received().up_to(stage).case
    with refused(code):
        POSTS[name].decide(case, by(SOMEBODY, *POSTS[name].allowed))


STEPS = {
    Stage.RECEIVED: Step.FORM,
    Stage.INVESTIGATING: Step.EVIDENCE,
    Stage.INVESTIGATED: Step.QUALIFY,
    Stage.QUALIFIED: Step.PLAN,
    Stage.PLAN_PROPOSED: Step.APPROVE,
    Stage.NEGOTIATING: Step.NEGOTIATE,
    Stage.AGREED: Step.FORMALITIES,
    Stage.SETTLED: Step.FILE,
    Stage.CLOSED: Step.INTERNAL_HANDLING,
    Stage.INTERNALLY_HANDLED: Step.IMPROVE,
    Stage.IMPROVING: Step.EXECUTE,
    Stage.IMPROVED: Step.CONFIRM,
    Stage.FOLLOWING_UP: Step.FOLLOW_UP,
}


@rule("CC-24", "CC-64")
@pytest.mark.parametrize("stage", STEPS)
def test_the_step_that_runs_is_that_of_the_stage(stage: Stage) -> None:
    running = received().up_to(stage).case.running
    assert running is not None
    assert running.step == STEPS[stage]


def test_without_improvement_the_follow_up_is_next() -> None:
    told = received().up_to(Stage.INTERNALLY_HANDLED)
    running = told.then(lambda case: POSTS["waive"].decide(case, by(LI, Role.CS_DIRECTOR))).case.running
    assert running is not None
    assert running.step == Step.FOLLOW_UP


def test_what_is_planned_and_signed_is_said() -> None:
    case = received().up_to(Stage.QUALIFIED).case
    unmatched: list[dict[str, Any]] = [
        {"amount": Money.of(9)},
        {"settlement": "refund", "remedies": ("apology", "refund")},
    ]
    for money in unmatched:
        with refused("complaint.amount", "amount"):
            case.propose_plan(by(SOMEBODY, Role.CS_DIRECTOR), POLICY, **{**PLAN, **money})
    with refused("complaint.no_documents", "documents"):
        received().up_to(Stage.AGREED).case.sign_documents(by(SOMEBODY, Role.CS_AGENT), documents=())


@rule("CC-17")
def test_the_owner_takes_it_up_whatever_their_post() -> None:
    told = received(by=DOCTOR, owner=QIAN, accused=())
    assert told.case.escalate(by(QIAN, Role.CASHIER), to=LI, level="cs_director", reason="急") is not None


@rule("CC-37")
def test_who_is_responsible_for_an_improvement_carries_it_out_whatever_their_post() -> None:
    told = received().up_to(Stage.INTERNALLY_HANDLED)
    told.then(
        lambda case: case.propose_improvement(
            by(LI, Role.CS_DIRECTOR), measure="制度", responsible=DOCTOR, execute_by=LATER
        )
    )
    assert told.case.execute_improvement(by(DOCTOR, Role.CONSULTANT), POLICY, account="已执行") is not None


@rule("CC-02")
@pytest.mark.parametrize("role", Role)
def test_any_employee_makes_the_first_record(role: Role) -> None:
    words: dict[str, Any] = {"channel": "telephone", "complainant": "孙女士", "statement": "肿胀"}
    who = named("BJ", "patient", "2")
    event = receive(
        None,
        by(SOMEBODY, role),
        POLICY,
        id=named("BJ", "case", "2"),
        received_at=hours(39),
        complainant_id=who,
        **words,
    )
    assert event is not None
    assert event.owner == SOMEBODY


def log_line(case: ComplaintCase, said: Stamp) -> ComplaintEvent | None:
    return case.record_work(said, activity="电话", performer="", unit="", reference="1")


IMPORTING: list[Decide] = [
    lambda _, s: import_case(None, s, **LOG),
    log_line,
    lambda c, s: c.end_import(s, ended_at=hours(9)),
]


@pytest.mark.parametrize("decide", IMPORTING)
def test_another_systems_log_is_taken_over_by_an_administrator_only(decide: Decide) -> None:
    told: Told = imported()
    for role in Role:
        if role == Role.ADMIN:
            assert decide(told.case, by(SOMEBODY, role)) is not None
            continue
        with pytest.raises(Refused) as refusal:
            decide(told.case, by(SOMEBODY, role))
        assert refusal.value.code == "access.role", role


def test_a_policy_is_published_by_leaders_only() -> None:
    publishers = {Role.CS_CHIEF, Role.DEAN, Role.GM_OFFICE, Role.ADMIN}
    words: dict[str, Any] = {"institution": "BJ", "values": DEFAULT_VALUES, "effective_from": LATER, "approved_by": LI}
    for role in Role:
        if role in publishers:
            assert publish(None, by(SOMEBODY, role), **words) is not None
            continue
        with pytest.raises(Refused) as refusal:
            publish(None, by(SOMEBODY, role), **words)
        assert refusal.value.code == "access.role", role
