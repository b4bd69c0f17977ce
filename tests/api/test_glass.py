"""Break-glass over GraphQL: one case, one person, for a while; every look logged under it; the auditor sees all."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.access.mask import MASKS, sees
from api.access.roles import CASE_READERS
from api.access.token import issue_token
from api.app import create_app
from domain.complaint_state import DESK
from domain.glass import LOOKERS
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, running
from tests.api.reads import ONE, Alone, Log, alone, received, refused, sent
from tests.conftest import Database

REASON = "患者在门诊情绪激动，须立即核对其诉求"
BREAK = (
    "mutation ($c: UUID!, $case: UUID!, $reason: String!, $minutes: Int!) {"
    " glassBreak(commandId: $c, caseId: $case, reason: $reason, minutes: $minutes) {"
    " ... on GlassOpened { glassId caseId until position repeated } ... on Refusal { code field sentenceZh } } }"
)
MEND = (
    "mutation ($c: UUID!, $glass: UUID!) { glassMend(commandId: $c, glassId: $glass) {"
    " ... on Decided { topics } ... on Refusal { code field } } }"
)
LISTED = "{ complaints { edges { node { complaintId complainant phone statement } } } }"
GLASSES = (
    "query ($staff: UUID, $case: UUID, $position: BigInt) { brokenGlasses(staff: $staff, case: $case,"
    " consistentWith: $position) { totalCount edges { node { staffId glassId caseId reason until mendedAt open"
    " reads { totalCount edges { node { reader fields glass purpose view documentSha256 } } } } } } }"
)
MASKED = {"complainant": "王**", "phone": "138****8000", "statement": "***"}
OPEN = {"complainant": "王女士", "phone": "13800138000", "statement": "等候时间过长，且无人解释。"}


class Clock:
    """The time of the edge, set by the test."""

    now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **more: float) -> None:
        self.now += timedelta(**more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ward(house: House, office: Office, clock: Clock) -> Generator[Office]:
    """The office by an edge whose time the test sets."""
    with running(create_app(SETTINGS, house, clock=clock)) as edge:
        yield office.by(edge)


@pytest.fixture
def log(office: Office, database_owner: str) -> Log:
    return Log(database_owner, office.code)


@pytest.fixture
def database_owner(shared_database: Database) -> str:
    return shared_database.owner


def broken(desk: Desk, case: UUID, minutes: int = 30, *, reason: str = REASON, c: UUID | None = None) -> dict[str, Any]:
    return desk.ask(BREAK, c=c or uuid4(), case=case, reason=reason, minutes=minutes)["glassBreak"]


def shown(desk: Desk, case: UUID) -> dict[str, Any]:
    said = desk.ask(ONE, id=case)["complaint"]
    return {name: said[name] for name in MASKED}


def test_who_may_break_a_glass_is_who_reads_cases_and_sees_masks() -> None:
    """The domain's list and the table of masks say the same."""
    masked = {
        role
        for role in CASE_READERS
        if any(not sees(frozenset({role}), view, column) for view, masks in MASKS.items() for column in masks)
    }
    assert masked == set(LOOKERS)
    assert masked & set(DESK) == set()


@pytest.mark.parametrize("role", sorted(Role))
def test_a_glass_shows_one_case_unmasked_while_it_is_open(ward: Office, clock: Clock, log: Log, role: Role) -> None:
    case, _ = received(ward)
    desk = ward[role]
    said = broken(desk, case, 30)
    if role not in LOOKERS:
        assert said["code"] == ("glass.needless" if role in DESK else "access.role")
        return
    assert datetime.fromisoformat(said["until"]) == clock.now + timedelta(minutes=30)
    clock.passes(minutes=29)
    assert shown(desk, case) == OPEN
    clock.passes(minutes=1)
    assert shown(desk, case) != OPEN, "it is over by itself"
    through = {(str(entry["glass"]), tuple(entry["fields"])) for entry in log.entries() if entry["glass"] is not None}
    seen_anyway = [column for column in MASKED if sees(frozenset({role}), "complaint_case", column)]
    assert through == {(said["glassId"], tuple(sorted(set(MASKED) - set(seen_anyway))))}


