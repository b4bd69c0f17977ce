"""A complaint is heard, accepted, investigated and qualified."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.clock import ClockKind, Outcome, Step
from domain.complaint import (
    Category,
    Channel,
    ComplaintAccepted,
    ComplaintQualified,
    ComplaintReceived,
    EvidenceGathered,
    ResponsibilityAttributed,
    Severity,
    Stage,
    receive,
)
from domain.kernel import StaffId
from domain.personal import personal_fields
from tests.domain.given import (
    CASE,
    DOCTOR,
    FORM,
    LI,
    MED,
    MONDAY,
    PATIENT,
    POLICY,
    QIAN,
    WANG,
    ZHAO,
    Decision,
    accept,
    but,
    hours,
    qualify,
    received,
    refused,
    stamp,
)
from tests.rules import rule

MIDNIGHT = MONDAY.replace(hour=0)


def due(told_event: ComplaintReceived, step: Step) -> datetime | None:
    return next(clock.due_at for clock in told_event.started if clock.step == step)


@rule("CC-01")
def test_every_case_names_its_channel() -> None:
    assert {"web_chat", "telephone", "face_to_face", "letter", "fax", "visit", "qq", "email"} <= set(Channel)
    with refused("complaint.word", "channel"):
        received(channel="pigeon")
    with refused("complaint.word", "channel"):
        received(channel="")


@rule("CC-02")
@pytest.mark.parametrize(("at", "outcome", "late"), [(1, Outcome.MET, 0), (1.5, Outcome.LATE, 1800)])
def test_the_first_record_is_made_within_the_hour(at: float, outcome: Outcome, late: int) -> None:
    event = received(at=at).events[0]
    (first,) = event.stopped
    assert (first.step, first.outcome, first.late_seconds) == (Step.FIRST_RECORD, outcome, late)
    assert first.responsible == ZHAO
    assert next(clock.assumed for clock in event.started if clock.step == Step.FIRST_RECORD)


@rule("CC-02", "CC-09")
def test_who_writes_it_down_answers_for_the_record_and_the_owner_for_the_form() -> None:
    told = received(by=DOCTOR, owner=ZHAO)
    (first,) = told.events[0].stopped
    form = told.case.running
    assert form is not None
    assert (first.step, first.responsible) == (Step.FIRST_RECORD, DOCTOR)
    assert (form.step, form.responsible) == (Step.FORM, ZHAO)
    assert (form.counted_from, form.due_at) == (hours(0.5), hours(4.5))


@pytest.mark.parametrize("channel", list(Channel))
def test_a_complaint_is_received_by_any_channel(channel: Channel) -> None:
    told = received(channel=channel)
    assert isinstance(told.events[0], ComplaintReceived)
    assert told.case.stage == Stage.RECEIVED


@rule("CC-04")
@pytest.mark.parametrize("field", ["complainant", "statement"])
def test_the_first_record_holds_the_columns_of_the_register(field: str) -> None:
    event = received().events[0]
    assert isinstance(event, ComplaintReceived)
    assert (event.complainant, event.received_at, event.departments) == ("孙女士", MONDAY, ("皮肤科",))
    with refused("text.empty", field):
        received(**but({}, **{field: " "}))


@rule("CC-05")
@pytest.mark.parametrize("field", ["cause", "course", "demand"])
def test_the_handling_form_must_be_filled(field: str) -> None:
    with refused("text.empty", field):
        received().then(accept(**but({}, **{field: ""})))
    event = received().then(accept(persons_involved="张医生")).events[-1]
    assert isinstance(event, ComplaintAccepted)
    assert (event.cause, event.course, event.result) == (FORM["cause"], FORM["course"], FORM["result"])
    assert event.persons_involved == "张医生"


@rule("CC-06")
def test_without_demand_and_reason_it_is_not_qualified() -> None:
    told = received().up_to(Stage.INVESTIGATED)
    with refused("text.empty", "reason"):
        told.then(qualify(reason=""))
    with refused("text.empty", "demand"):
        told.then(qualify(demand=" "))
    qualified = told.then(qualify()).events[-1]
    assert isinstance(qualified, ComplaintQualified)
    assert qualified.demand == FORM["demand"]


@rule("CC-09")
def test_only_the_director_accepts_and_acceptance_starts_the_case_clock() -> None:
    told = received()
    with refused("access.role"):
        told.then(accept(by=ZHAO))
    assert told.case.clocks.of(Step.CLOSE) is None
    told.then(accept())
    case = told.case
    assert (case.number, case.owner, case.stage) == ("BJ20260301", LI, Stage.INVESTIGATING)
    close = case.clocks.of(Step.CLOSE)
    assert close is not None
    assert (close.started_at, close.kind) == (hours(1), ClockKind.CASE)


@rule("CC-23")
def test_the_closing_clock_is_counted_from_acceptance_not_from_receipt() -> None:
    close = received().then(accept(at=49)).case.clocks.of(Step.CLOSE)
    assert close is not None
    assert (close.counted_from, close.due_at) == (hours(49), MIDNIGHT + timedelta(days=10))


@rule("CC-24")
def test_the_handler_answers_for_the_evidence_not_who_accepted() -> None:
    case = received().then(accept(handler=ZHAO)).case
    assert {clock.responsible for clock in case.clocks.running} == {ZHAO}


def test_accepting_twice_is_answered_once_even_with_another_number() -> None:
    case = received().then(accept()).case
    assert accept(at=2, number="BJ20260302")(case) is None
    with refused("complaint.accepted"):
        accept(at=2, cause="其他")(case)


@rule("CC-21")
@rule("CC-22")
def test_investigation_and_first_contact_have_three_working_days_from_receipt() -> None:
    event = received().events[0]
    assert isinstance(event, ComplaintReceived)
    assert due(event, Step.INVESTIGATE) == due(event, Step.FIRST_CONTACT) == MIDNIGHT + timedelta(days=4)
    friday = received(received_at=MONDAY + timedelta(days=4), at=MONDAY + timedelta(days=4, hours=1)).events[0]
    assert isinstance(friday, ComplaintReceived)
    assert due(friday, Step.INVESTIGATE) == MIDNIGHT + timedelta(days=10)
    from_receipt = {clock.step: clock.counted_from for clock in received(at=30).events[0].started}
    assert from_receipt[Step.INVESTIGATE] == from_receipt[Step.FIRST_CONTACT] == from_receipt[Step.FEEDBACK] == MONDAY


@rule("CC-22")
def test_without_the_first_contact_the_investigation_is_not_complete() -> None:
    told = received().then(accept())
    told.then(lambda case: case.gather_evidence(stamp(ZHAO, 2), source="皮肤科", content="记录"))
    with refused("complaint.no_contact"):
        told.case.complete_investigation(stamp(LI, 3), POLICY, findings="属实")
    told.then(lambda case: case.make_first_contact(stamp(ZHAO, 3), account="要求退费"))
    assert told.case.clocks.of(Step.FIRST_CONTACT) is None
    told.then(lambda case: case.complete_investigation(stamp(LI, 4), POLICY, findings="属实"))
    assert told.case.stage == Stage.INVESTIGATED


def test_without_evidence_the_investigation_is_not_complete() -> None:
    told = received().then(accept()).then(lambda case: case.make_first_contact(stamp(ZHAO, 3), account="要求退费"))
    with refused("complaint.no_evidence"):
        told.case.complete_investigation(stamp(LI, 4), POLICY, findings="属实")


def test_the_first_contact_is_made_once() -> None:
    told = received().then(lambda case: case.make_first_contact(stamp(ZHAO, 1), account="要求退费"))
    assert told.case.make_first_contact(stamp(ZHAO, 2), account="要求退费") is None
    with refused("complaint.contact_made"):
        told.case.make_first_contact(stamp(ZHAO, 2), account="要求道歉")


@rule("CC-24")
@rule("CC-25")
def test_each_step_has_its_own_person_and_limit() -> None:
    """X1: the step clock of 24 hours is late, the case clock of three working days is not."""
    told = received().then(accept())
    evidence = told.case.running
    assert evidence is not None
    assert (evidence.step, evidence.responsible, evidence.due_at) == (Step.EVIDENCE, LI, hours(25))
    told.then(lambda case: case.make_first_contact(stamp(ZHAO, 2), account="要求退费"))
    told.then(lambda case: case.gather_evidence(stamp(ZHAO, 30), source="皮肤科", content="记录"))
    told.then(lambda case: case.complete_investigation(stamp(LI, 31), POLICY, findings="属实"))
    ends = {end.step: (end.outcome, end.late_seconds) for end in told.events[-1].stopped}
    assert ends == {Step.EVIDENCE: (Outcome.LATE, 6 * 3600), Step.INVESTIGATE: (Outcome.MET, 0)}


@rule("CC-26")
@pytest.mark.parametrize("by", [ZHAO, WANG, QIAN, DOCTOR])
def test_only_cs_and_medical_director_qualify(by: StaffId) -> None:
    told = received().up_to(Stage.INVESTIGATED)
    with refused("access.role"):
        told.then(qualify(by=by))
    assert told.then(qualify(by=MED)).case.stage == Stage.QUALIFIED


@rule("CC-26")
def test_qualification_is_due_within_the_day_that_began_with_the_evidence() -> None:
    """L16: inside the 24 hours of the step before, not 24 more."""
    running = received().up_to(Stage.INVESTIGATED).case.running
    assert running is not None
    assert (running.step, running.started_at) == (Step.QUALIFY, hours(4))
    assert (running.counted_from, running.due_at) == (hours(1), hours(25))


@rule("CC-26")
def test_it_is_qualified_after_the_investigation_and_once() -> None:
    with refused("complaint.not_investigated"):
        received().then(accept()).then(qualify())
    told = received().up_to(Stage.QUALIFIED)
    assert qualify(at=9)(told.case) is None
    with refused("complaint.not_investigated"):
        qualify(at=9, severity="major")(told.case)


@pytest.mark.parametrize(
    ("complexity", "days", "intervals"), [("simple", 8, 2), ("complex", 8, 2), ("cross_department", 15, 3)]
)
def test_the_law_gives_several_departments_ten_working_days_from_receipt(
    complexity: str, days: int, intervals: int
) -> None:
    """B2. The clock with five days, the second since acceptance handed it over, is kept as a superseded interval."""
    told = received().up_to(Stage.INVESTIGATED).then(qualify(complexity=complexity))
    clock = told.case.clocks.of(Step.FEEDBACK)
    assert clock is not None
    assert (clock.due_at, clock.interval) == (MIDNIGHT + timedelta(days=days), intervals)
    assert (clock.kind, clock.counted_from) == (ClockKind.STATUTORY, MONDAY)
    ends = [(end.interval, end.outcome) for end in told.events[-1].stopped if end.step == Step.FEEDBACK]
    assert ends == [(2, Outcome.SUPERSEDED)] * (intervals - 2)


def test_the_nearest_deadline_is_the_stricter_of_institution_and_law() -> None:
    """X2: five working days by law, seven days in Beijing."""
    case = received().up_to(Stage.QUALIFIED).case
    dues = {clock.step: clock.due_at for clock in case.clocks.running}
    assert dues[Step.FEEDBACK] == MIDNIGHT + timedelta(days=8)
    assert dues[Step.CLOSE] == MIDNIGHT + timedelta(days=8)
    assert case.next_due == min(at for at in dues.values() if at is not None)


@rule("CC-18")
def test_attitude_and_quality_are_in_every_list_of_categories() -> None:
    assert {"service_attitude", "service_quality"} <= set(Category)
    event = received(category="service_attitude").events[0]
    assert isinstance(event, ComplaintReceived)
    assert event.category == Category.SERVICE_ATTITUDE
    assert event.severity == Severity.ORDINARY


@rule("CC-39")
def test_responsibility_is_attributed_apart_from_the_plan() -> None:
    told = received().up_to(Stage.PLAN_PROPOSED)
    kinds = [type(event).__name__ for event in told.events]
    assert {"ResponsibilityAttributed", "PlanProposed"} <= set(kinds)
    with refused("complaint.no_attribution_now"):
        received().case.attribute_responsibility(stamp(LI, 2), responsible=(DOCTOR,), reason="未回访")
    for stage in (Stage.INVESTIGATING, Stage.INTERNALLY_HANDLED):
        with refused("complaint.no_attribution_now"):
            received().up_to(stage).case.attribute_responsibility(stamp(LI, 30), responsible=(), reason="无人有责")
    closed = received().up_to(Stage.CLOSED).case
    assert closed.attribute_responsibility(stamp(LI, 30), responsible=(), reason="无人有责") is not None
    attributed = told.case.attribute_responsibility(stamp(LI, 9), responsible=(), reason="无人有责")
    assert isinstance(attributed, ResponsibilityAttributed)


@rule("CC-48")
def test_nobody_complained_about_owns_the_case() -> None:
    with refused("complaint.accused_owner", "owner"):
        received(by=DOCTOR)
    assert received(by=DOCTOR, owner=ZHAO).case.owner == ZHAO
    with refused("complaint.accused_owner", "handler"):
        received().then(accept(handler=DOCTOR))
    with refused("complaint.accused_owner", "handler"):
        received().then(accept(accused=(LI,)))


def statement(at: int, content: str) -> Decision:
    return lambda case: case.gather_evidence(stamp(ZHAO, at), source="皮肤科", content=content)


@rule("CC-49")
def test_every_statement_is_kept_and_none_twice() -> None:
    told = received().then(accept())
    for hour, content in enumerate(["护士陈述", "医生陈述", "病历"], start=2):
        told.then(statement(hour, content))
    kept = [event.content for event in told.events if isinstance(event, EvidenceGathered)]
    assert kept == ["护士陈述", "医生陈述", "病历"]
    assert told.case.gather_evidence(stamp(ZHAO, 4), source="皮肤科", content="病历") is None
    assert told.case.gather_evidence(stamp(ZHAO, 5), source="皮肤科", content="病历") is not None, "said once more"
    talks = received().up_to(Stage.AGREED).events
    assert sum(event.topic == "complaint.negotiation_recorded" for event in talks) == 1
    talking = received().up_to(Stage.NEGOTIATING)
    for hour in (10, 11):
        talking.then(lambda case, hour=hour: case.record_negotiation(stamp(LI, hour), POLICY, content="再考虑"))
    assert talking.case.record_negotiation(stamp(LI, 11), POLICY, content="再考虑") is None


def test_facts_are_not_older_than_the_complaint_nor_than_the_step_they_end() -> None:
    told = received()
    with refused("time.before_case", "at"):
        told.then(accept(at=-1))
    with refused("time.before_case", "received_at"):
        received(received_at=hours(5))
    with refused("time.too_early", "received_at"):
        received(received_at=datetime(1, 1, 1, tzinfo=UTC))
    with refused("time.before_step", "at"):
        told.then(accept(at=0.25))  # the first record was made at half past
    with refused("time.no_zone", "received_at"):
        received(received_at=MONDAY.replace(tzinfo=None))


def test_the_same_record_again_is_answered_once_another_is_refused() -> None:
    case = received().case
    words: dict[str, Any] = {"id": CASE, "received_at": MONDAY, "channel": "telephone", "complainant_id": PATIENT}
    more: dict[str, Any] = {
        "complainant": "孙女士",
        "statement": "术后肿胀，无人解释",
        "phone": "13800000000",
        "accused": (DOCTOR,),
    }
    same: dict[str, Any] = {**words, **more, "departments": ("皮肤科",), "category": "medical"}
    assert receive(case, stamp(ZHAO, 3), POLICY, **same) is None
    with refused("complaint.exists"):
        receive(case, stamp(ZHAO, 3), POLICY, **but(same, phone="139"))


def test_what_tells_of_the_patient_is_the_patients_data() -> None:
    assert personal_fields(ComplaintReceived).keys() == {"complainant", "phone", "statement"}
    assert personal_fields(ComplaintQualified).keys() == {"demand", "reason"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"statement": "a\x00b"}, "text.nul"),
        ({"statement": "长" * 20_001}, "text.too_long"),
        ({"statement": "\ud800"}, "text.surrogate"),
        ({"severity": "terrible"}, "complaint.word"),
        ({"departments": ("",)}, "text.empty"),
    ],
)
def test_bad_text_is_refused_naming_the_field(said: dict[str, Any], code: str) -> None:
    with refused(code, next(iter(said))):
        received(**said)
