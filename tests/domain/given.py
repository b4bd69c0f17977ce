"""Given events, when a decision, then an event or a refusal: what the tests of the rules are said with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.complaint import COMPLAINT, ComplaintCase, ComplaintEvent, Stage, receive
from domain.institution import ClosingZone, Place
from domain.kernel import Event, Fold, Refused, Role, StaffId, Stamp, named, replay
from domain.money import Money
from domain.policy import DEFAULTS, ComplaintPolicy

SHANGHAI = ZoneInfo("Asia/Shanghai")
BJ = Place("BJ", ClosingZone.BEIJING)
SY = Place("SY", ClosingZone.OUTSIDE)
POLICY = ComplaintPolicy(BJ, DEFAULTS)

ZHAO, LI, WANG, CHEN, QIAN, DOCTOR, MED, BOSS = (
    named("BJ", "staff", name) for name in ("zhao", "li", "wang", "chen", "qian", "doctor", "med", "boss")
)
PATIENT = named("BJ", "patient", "1")
CASE = named("BJ", "case", "1")
POSTS: dict[StaffId, frozenset[Role]] = {
    ZHAO: frozenset({Role.CS_AGENT}),
    LI: frozenset({Role.CS_DIRECTOR}),
    WANG: frozenset({Role.CS_CHIEF}),
    CHEN: frozenset({Role.DEAN}),
    QIAN: frozenset({Role.CASHIER}),
    DOCTOR: frozenset({Role.CONSULTANT}),
    MED: frozenset({Role.MEDICAL_DIRECTOR}),
    BOSS: frozenset({Role.ADMIN, Role.GM_OFFICE}),
}
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=SHANGHAI)
"""A Monday in a plain week without holidays, nine in the morning."""


def hours(n: float) -> datetime:
    """So many hours after the complaint was received."""
    return MONDAY + timedelta(hours=n)


def but(words: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The words of a decision, some of them changed."""
    return {**words, **changed}


def stamp(by: StaffId = LI, at: datetime | float = 1, *roles: Role) -> Stamp:
    """Who says it, when (hours after receipt, or a moment), in which posts (their usual ones)."""
    moment = at if isinstance(at, datetime) else hours(at)
    return Stamp(by=by, at=moment, command_id=named(str(by), str(moment)), roles=frozenset(roles) or POSTS[by])


def given(fold: Fold, *events: Event) -> Any:
    """The state after these events; there is at least one."""
    state = replay(fold, events)
    assert state is not None
    return state


@contextmanager
def refused(code: str, field: str | None = None) -> Generator[None]:
    """The block is refused with this code, naming this field if one is given."""
    with pytest.raises(Refused) as refusal:
        yield
    assert refusal.value.code == code, str(refusal.value)
    if field is not None:
        assert refusal.value.field == field
    assert refusal.value.sentence.endswith((".", "”.")), "a refusal is a sentence"


Decision = Callable[[ComplaintCase], ComplaintEvent | None]


class Told:
    """A case told by its decisions, one after another."""

    def __init__(self, *events: ComplaintEvent) -> None:
        self.events: list[ComplaintEvent] = list(events)

    @property
    def case(self) -> ComplaintCase:
        return given(COMPLAINT, *self.events)

    def then(self, decision: Decision) -> Told:
        """Decide, and take what was decided into the history; something must have been."""
        event = decision(self.case)
        assert event is not None, "asked twice"
        self.events.append(event)
        return self

    def up_to(self, stage: Stage, start: float = 1, **choices: Any) -> Told:
        """The usual walk until the case is at `stage`, a fact an hour."""
        for _, decision in usual(start, **choices):
            if self.case.stage == stage:
                return self
            self.then(decision)
        assert self.case.stage == stage, f"{self.case.stage} is not {stage}"
        return self


def received(policy: ComplaintPolicy = POLICY, at: datetime | float = 0.5, **said: Any) -> Told:
    """A case just received by Zhao, complaining of the doctor."""
    words: dict[str, Any] = {
        "id": CASE,
        "received_at": MONDAY,
        "channel": "telephone",
        "complainant_id": PATIENT,
        "complainant": "孙女士",
        "statement": "术后肿胀，无人解释",
        "phone": "13800000000",
        "departments": ("皮肤科",),
        "accused": (DOCTOR,),
        "category": "medical",
        "severity": "ordinary",
    }
    event = receive(None, stamp(said.pop("by", ZHAO), at), policy, **{**words, **said})
    assert event is not None
    return Told(event)