def test_a_glass_is_of_one_case_and_of_one_person(ward: Office, log: Log) -> None:
    case, subject = received(ward)
    other, _ = received(ward)
    auditor = ward[Role.AUDITOR]
    colleague = ward[Role.ACCOUNTANT]
    assert broken(auditor, case)["caseId"] == str(case)
    found = {edge["node"]["complaintId"]: edge["node"] for edge in auditor.ask(LISTED)["complaints"]["edges"]}
    assert {name: found[str(case)][name] for name in MASKED} == OPEN
    assert {name: found[str(other)][name] for name in MASKED} == MASKED
    assert shown(colleague, case) == MASKED
    assert {str(s) for entry in log.entries() for s in entry["subjects"]} == {subject}


def test_every_road_sees_through_a_glass(ward: Office, log: Log) -> None:
    case, _ = received(ward)
    auditor = ward[Role.AUDITOR]
    as_it_was = 'query ($id: UUID!) { complaintAsOf(id: $id, asOf: {version: "1"}) { phone } }'
    who_set_it = "query ($id: UUID!) { complaintBlame(id: $id) { field value } }"
    assert auditor.ask(as_it_was, id=case)["complaintAsOf"]["phone"] == MASKED["phone"]
    broken(auditor, case)
    assert auditor.ask(as_it_was, id=case)["complaintAsOf"]["phone"] == OPEN["phone"]
    blamed = {one["field"]: one["value"] for one in auditor.ask(who_set_it, id=case)["complaintBlame"]}
    assert (blamed["phone"], blamed["statement"]) == (OPEN["phone"], OPEN["statement"])
    assert all(entry["glass"] is not None for entry in log.entries())


def test_a_mended_glass_shows_nothing_more(ward: Office) -> None:
    case, _ = received(ward)
    auditor = ward[Role.AUDITOR]
    glass = broken(auditor, case)["glassId"]
    assert shown(auditor, case) == OPEN
    assert auditor.ask(MEND, c=uuid4(), glass=glass)["glassMend"]["topics"] == ["staff.glass_mended"]
    assert shown(auditor, case) == MASKED
    assert auditor.ask(MEND, c=uuid4(), glass=glass)["glassMend"]["topics"] == []
    assert auditor.ask(MEND, c=uuid4(), glass=uuid4())["glassMend"]["code"] == "glass.unknown"
    assert ward[Role.ACCOUNTANT].ask(MEND, c=uuid4(), glass=glass)["glassMend"]["code"] == "glass.unknown", "one's own"


def test_a_command_sent_twice_breaks_one_glass(ward: Office) -> None:
    case, _ = received(ward)
    auditor, command = ward[Role.AUDITOR], uuid4()
    first = broken(auditor, case, c=command)
    again = broken(auditor, case, c=command)
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert {**first, "repeated": True} == again
    assert first["glassId"] == str(command)
    assert broken(auditor, case)["code"] == "glass.broken"
    assert broken(auditor, case, 31, c=command)["code"] == "command.reused"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"reason": "急"}, "glass.reason", "reason"),
        ({"reason": ""}, "text.empty", "reason"),
        ({"minutes": 0}, "glass.minutes", "minutes"),
        ({"minutes": 61}, "glass.minutes", "minutes"),
        ({"minutes": -(2**31)}, "glass.minutes", "minutes"),
        ({"case": uuid4()}, "complaint.unknown", "caseId"),
    ],
)
def test_what_is_not_allowed_is_refused(ward: Office, change: dict[str, Any], code: str, field: str) -> None:
    case, _ = received(ward)
    said = {"case": case, "reason": REASON, "minutes": 5, **change}
    refusal = ward[Role.AUDITOR].ask(BREAK, c=uuid4(), **said)["glassBreak"]
    assert (refusal["code"], refusal["field"]) == (code, field)
    assert refusal["sentenceZh"]
    assert shown(ward[Role.AUDITOR], case) == MASKED


def test_neither_staff_nor_another_institution_s_case_is_a_case(ward: Office, elsewhere: Office) -> None:
    theirs, _ = received(elsewhere)
    for id in (theirs, ward[Role.CS_AGENT].id, ward[Role.AUDITOR].id):
        assert broken(ward[Role.AUDITOR], id)["code"] == "complaint.unknown"


