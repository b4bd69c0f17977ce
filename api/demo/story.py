"""How one complaint of the demonstration goes: who decides what, when – by the public decisions and nothing else.

A story is a generator of moves. Each move is made when its time has come, on the case as it then stands, and the case
as it stands afterwards is sent back in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from api.demo import words
from api.demo.group import HERE, People, Person, new_id
from domain.complaint import ComplaintCase, ResponsibilityAttributed, receive
from domain.complaint_words import (
    Category,
    Channel,
    EscalationLevel,
    Payment,
    Remedy,
    Settlement,
    Severity,
)
from domain.kernel import Event, Role, Stamp
from domain.money import NOTHING, Money
from domain.policy import ComplaintPolicy, Complexity

MORNING, EVENING = 8, 18
Decide = Callable[[ComplaintCase | None, Stamp, ComplaintPolicy], Event | None]
OnCase = Callable[[ComplaintCase, Stamp, ComplaintPolicy], Event | None]


@dataclass(frozen=True)
class Move:
    """Somebody decides something. `numbered`: with it the case gets its number, given as the fourth argument."""

    at: datetime
    by: Person
    decide: Decide | None = None
    numbered: Callable[[ComplaintCase, Stamp, ComplaintPolicy, str], Event | None] | None = None


Moves = Generator[Move, ComplaintCase, ComplaintCase]


class Story:
    """One complaint: what it is about, who is in it, how quickly it goes, and its way."""

    def __init__(self, rng: Random, people: People, received_at: datetime, haste: float) -> None:
        self.rng = rng
        self.people = people
        self.received_at = received_at
        self.id: UUID = new_id(rng)
        self.at = received_at
        # one case in six drags on from beginning to end
        self.haste = haste * (0.4 if rng.random() < 0.16 else 1.0)
        self.matter = rng.choices(words.MATTERS, [matter.weight for matter in words.MATTERS])[0]
        self.department = rng.choice(self.matter.departments)
        self.medical = self.matter.category == Category.MEDICAL
        self.severity = self._severity()
        self.dispute = self.severity == Severity.MAJOR or (self.medical and rng.random() < 0.25)
        self.handler = rng.choice(people.of(Role.CS_AGENT))
        self.director = people.one(Role.MEDICAL_DIRECTOR if self.medical else Role.CS_DIRECTOR)
        front = [p for p in people.of(Role.CONSULTANT, Role.GUIDE, Role.CS_AGENT) if p is not self.handler]
        self.accused = [rng.choice(front)] if rng.random() < 0.7 else []
        self.listener = rng.choice(front)

    def _severity(self) -> Severity:
        chance = self.rng.random()
        if self.medical:
            return Severity.MAJOR if chance < 0.12 else Severity.SERIOUS if chance < 0.45 else Severity.ORDINARY
        return Severity.SERIOUS if chance < 0.12 else Severity.ORDINARY

    def _later(self, hours_min: float, hours_max: float, *, always_open: bool = False) -> datetime:
        """The moment of the next move: so many hours on, a little more if people are slow, and by day."""
        hours = self.rng.uniform(hours_min, hours_max) / self.haste
        at = (self.at + timedelta(seconds=round(hours * 3600))).astimezone(HERE)
        if not always_open and not MORNING <= at.hour < EVENING:
            morning = at.replace(hour=MORNING, minute=0, second=0) + timedelta(days=at.hour >= EVENING)
            at = morning + timedelta(seconds=self.rng.randrange(300, 5400))
        self.at = max(at, self.at + timedelta(minutes=1))
        return self.at

    def _move(self, hours_min: float, hours_max: float, by: Person, decide: OnCase) -> Move:
        def on_case(case: ComplaintCase | None, stamp: Stamp, policy: ComplaintPolicy) -> Event | None:
            assert case is not None, "the case was received"
            return decide(case, stamp, policy)

        return Move(self._later(hours_min, hours_max), by, on_case)

    def _said(self, text: str) -> str:
        return text.format(dept=self.department, n=self.rng.choice((3, 5, 10, 15, 20, 30, 40, 60)))

    def _one_of(self, texts: tuple[str, ...]) -> str:
        return self.rng.choice(texts)

    def moves(self) -> Moves:
        """Everything that happens to this complaint, in order."""
        case = yield self._receipt()
        case = yield from self._acceptance()
        case = yield from self._round(case)
        case = yield from self._aftercare()
        if self.rng.random() < 0.08:
            case = yield from self._again()
        return case

    def _round(self, case: ComplaintCase) -> Moves:
        """From investigation to closing, once."""
        yield from self._inquiry()
        yield from self._settling()
        return (yield from self._closing())

    def _receipt(self) -> Move:
        rng, matter = self.rng, self.matter
        complainant_id, complainant, phone = new_id(rng), words.name(rng), words.phone(rng)
        channel, statement = words.weighted(rng, words.CHANNELS), self._said(matter.statement)
        wrote_themselves = self.listener in self.accused

        def decide(case: ComplaintCase | None, stamp: Stamp, policy: ComplaintPolicy) -> Event | None:
            return receive(
                case,
                stamp,
                policy,
                id=self.id,
                received_at=self.received_at,
                channel=channel,
                complainant_id=complainant_id,
                complainant=complainant,
                phone="" if channel == Channel.LETTER else phone,
                statement=statement,
                departments=[self.department],
                accused=[person.id for person in self.accused],
                category=matter.category,
                severity=self.severity,
                owner=self.handler.id if wrote_themselves else None,
            )

        return Move(self._later(0.05, 0.9, always_open=True), self.listener, decide)

    def _acceptance(self) -> Moves:
        if self.rng.random() < 0.06 and self.listener not in self.accused:
            yield from self._transfer(self.listener)
        course, result = self._one_of(words.COURSE), "待调查"

        def accept(case: ComplaintCase, stamp: Stamp, policy: ComplaintPolicy, number: str) -> Event | None:
            return case.accept(
                stamp,
                policy,
                number=number,
                cause=self.matter.cause,
                course=course,
                demand=self.matter.demand,
                result=result,
                persons_involved="、".join(person.department for person in self.accused),
                handler=self.handler.id,
            )

        director = self.people.one(Role.CS_DIRECTOR)
        return (yield Move(self._later(0.2, 3.6), director, numbered=accept))

    def _transfer(self, owner: Person) -> Moves:
        """Out of scope: offered, sometimes declined, then accepted; the owner stays owner until then (CC-13)."""
        candidates = [p for p in self.people.of(Role.CS_AGENT) if p not in (owner, *self.accused)]
        to = self.rng.choice(candidates)
        reason, department = self._one_of(words.TRANSFERS), to.department
        yield self._move(
            0.1, 0.5, owner, lambda c, s, _: c.offer_transfer(s, to=to.id, department=department, reason=reason)
        )
        if self.rng.random() < 0.3:
            return (yield self._move(0.1, 1, to, lambda c, s, _: c.decline_transfer(s, reason="不属本组职责范围。")))
        return (yield self._move(0.1, 1, to, lambda c, s, _: c.accept_transfer(s)))

    def _inquiry(self) -> Generator[Move, ComplaintCase]:
        rng, matter = self.rng, self.matter
        account = self._one_of(words.CONTACTS)
        yield self._move(0.2, 2.5, self.handler, lambda c, s, _: c.make_first_contact(s, account=account))
        for source, content in matter.evidence[: rng.randint(1, len(matter.evidence))]:
            content = self._said(content)
            yield self._move(
                0.2, 1.6, self.handler, lambda c, s, _, f=source, t=content: c.gather_evidence(s, source=f, content=t)
            )
        if rng.random() < 0.07:
            yield from self._escalation()
        findings, reason = matter.findings, matter.reason
        yield self._move(0.3, 2.5, self.director, lambda c, s, p: c.complete_investigation(s, p, findings=findings))
        complexity = rng.choice((Complexity.SIMPLE, Complexity.SIMPLE, Complexity.COMPLEX, Complexity.CROSS_DEPARTMENT))
        yield self._move(
            0.2,
            2,
            self.director,
            lambda c, s, p: c.qualify(
                s,
                p,
                reason=reason,
                complexity=complexity,
                category=matter.category,
                severity=self.severity,
                is_dispute=self.dispute,
            ),
        )
        found = [person.id for person in self.accused] if rng.random() < 0.6 else []
        why = matter.reason if found else words.NOBODY
        yield self._move(
            0.1,
            2,
            self.director,
            lambda c, s, _: c.attribute_responsibility(s, responsible=found, reason=why, departments=[self.department]),
        )
        if self.dispute:
            how = words.RIGHTS[0]
            yield self._move(0.1, 2, self.handler, lambda c, s, _: c.inform_rights(s, how=how))

    def _escalation(self) -> Generator[Move, ComplaintCase]:
        """Whoever cannot solve it takes it up; from then on the person told owns it (CC-17)."""
        to, level = self.people.one(Role.CS_DIRECTOR), EscalationLevel.CS_DIRECTOR
        if self.severity == Severity.MAJOR:
            to, level = self.people.one(Role.CS_CHIEF), EscalationLevel.CS_CHIEF
        reason = self._one_of(words.ESCALATIONS)

        def escalate(case: ComplaintCase, stamp: Stamp, _: ComplaintPolicy) -> Event | None:
            # a case handled again may be theirs from the first time
            return case.escalate(stamp, to=to.id, level=level, reason=reason) if case.owner != to.id else None

        yield self._move(0.2, 2, self.handler, escalate)

    def _settling(self) -> Generator[Move, ComplaintCase]:
        rng = self.rng
        settlement, amount = self._money()
        chief = self.people.one(Role.DEAN if self.severity == Severity.MAJOR else Role.CS_CHIEF)
        yield from self._plan(chief, settlement, amount)
        while rng.random() < 0.12:
            why = self._one_of(words.RETURNS)
            yield self._move(1, 12, chief, lambda c, s, p, w=why: c.return_plan(s, p, reason=w))
            yield from self._plan(chief, settlement, amount)
        yield self._move(0.5, 16, chief, lambda c, s, p: c.approve_plan(s, p))
        if rng.random() < 0.65:
            first = self._one_of(words.ANSWERS)
            yield self._move(0.5, 8, self.handler, lambda c, s, _: c.give_feedback(s, content=first))
        for _ in range(rng.randint(1, 3)):
            content, side = self._one_of(words.TALKS), rng.choice((1, 1, 1, 2, 3))
            yield self._move(
                2,
                50,
                self.handler,
                lambda c, s, p, t=content, n=side: c.record_negotiation(s, p, content=t, representatives=n),
            )
        if rng.random() < (0.3 if self.dispute else 0.05):
            why = self._one_of(words.FAILURES)
            yield self._move(4, 60, self.director, lambda c, s, p: c.fail_negotiation(s, p, reason=why))
            self.at += timedelta(days=rng.randint(5, 40))
            if rng.random() < 0.5:
                amount = Money(amount.yuan * 2) if settlement != Settlement.NONE else amount
                yield from self._plan(chief, settlement, amount)
                yield self._move(1, 16, chief, lambda c, s, p: c.approve_plan(s, p))
        terms, agreed = self._one_of(words.TERMS), amount
        yield self._move(
            2, 70, self.handler, lambda c, s, p: c.agree(s, p, terms=terms, settlement=settlement, amount=agreed)
        )
        yield from self._formalities(settlement)

    def _money(self) -> tuple[Settlement, Money]:
        asked = self.matter.money
        if not asked or self.rng.random() < 0.25:
            return Settlement.NONE, NOTHING
        settlement = Settlement.COMPENSATION if self.medical else Settlement.REFUND
        return settlement, Money.of(str(asked * self.rng.randint(40, 160) // 100))

    def _plan(self, chief: Person, settlement: Settlement, amount: Money) -> Generator[Move, ComplaintCase]:
        remedies = {
            Settlement.NONE: (Remedy.APOLOGY, Remedy.EXPLANATION),
            Settlement.REFUND: (Remedy.EXPLANATION, Remedy.REFUND),
            Settlement.COMPENSATION: (Remedy.APOLOGY, Remedy.COMPENSATION, Remedy.RE_TREATMENT),
        }[settlement]
        yield self._move(
            0.5,
            16,
            self.director,
            lambda c, s, p: c.propose_plan(
                s,
                p,
                submitted_to=chief.id,
                remedies=remedies,
                content=self.matter.plan,
                settlement=settlement,
                amount=amount,
            ),
        )

    def _formalities(self, settlement: Settlement) -> Generator[Move, ComplaintCase]:
        if settlement == Settlement.NONE:
            yield self._move(0.5, 30, self.handler, lambda c, s, p: c.complete_formalities(s, p))
            return
        documents = ["和解协议书", "退费申请单" if settlement == Settlement.REFUND else "赔偿金领取单"]
        yield self._move(0.5, 10, self.handler, lambda c, s, _: c.sign_documents(s, documents=documents))
        payment = self.rng.choice((Payment.CASH, Payment.BANK_TRANSFER, Payment.BANK_TRANSFER))
        cashier = self.rng.choice(self.people.of(Role.CASHIER))
        yield self._move(1, 34, cashier, lambda c, s, p: c.complete_formalities(s, p, payment=payment))

    def _closing(self) -> Moves:
        told, director = self._one_of(words.FEEDBACKS), self.people.one(Role.CS_DIRECTOR)
        yield self._move(0.2, 5, self.handler, lambda c, s, _: c.give_feedback(s, content=told))
        summary = f"{self.matter.reason}{self.matter.plan}"
        return (yield self._move(0.5, 16, director, lambda c, s, p: c.close(s, p, summary=summary)))

    def _aftercare(self) -> Moves:
        rng = self.rng
        chief = self.people.one(Role.CS_CHIEF)
        proposal = self._one_of(words.HANDLINGS)

        def handle(case: ComplaintCase, stamp: Stamp, policy: ComplaintPolicy) -> Event | None:
            attributed = case.last(ResponsibilityAttributed)
            persons = attributed.responsible if attributed is not None else ()
            said = proposal if persons else words.NOBODY
            return case.propose_internal_handling(stamp, policy, persons=persons, proposal=said)

        yield self._move(1, 44, chief, handle)
        if rng.random() < 0.3:
            yield self._move(2, 90, self.director, lambda c, s, p: c.waive_improvement(s, p, reason=words.NOBODY))
        else:
            yield from self._improvement()
        return (yield from self._follow_up())

    def _improvement(self) -> Generator[Move, ComplaintCase]:
        rng, measure, handler = self.rng, self.matter.measure, self.handler
        effective = False
        while not effective:
            proposed_at = self._later(4, 120)
            by = timedelta(days=rng.randint(5, 20))
            until = (proposed_at + by).replace(hour=17, minute=0, second=0)
            yield Move(
                proposed_at,
                self.director,
                lambda c, s, _, u=until: _the(c).propose_improvement(
                    s, measure=measure, responsible=handler.id, execute_by=u
                ),
            )
            account = self._one_of(words.ACCOUNTS)
            yield self._move(60, 320, handler, lambda c, s, p, a=account: c.execute_improvement(s, p, account=a))
            effective = rng.random() < 0.88
            finding = words.EFFECTIVE if effective else words.INEFFECTIVE
            checker = self.people.one(rng.choice((Role.GM_OFFICE, Role.CS_CHIEF)))
            yield self._move(
                20,
                150,
                checker,
                lambda c, s, p, e=effective, f=finding: c.confirm_improvement(s, p, effective=e, finding=f),
            )

    def _follow_up(self) -> Moves:
        rng = self.rng
        left = rng.choice((1, 1, 2, 3))
        while True:
            left -= 1
            at = self._later(40, 160)
            content, score = self._one_of(words.FOLLOW_UPS), rng.choice((None, 5, 6, 7, 8, 8, 9, 9, 10))
            next_by = at + timedelta(days=30) if left else None
            case = yield Move(
                at,
                self.handler,
                lambda c, s, _, t=content, n=score, b=next_by: _the(c).follow_up(
                    s, content=t, satisfaction=n, next_by=b
                ),
            )
            if not left:
                return case
            self.at += timedelta(days=20)

    def _again(self) -> Moves:
        """The problem is not solved: handled again under its number (CC-52)."""
        self.at += timedelta(days=self.rng.randint(2, 15))
        reason, new = self._one_of(words.REOPENINGS), self.rng.random() < 0.4
        case = yield self._move(1, 40, self.handler, lambda c, s, p: c.reopen(s, p, reason=reason, new_evidence=new))
        case = yield from self._round(case)
        return (yield from self._aftercare())


def _the(case: ComplaintCase | None) -> ComplaintCase:
    assert case is not None, "the case was received"
    return case
