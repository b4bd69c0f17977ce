"""Cases walked at random through the decisions of the domain: whatever they accept is a history the views must show."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from domain.complaint import ComplaintCase, ComplaintEvent, Stage, evolve, import_case, receive
from domain.complaint_words import Category, Channel, EscalationLevel, Severity
from domain.kernel import Refused, Role, Stamp, named
from domain.money import NOTHING, Money
from domain.policy import Complexity
from domain.store.casebook import Casebook
from tests.domain.given import POLICY

STAFF = tuple(named("walk", "staff", str(n)) for n in range(5))
START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
HOURS = (0, 0, 0.25, 1, 5, 30, 100, 400)
DEPARTMENTS = ("皮肤科", "外科", "前台", "收费处")
AMOUNTS = (NOTHING, Money.of("0.01"), Money.of("1200.50"), Money.of(50_000))

Draw = random.Random
Decide = Callable[[ComplaintCase, Stamp, Draw], ComplaintEvent | None]


def said(draw: Draw) -> str:
    """Something a patient might have said: every such text can be found again if it leaks."""
    return f"病情{draw.randrange(10**6):06}"


def _money(draw: Draw) -> dict[str, Any]:
    settlement = draw.choice(("none", "refund", "compensation"))
    return {"settlement": settlement, "amount": NOTHING if settlement == "none" else draw.choice(AMOUNTS[1:])}


def _propose(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    money = _money(draw)
    remedies = ["apology", *([money["settlement"]] if money["settlement"] != "none" else [])]
    return case.propose_plan(
        stamp, POLICY, submitted_to=draw.choice(STAFF), remedies=remedies, content=said(draw), **money
    )


def _follow_up(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    again = stamp.at + timedelta(days=3) if draw.random() < 0.3 else None
    return case.follow_up(stamp, content=said(draw), satisfaction=draw.choice((None, 1, 9)), next_by=again)


def _qualify(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    return case.qualify(
        stamp,
        POLICY,
        reason=said(draw),
        complexity=draw.choice(tuple(Complexity)),
        category=draw.choice(tuple(Category)),
        severity=draw.choice(tuple(Severity)),
        is_dispute=draw.random() < 0.3,
        demand=said(draw) if case.imported else None,
    )


def _improve(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    by = stamp.at + timedelta(days=draw.randrange(1, 9))
    return case.propose_improvement(stamp, measure="回访制度", responsible=draw.choice(STAFF), execute_by=by)


def _pay(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    return case.complete_formalities(stamp, POLICY, payment=draw.choice((None, "cash", "bank_transfer")))


def _attribute(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    where = draw.sample(DEPARTMENTS, draw.randrange(3))
    who = draw.sample(STAFF, draw.randrange(3))
    return case.attribute_responsibility(stamp, responsible=who, departments=where, reason="未按流程")


def _accept(case: ComplaintCase, stamp: Stamp, draw: Draw) -> ComplaintEvent | None:
    form = {field: said(draw) for field in ("cause", "course", "demand", "result", "persons_involved")}
    accused = draw.sample(STAFF, draw.randrange(2))
    number = f"BJ202603{draw.randrange(100):02}"
    return case.accept(stamp, POLICY, number=number, handler=draw.choice(STAFF), accused=accused, **form)


DECISIONS: dict[str, Decide] = {
    "accept": _accept,
    "contact": lambda case, stamp, draw: case.make_first_contact(stamp, account=said(draw)),
    "evidence": lambda case, stamp, draw: case.gather_evidence(stamp, source="护士站", content=said(draw)),
    "investigate": lambda case, stamp, draw: case.complete_investigation(stamp, POLICY, findings=said(draw)),
    "qualify": _qualify,
    "attribute": _attribute,
    "rights": lambda case, stamp, draw: case.inform_rights(stamp, how=said(draw)),
    "propose": _propose,
    "return": lambda case, stamp, draw: case.return_plan(stamp, POLICY, reason="金额不符"),
    "approve": lambda case, stamp, draw: case.approve_plan(stamp, POLICY),
    "negotiate": lambda case, stamp, draw: case.record_negotiation(stamp, POLICY, content=said(draw)),
    "agree": lambda case, stamp, draw: case.agree(stamp, POLICY, terms=said(draw), **_money(draw)),
    "fail": lambda case, stamp, draw: case.fail_negotiation(stamp, POLICY, reason=said(draw)),
    "sign": lambda case, stamp, draw: case.sign_documents(stamp, documents=("和解协议", "收条")),
    "pay": _pay,
    "feedback": lambda case, stamp, draw: case.give_feedback(stamp, content=said(draw)),
    "close": lambda case, stamp, draw: case.close(stamp, POLICY, summary=said(draw)),
    "handle": lambda case, stamp, draw: case.propose_internal_handling(stamp, POLICY, persons=(), proposal="警告"),
    "improve": _improve,
    "waive": lambda case, stamp, draw: case.waive_improvement(stamp, POLICY, reason="个案"),
    "execute": lambda case, stamp, draw: case.execute_improvement(stamp, POLICY, account="已执行"),
    "confirm": lambda case, stamp, draw: case.confirm_improvement(
        stamp, POLICY, effective=draw.random() < 0.7, finding="检查"
    ),
    "follow up": _follow_up,
    "reopen": lambda case, stamp, draw: case.reopen(stamp, POLICY, reason=said(draw)),
    "escalate": lambda case, stamp, draw: case.escalate(
        stamp, to=draw.choice(STAFF), level=draw.choice(tuple(EscalationLevel)), reason="无法处理"
    ),
    "offer": lambda case, stamp, draw: case.offer_transfer(
        stamp, to=draw.choice(STAFF), department=draw.choice(DEPARTMENTS), reason="不属本科"
    ),
    "take over": lambda case, stamp, draw: case.accept_transfer(stamp),
    "decline": lambda case, stamp, draw: case.decline_transfer(stamp, reason="亦不属本科"),
    "work": lambda case, stamp, draw: case.record_work(
        stamp,
        activity=f"T{draw.randrange(20)}",
        performer="Resource21",
        unit="Group 2",
        reference=str(draw.randrange(1000)),
        stage=draw.choice((None, Stage.INVESTIGATING, Stage.SETTLED)),
    ),
    "end": lambda case, stamp, draw: case.end_import(stamp, ended_at=stamp.at - timedelta(hours=1), result="Regular"),
}

ONWARD: dict[Stage, tuple[str, ...]] = {
    Stage.RECEIVED: ("accept", "work"),
    Stage.INVESTIGATING: ("contact", "evidence", "investigate", "work"),
    Stage.INVESTIGATED: ("qualify",),
    Stage.QUALIFIED: ("rights", "attribute", "propose"),
    Stage.PLAN_PROPOSED: ("rights", "approve", "approve", "return"),
    Stage.NEGOTIATING: ("agree", "agree", "negotiate", "fail"),
    Stage.DISPUTED: ("propose", "agree"),
    Stage.AGREED: ("sign", "feedback", "pay"),
    Stage.SETTLED: ("feedback", "close", "work", "end"),
    Stage.CLOSED: ("attribute", "handle"),
    Stage.INTERNALLY_HANDLED: ("improve", "waive"),
    Stage.IMPROVING: ("execute",),
    Stage.IMPROVED: ("confirm",),
    Stage.FOLLOWING_UP: ("follow up",),
    Stage.FINISHED: ("reopen", "follow up"),
}
POSTS = frozenset(Role)


def walk(draw: Draw, steps: int) -> list[ComplaintEvent]:
    """What is decided when `steps` things are tried on a new case, mostly those that bring it on."""
    at = START + timedelta(hours=draw.randrange(40))
    events = [_begun(draw, at)]
    case: ComplaintCase = evolve(None, events[0])
    for _ in range(steps):
        at += timedelta(hours=draw.choice(HOURS))
        names = _onward(case) if draw.random() < 0.8 else tuple(DECISIONS)
        stamp = Stamp(by=_who(case, draw), at=at, command_id=_id(draw), roles=POSTS)
        try:
            event = DECISIONS[draw.choice(names)](case, stamp, draw)
        except Refused:
            continue
        if event is not None:
            events.append(event)
            case = evolve(case, event)
    return events


def history(seed: int, steps: int) -> list[ComplaintEvent]:
    """The walk of a seed."""
    return walk(random.Random(seed), steps)


HISTORIES = st.builds(history, st.integers(0, 2**32), st.integers(40, 80))
"""Accepted histories of single cases, twenty events long or so."""


def stored(casebook: Casebook, seed: int, count: int, steps: int = 45) -> list[list[ComplaintEvent]]:
    """Cases walked at random and stored, each event as its own command, the cases mixed; their histories."""
    draw = random.Random(seed)
    histories = [walk(draw, steps) for _ in range(count)]
    left = [i for i, events in enumerate(histories) for _ in events]
    draw.shuffle(left)
    upcoming = [iter(events) for events in histories]
    casebook.append_many([[next(upcoming[i])] for i in left])
    return histories


def _onward(case: ComplaintCase) -> tuple[str, ...]:
    if case.offered_to is not None:
        return (*ONWARD[case.stage], "take over", "decline")
    if case.imported and case.number is not None and case.version < 5:
        return ("work", "work", "end")
    return ONWARD[case.stage]


def _begun(draw: Draw, at: datetime) -> ComplaintEvent:
    stamp = Stamp(by=draw.choice(STAFF), at=at, command_id=_id(draw), roles=POSTS)
    if draw.random() < 0.2:
        begun: ComplaintEvent | None = import_case(
            None,
            stamp,
            id=_id(draw),
            source="another system",
            reference=f"case-{draw.randrange(10**9)}",
            number=f"X-{draw.randrange(50)}",
            received_at=at,
            channel=draw.choice(tuple(Channel)),
            department=draw.choice(("", *DEPARTMENTS)),
            owner=draw.choice(STAFF),
            responsible="Resource21",
            planned_close_by=at + timedelta(days=5) if draw.random() < 0.5 else None,
        )
    else:
        begun = receive(
            None,
            stamp,
            POLICY,
            id=_id(draw),
            received_at=at,
            channel=draw.choice(tuple(Channel)),
            complainant_id=_id(draw),
            complainant=f"患者{draw.randrange(10**6):06}",
            statement=said(draw),
            phone=f"138{draw.randrange(10**8):08}",
            departments=draw.sample(DEPARTMENTS, draw.randrange(3)),
            accused=[STAFF[0]] if stamp.by != STAFF[0] and draw.random() < 0.5 else [],
            category=draw.choice(tuple(Category)),
            severity=draw.choice(tuple(Severity)),
        )
    assert begun is not None
    return begun


def _who(case: ComplaintCase, draw: Draw) -> UUID:
    """Often whoever the next word is with: some decisions are theirs alone."""
    return draw.choice((case.owner, case.owner, *([case.offered_to] * 5 if case.offered_to else ()), *STAFF))


def _id(draw: Draw) -> UUID:
    return UUID(int=draw.getrandbits(128), version=4)