FORM: dict[str, str] = {"cause": "术后肿胀", "course": "三日未回电", "result": "不满", "demand": "退还手术费"}


def accept(at: datetime | float = 1, by: StaffId = LI, policy: ComplaintPolicy = POLICY, **said: Any) -> Decision:
    words: dict[str, Any] = {"number": "BJ20260301", **FORM, **said}
    return lambda case: case.accept(stamp(by, at), policy, **words)


def qualify(at: datetime | float = 5, by: StaffId = LI, policy: ComplaintPolicy = POLICY, **said: Any) -> Decision:
    words: dict[str, Any] = {"reason": "未告知", "complexity": "complex", "category": "medical", "severity": "serious"}
    words |= {"is_dispute": False, **said}
    return lambda case: case.qualify(stamp(by, at), policy, **words)


def propose(at: datetime | float = 6, by: StaffId = LI, policy: ComplaintPolicy = POLICY, **said: Any) -> Decision:
    words: dict[str, Any] = {"submitted_to": WANG, "remedies": ("apology",), "content": "道歉并复诊"}
    if said.get("settlement", "none") != "none":
        words["remedies"] = ("apology", said["settlement"])
    return lambda case: case.propose_plan(stamp(by, at), policy, **{**words, **said})


def usual(
    start: float = 1,
    *,
    policy: ComplaintPolicy = POLICY,
    settlement: str = "none",
    amount: Money | None = None,
    payment: str | None = None,
) -> list[tuple[str, Decision]]:
    """The decisions of a whole case, each with its name, an hour apart."""
    money: dict[str, Any] = {"settlement": settlement, **({"amount": amount} if amount is not None else {})}
    paid = settlement != "none"
    s, p = start, policy
    payer = QIAN if paid else ZHAO
    walk: list[tuple[str, Decision]] = [
        ("accept", accept(s, policy=p)),
        ("contact", lambda case: case.make_first_contact(stamp(ZHAO, s + 1), account="要求退费")),
        ("evidence", lambda case: case.gather_evidence(stamp(ZHAO, s + 2), source="皮肤科", content="手术记录")),
        ("investigated", lambda case: case.complete_investigation(stamp(LI, s + 3), p, findings="未按时回访")),
        ("qualified", qualify(s + 4, policy=p)),
        (
            "attributed",
            lambda case: case.attribute_responsibility(stamp(LI, s + 4.5), responsible=(DOCTOR,), reason="未回访"),
        ),
        ("proposed", propose(s + 5, policy=p, **money)),
        ("approved", lambda case: case.approve_plan(stamp(WANG, s + 6), p)),
        ("negotiated", lambda case: case.record_negotiation(stamp(LI, s + 7), p, content="再考虑")),
        ("agreed", lambda case: case.agree(stamp(LI, s + 8), p, terms="接受", **money)),
        ("signed", lambda case: case.sign_documents(stamp(LI, s + 9), documents=("和解协议",))),
        ("formalities", lambda case: case.complete_formalities(stamp(payer, s + 10), p, payment=payment)),
        ("feedback", lambda case: case.give_feedback(stamp(LI, s + 11), content="已办结")),
        ("closed", lambda case: case.close(stamp(LI, s + 12), p, summary="已退费")),
        (
            "handled",
            lambda case: case.propose_internal_handling(stamp(WANG, s + 13), p, persons=(DOCTOR,), proposal="书面警告"),
        ),
        (
            "improvement",
            lambda case: case.propose_improvement(
                stamp(LI, s + 14), measure="回访制度", responsible=ZHAO, execute_by=hours(s + 100)
            ),
        ),
        ("executed", lambda case: case.execute_improvement(stamp(ZHAO, s + 15), p, account="已执行")),
        ("confirmed", lambda case: case.confirm_improvement(stamp(MED, s + 16), p, effective=True, finding="有效")),
        ("followed up", lambda case: case.follow_up(stamp(ZHAO, s + 17), content="满意", satisfaction=9)),
    ]
    return walk
