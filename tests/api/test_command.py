"""Commands over GraphQL: done once, upon the version meant, and refused clearly, leaving nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.complaint import COMPLAINT
from domain.kernel import Role
from domain.policy import DEFAULT_VALUES, POLICIES, policy_id, publish
from tests.api.conftest import Desk, Office, intake, stamp
from tests.rules import rule


def received(office: Office, **more: Any) -> str:
    return office[Role.CS_AGENT].done("complaintReceive", **intake(**more))["complaintId"]


def accepted(office: Office, **more: Any) -> dict[str, Any]:
    return office[Role.CS_DIRECTOR].done(
        "complaintAccept", **{"id": received(office), "cause": "因", "course": "过", "demand": "求", **more}
    )


# done once


def test_a_command_sent_again_gets_its_first_answer(office: Office) -> None:
    """test-list 4"""
    agent, command, said = office[Role.CS_AGENT], uuid4(), intake()
    first = agent.done("complaintReceive", command_id=command, **said)
    again = agent.done("complaintReceive", command_id=command, **said)
    assert again == {**first, "repeated": True}
    assert not first["repeated"]
    assert office.casebook.head() == int(first["position"])


def test_a_command_sent_again_about_something_of_another_kind_is_refused(office: Office) -> None:
    """test-list 4"""
    admin, command = office[Role.ADMIN], uuid4()
    said = {"name": "王", "number": "N-1", "roles": ["GUIDE"], "department": "门诊"}
    admin.done("staffEnrol", command_id=command, **said)
    again = admin.refused("staffEnrol", command_id=command, id=received(office), **said)
    assert (again["code"], again["field"]) == ("command.reused", "commandId")


def test_an_acceptance_sent_again_uses_no_second_number(office: Office) -> None:
    """test-list 4"""
    director, command, case = office[Role.CS_DIRECTOR], uuid4(), received(office)
    said = {"id": case, "cause": "因", "course": "过", "demand": "求", "command_id": command}
    assert director.done("complaintAccept", **said)["topics"] == ["complaint.accepted", "series.number_issued"]
    head = office.casebook.head()
    assert director.done("complaintAccept", **said)["repeated"]
    assert office.casebook.head() == head


def test_a_command_id_is_good_for_one_command_only(office: Office) -> None:
    agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
    case = accepted(office)["complaintId"]
    command = uuid4()
    agent.done("complaintGatherEvidence", id=case, source="监控", content="甲", command_id=command)
    head = office.casebook.head()
    others: list[tuple[Desk, str, dict[str, Any]]] = [
        (agent, "complaintGatherEvidence", {"id": case, "source": "监控", "content": "乙"}),
        (agent, "complaintMakeFirstContact", {"id": case, "account": "甲"}),
        (agent, "complaintMakeFirstContact", {"id": received(office), "account": "甲"}),
        (director, "complaintGatherEvidence", {"id": case, "source": "监控", "content": "甲"}),
        (
            agent,
            "complaintGatherEvidence",
            {"id": case, "source": "监控", "content": "甲", "occurredAt": datetime.now(UTC) - timedelta(minutes=1)},
        ),
    ]
    head = office.casebook.head()
    for desk, name, arguments in others:
        refused = desk.refused(name, command_id=command, **arguments)
        assert (refused["code"], refused["field"]) == ("command.reused", "commandId"), name
    assert agent.done("complaintGatherEvidence", id=case, source=" 监控 ", content="甲", command_id=command)["repeated"]
    assert office.casebook.head() == head


def test_a_policy_published_meanwhile_does_not_make_a_repeated_command_another(office: Office) -> None:
    command, said = uuid4(), intake()
    agent = office[Role.CS_AGENT]
    at = datetime.now(UTC)
    agent.done("complaintReceive", command_id=command, occurredAt=at, **said)
    publication = stamp(at - timedelta(hours=1))
    values = [
        v if v.key != "complaint.step.form" else type(v)(key=v.key, unit=v.unit, amount=9) for v in DEFAULT_VALUES
    ]
    office.casebook.act(
        POLICIES,
        policy_id(office.code),
        lambda known: publish(
            known,
            publication,
            institution=office.code,
            values=values,
            effective_from=publication.at,
            approved_by=agent.id,
        ),
        command_id=publication.command_id,
    )
    assert agent.done("complaintReceive", command_id=command, occurredAt=at, **said)["repeated"]


@rule("OP-31")
def test_the_policy_in_force_when_it_happened_is_applied_and_named(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    now = datetime.now(UTC)
    publication = stamp(now - timedelta(days=2))
    values = [
        v if v.key != "complaint.step.form" else type(v)(key=v.key, unit=v.unit, amount=9) for v in DEFAULT_VALUES
    ]
    office.casebook.act(
        POLICIES,
        policy_id(office.code),
        lambda known: publish(
            known,
            publication,
            institution=office.code,
            values=values,
            effective_from=now - timedelta(days=1),
            approved_by=agent.id,
        ),
        command_id=publication.command_id,
    )
    clocks = "query ($id: UUID!) { complaintAsOf(id: $id, asOf: {version: 1}) { clockDueAt clocks { edges { node {"
    clocks += " step policyVersion dueAt countedFrom } } } } }"
    for at, version, hours in ((now - timedelta(hours=36), "0", 4), (now - timedelta(hours=1), "1", 9)):
        case = agent.done("complaintReceive", occurredAt=at, **intake(receivedAt=at - timedelta(hours=1)))[
            "complaintId"
        ]
        shown = agent.ask(clocks, id=case)["complaintAsOf"]
        form = next(c["node"] for c in shown["clocks"]["edges"] if c["node"]["step"] == "FORM")
        assert form["policyVersion"] == version
        due, since = datetime.fromisoformat(form["dueAt"]), datetime.fromisoformat(form["countedFrom"])
        assert due - since == timedelta(hours=hours)


def test_a_decision_asked_twice_is_answered_once(office: Office) -> None:
    case = received(office)
    director = office[Role.CS_DIRECTOR]
    said = {"id": case, "cause": "因", "course": "过", "demand": "求"}
    first = director.done("complaintAccept", **said)
    again = director.done("complaintAccept", **said)
    assert (again["topics"], again["repeated"], again["version"]) == ([], True, first["version"])


def test_racing_commands_are_each_done_and_numbered_without_a_gap(office: Office) -> None:
    """test-list 1, 2"""
    cases = [received(office) for _ in range(6)]
    director = office[Role.CS_DIRECTOR]
    with ThreadPoolExecutor(6) as racers:
        racing = [
            racers.submit(director.done, "complaintAccept", id=c, cause="因", course="过", demand="求") for c in cases
        ]
        assert all(not r.result()["repeated"] for r in racing)
    office.follow()
    shown = director.ask("{ complaints(orderBy: NUMBER, descending: false) { edges { node { number } } } }")
    numbers = [edge["node"]["number"] for edge in shown["complaints"]["edges"]]
    assert [n[-2:] for n in numbers] == [f"{n:02d}" for n in range(1, 7)]


# the version meant


def test_a_decision_upon_an_older_version_is_refused(office: Office) -> None:
    agent, case = office[Role.CS_AGENT], accepted(office)
    said = {"id": case["complaintId"], "source": "监控"}
    newer = agent.done("complaintGatherEvidence", expectedVersion=case["version"], content="甲", **said)
    stale = agent.refused("complaintGatherEvidence", expectedVersion=case["version"], content="乙", **said)
    assert (stale["code"], stale["field"]) == ("stream.stale", "expectedVersion")
    assert f"version {newer['version']}" in stale["sentence"]
    future = agent.refused("complaintGatherEvidence", expectedVersion=99, content="乙", **said)
    assert future["code"] == "stream.stale"
    assert office.casebook.head() == int(newer["position"])


# bad input


def test_bad_input_is_refused_by_name_and_leaves_nothing_behind(office: Office) -> None:
    agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
    case = received(office)
    head = office.casebook.head()
    now = datetime.now(UTC)
    expected: list[tuple[str, str | None, dict[str, Any]]] = [
        ("text.nul", "statement", intake(statement="坏\x00字")),
        ("text.nul", "phone", intake(phone="1\x002")),
        ("text.empty", "complainant", intake(complainant="  ")),
        ("text.too_long", "statement", intake(statement="长" * 20_001)),
        ("time.in_future", "occurredAt", intake(occurredAt=now + timedelta(minutes=6))),
        ("time.before_case", "receivedAt", intake(receivedAt=now + timedelta(hours=1))),
        ("complaint.accused_owner", "owner", intake(accused=[agent.id])),
        ("staff.unknown", "owner", intake(owner=uuid4())),
        ("complaint.exists", "id", intake(id=case)),
    ]
    for code, field, arguments in expected:
        refused = agent.refused("complaintReceive", **arguments)
        assert (refused["code"], refused["field"]) == (code, field)
    unknown = agent.refused("complaintMakeFirstContact", id=uuid4(), account="甲")
    assert (unknown["code"], unknown["field"]) == ("complaint.unknown", "id")
    order = director.refused("complaintCompleteInvestigation", id=case, findings="无")
    assert order["code"] == "complaint.not_investigating"
    before = agent.refused("complaintFollowUp", id=case, content="问", occurredAt=now - timedelta(days=9))
    assert before["code"] == "complaint.not_closed"
    assert office.casebook.head() == head
    with office.casebook.house.everywhere.connection() as connection:
        row = connection.execute("SELECT count(*) FROM subject_key WHERE institution = %s", (office.code,)).fetchone()
    assert row is not None
    assert row[0] == 3, "of the agent, the director and one complainant; none for what was refused"


def test_an_id_of_something_else_is_refused(office: Office) -> None:
    agent, hr = office[Role.CS_AGENT], office[Role.HR]
    case = received(office)
    head = office.casebook.head()
    assert agent.refused("complaintMakeFirstContact", id=agent.id, account="甲")["code"] == "complaint.unknown"
    assert agent.refused("complaintReceive", id=agent.id, **intake())["code"] == "stream.taken"
    owner = agent.refused("complaintReceive", **intake(owner=case))
    assert (owner["code"], owner["field"]) == ("staff.unknown", "owner")
    assert hr.refused("staffLeave", id=case)["code"] == "staff.unknown"
    assert office.casebook.head() == head


def test_who_has_left_can_be_complained_of_and_own_nothing(office: Office) -> None:
    agent, gone = office[Role.CS_AGENT], office.enrolled(Role.CONSULTANT)
    office[Role.HR].done("staffLeave", id=gone)
    refused = agent.refused("complaintReceive", **intake(owner=gone))
    assert (refused["code"], refused["field"]) == ("staff.left", "owner")
    agent.done("complaintReceive", **intake(accused=[gone]))


def test_whoever_is_named_must_work_here(office: Office) -> None:
    case, nobody = received(office), uuid4()
    director = office[Role.CS_DIRECTOR]
    named: list[tuple[str, str, dict[str, Any]]] = [
        ("complaintAccept", "handler", {"cause": "因", "course": "过", "demand": "求"}),
        ("complaintProposePlan", "submittedTo", {"remedies": ["APOLOGY"], "content": "道歉"}),
        ("complaintEscalate", "to", {"level": "CS_CHIEF", "reason": "急"}),
    ]
    for name, field, said in named:
        refused = director.refused(name, id=case, **{field: nobody}, **said)
        assert (refused["code"], refused["field"]) == ("staff.unknown", field)


@rule("CC-08")
def test_the_number_is_of_the_month_at_the_institution(office: Office) -> None:
    """Half past midnight of the first of February there is still January in UTC."""
    at = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
    case = received(office, receivedAt=at - timedelta(hours=2), occurredAt=at - timedelta(hours=1))
    said = {"id": case, "cause": "因", "course": "过", "demand": "求", "occurredAt": at}
    office[Role.CS_DIRECTOR].done("complaintAccept", **said)
    kept = office.casebook.read(COMPLAINT, UUID(case))
    assert kept is not None
    assert kept.number == f"{office.code}20260201"


def test_a_clock_a_little_ahead_is_accepted(office: Office) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=4)
    office[Role.CS_AGENT].done("complaintReceive", **intake(occurredAt=ahead))


BAD: list[tuple[str, str, Any, str]] = [
    ("complaintReceive", "receivedAt", "gestern", "no time"),
    ("complaintReceive", "receivedAt", "2026-01-07", "no offset"),
    ("complaintReceive", "receivedAt", "2026-01-07T09:30:00", "no offset"),
    ("complaintReceive", "receivedAt", "2026-13-40T09:30:00+08:00", "no time"),
    ("complaintReceive", "receivedAt", 20260107, "Write the time as text"),
    ("complaintReceive", "receivedAt", "0001-01-01T00:00:00+14:00", "out of range"),
    ("complaintReceive", "channel", "PIGEON", "Channel"),
    ("complaintReceive", "id", "42", "is no UUID"),
    ("complaintReceive", "id", 42, "is no UUID"),
    ("complaintReceive", "id", UUID(int=0), "names nothing"),
    ("complaintReceive", "commandId", UUID(int=0), "names nothing"),
    ("complaintReceive", "complainant", None, "non-null type"),
    ("complaintReceive", "accused", ["x"], "is no UUID"),
    ("complaintAgree", "amount", "12.345", "two places"),
    ("complaintAgree", "amount", "-1", "less than zero"),
    ("complaintAgree", "amount", 1.5, "as text"),
    ("complaintAgree", "amount", "viel", "in yuan"),
    ("complaintMakeFirstContact", "expectedVersion", "1.5", "whole number"),
    ("complaintMakeFirstContact", "expectedVersion", 2**63, "whole number"),
    ("complaintMakeFirstContact", "expectedVersion", True, "whole number"),
]


@pytest.mark.parametrize(("mutation", "argument", "value", "says"), BAD)
def test_a_value_that_is_none_is_an_error_that_names_the_argument(
    office: Office, mutation: str, argument: str, value: Any, says: str
) -> None:
    needed: dict[str, dict[str, Any]] = {
        "complaintReceive": intake(),
        "complaintAgree": {"id": uuid4(), "terms": "某"},
        "complaintMakeFirstContact": {"id": uuid4(), "account": "某"},
    }
    arguments = {**needed[mutation], argument: value}
    desk = office[Role.CS_AGENT]
    head = office.casebook.head()
    said = desk.sent(mutation, arguments)["errors"][0]["message"]
    assert f"${argument}" in said
    assert says in said
    assert office.casebook.head() == head


@pytest.mark.parametrize(
    "argument",
    ['id: "42"', 'receivedAt: "gestern"', f'commandId: "{UUID(int=0)}"', "expectedVersion: 1.5", "amount: 1.5"],
)
def test_a_value_that_is_none_is_pointed_at_in_the_document(office: Office, argument: str) -> None:
    mutation = "complaintReceive" if argument.startswith("received") else "complaintAgree"
    said = office[Role.CS_AGENT].post(f"mutation {{\n  {mutation}(\n    {argument}) {{ __typename }} }}")["errors"]
    column = len(f"    {argument.split(':')[0]}: ") + 1
    assert {"line": 3, "column": column} in [place for one in said for place in one.get("locations", [])]


def test_a_field_that_does_not_exist_is_named(office: Office) -> None:
    wrong = f'commandId: "{uuid4()}", id: "{uuid4()}", acount: "x"'
    said = office[Role.CS_AGENT].post(f"mutation {{ complaintMakeFirstContact({wrong}) {{ __typename }} }}")
    messages = " ".join(error["message"] for error in said["errors"])
    assert "acount" in messages
    assert "account" in messages, "and what it may have meant"


def test_a_case_begun_without_an_id_has_the_commands(office: Office) -> None:
    command = uuid4()
    said = office[Role.CS_AGENT].done("complaintReceive", command_id=command, **intake())
    assert UUID(said["complaintId"]) == command


def test_the_answer_shows_the_case_as_the_decision_left_it(office: Office) -> None:
    """test-list 31: without waiting for any view."""
    said = office[Role.CS_AGENT].ask(
        "mutation ($c: UUID!, $at: DateTime!) { complaintReceive(commandId: $c, receivedAt: $at, channel: LETTER,"
        ' complainant: "李先生", statement: "费用不清") { ... on ComplaintDecided {'
        " version complaint { stage complainant version clocks { totalCount } history { edges { cursor } } } } } }",
        c=uuid4(),
        at=intake()["receivedAt"],
    )["complaintReceive"]
    assert said["complaint"]["complainant"] == "李先生"
    assert said["complaint"]["version"] == said["version"] == "1"
    assert int(said["complaint"]["clocks"]["totalCount"]) > 3