def test_whom_a_case_accuses_sees_nothing_by_breaking_a_glass(ward: Office) -> None:
    """Not before, and not through a glass they broke before they were accused."""
    doctor = ward[Role.CONSULTANT]
    accusing, _ = received(ward, accused=[doctor.id])
    assert broken(doctor, accusing)["code"] == "glass.accused"
    case, _ = received(ward)
    assert broken(doctor, case)["caseId"] == str(case)
    assert shown(doctor, case) == OPEN
    words = {"cause": "因", "course": "过", "demand": "退费"}
    ward[Role.CS_DIRECTOR].done("complaintAccept", id=case, accused=[doctor.id], **words)
    ward.follow()
    assert shown(doctor, case) == MASKED


def test_what_a_glass_shows_is_kept_for_nobody(ward: Office) -> None:
    """Neither an answer kept before it was broken, nor one made through it for those of the same posts."""
    case, _ = received(ward)
    auditor = ward[Role.AUDITOR]
    id = ward.enrolled(Role.AUDITOR)
    token = issue_token(ward.casebook.house, ward.code, id, "another", timedelta(days=1))
    colleague = Desk(ward.edge, token, id)
    number = "query ($id: UUID!) { complaint(id: $id) { stage phone } }"
    assert auditor.ask(number, id=case)["complaint"]["phone"] == MASKED["phone"]
    broken(auditor, case)
    for _ in range(2):
        assert auditor.ask(number, id=case)["complaint"]["phone"] == OPEN["phone"]
        assert colleague.ask(number, id=case)["complaint"]["phone"] == MASKED["phone"]


def test_the_auditor_sees_who_broke_which_glass_why_and_what_was_read(ward: Office) -> None:
    case, _ = received(ward)
    accountant, auditor = ward[Role.ACCOUNTANT], ward[Role.AUDITOR]
    said = broken(accountant, case)
    shown(accountant, case)
    ward.follow()
    for narrowed in ({}, {"staff": accountant.id}, {"case": case}):
        page = auditor.ask(GLASSES, position=said["position"], **narrowed)["brokenGlasses"]
        (edge,) = page["edges"]
        glass = edge["node"]
        assert page["totalCount"] == "1"
        assert (glass["staffId"], glass["glassId"]) == (str(accountant.id), said["glassId"])
        assert (glass["caseId"], glass["reason"], glass["open"]) == (str(case), REASON, True)
        (read,) = [one["node"] for one in glass["reads"]["edges"]]
        assert read["fields"] == ["complainant", "phone", "statement"]
        assert read["purpose"] == "紧急查看 break-glass"
        assert (read["reader"], read["glass"]) == (str(accountant.id), said["glassId"])
    assert auditor.ask(GLASSES, staff=auditor.id)["brokenGlasses"]["edges"] == []
    accountant.ask(MEND, c=uuid4(), glass=said["glassId"])
    ward.follow()
    (edge,) = auditor.ask(GLASSES)["brokenGlasses"]["edges"]
    assert edge["node"]["mendedAt"] is not None
    assert edge["node"]["open"] is False


@pytest.mark.parametrize("question", ["brokenGlasses", "personalReads"])
@pytest.mark.parametrize("role", sorted(Role))
def test_the_log_is_for_auditor_and_administrator(office: Office, question: str, role: Role) -> None:
    query = f"{{ {question} {{ totalCount }} }}"
    if role in (Role.AUDITOR, Role.ADMIN):
        assert office[role].ask(query)[question]["totalCount"] == "0"
    else:
        assert office[role].error(query)["code"] == "access.role"


def test_a_look_through_a_glass_that_cannot_be_logged_is_not_answered(database: Database) -> None:
    with alone(database) as the:
        auditor = the.office[Role.AUDITOR]
        broken(auditor, the.case)
        repair = revoked(the)
        refused(sent(auditor, ONE, variables={"id": the.case}))
        repair()
        assert shown(auditor, the.case) == OPEN


def revoked(the: Alone) -> Any:
    the.owner("REVOKE INSERT ON read_log FROM anjuan_app")
    return lambda: the.owner("GRANT INSERT ON read_log TO anjuan_app")


def test_the_walk_of_a_glass_is_in_the_history_of_who_broke_it(office: Office) -> None:
    case, _ = received(office)
    auditor = office[Role.AUDITOR]
    glass = broken(auditor, case)["glassId"]
    auditor.ask(MEND, c=uuid4(), glass=glass)
    office.follow()
    lines = auditor.ask("query ($id: UUID) { history(stream: $id) { edges { node { topic } } } }", id=auditor.id)[
        "history"
    ]["edges"]
    assert [line["node"]["topic"] for line in lines][-2:] == ["staff.glass_broken", "staff.glass_mended"]
