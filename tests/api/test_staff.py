"""Staff and policies over GraphQL: enough to act, and to publish the rules that are applied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from domain.kernel import Role
from domain.policy import DEFAULT_VALUES
from tests.api.conftest import Office, intake
from tests.rules import rule

LI = {"name": "李四", "number": "007", "roles": ["CS_AGENT"], "department": "客服部"}


def test_staff_join_change_posts_and_leave(office: Office) -> None:
    hr, agent = office[Role.HR], office[Role.CS_AGENT]
    command, person = uuid4(), uuid4()
    first = hr.done("staffEnrol", command_id=command, id=person, **LI)
    assert (first["id"], first["topics"]) == (str(person), ["staff.enrolled"])
    assert hr.done("staffEnrol", command_id=command, id=person, **LI)["repeated"]
    assert hr.refused("staffEnrol", command_id=command, id=person, **{**LI, "name": "王五"})["code"] == "command.reused"
    assert hr.refused("staffEnrol", id=person, **{**LI, "name": "王五"})["code"] == "staff.enrolled"
    assert hr.refused("staffEnrol", **{**LI, "roles": []})["field"] == "roles"
    assert agent.refused("staffEnrol", **LI)["code"] == "access.role"
    received: dict[str, Any] = {"command_id": uuid4(), **intake(owner=person)}
    case = agent.done("complaintReceive", **received)["complaintId"]
    hr.done("staffAssignRoles", id=person, roles=["CS_DIRECTOR", "CS_AGENT"])
    stale = hr.refused("staffAssignRoles", id=person, roles=["DEAN"], expectedVersion=1)
    assert stale["code"] == "stream.stale"
    hr.done("staffLeave", id=person, reason="合同期满")
    assert hr.refused("staffAssignRoles", id=person, roles=["DEAN"])["code"] == "staff.left"
    assert hr.refused("staffLeave", id=uuid4())["code"] == "staff.unknown"
    gone = agent.refused("complaintOfferTransfer", id=case, to=person, department="客服部", reason="转")
    assert (gone["code"], gone["field"]) == ("staff.left", "to")
    assert agent.done("complaintReceive", **received)["repeated"], "what was done stays done"


def figures(**changed: Any) -> list[dict[str, Any]]:
    return [
        {
            "key": v.key,
            "unit": v.unit.upper(),
            "amount": changed.get(v.key.rpartition(".")[2], v.amount),
            "words": v.words,
            "rule": v.rule,
        }
        for v in DEFAULT_VALUES
    ]


@rule("OP-31")
def test_a_published_policy_is_in_force_from_its_date_and_beside_the_law(office: Office) -> None:
    dean, chief = office[Role.DEAN], office[Role.CS_CHIEF]
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1)
    said = {"values": figures(form=9, simple=30), "effectiveFrom": tomorrow, "approvedBy": chief.id}
    command = uuid4()
    first = dean.done("complaintPolicyPublish", command_id=command, **said)
    assert dean.done("complaintPolicyPublish", command_id=command, **said) == {**first, "repeated": True}
    query = (
        "query ($at: DateTime) { complaintPolicy(at: $at) { version values { key amount unit statutory assumed } } }"
    )
    for at, version, hours in ((None, "0", "4"), (tomorrow, "1", "9")):
        shown = dean.ask(query, at=at)["complaintPolicy"]
        values = {v["key"]: v for v in shown["values"]}
        assert shown["version"] == version
        assert (values["complaint.step.form"]["amount"], values["complaint.step.form"]["unit"]) == (hours, "HOUR")
        assert values["complaint.feedback.simple"]["statutory"] == "5 working_day (B2)"


def test_a_policy_is_complete_sound_and_not_ones_own(office: Office) -> None:
    dean, chief, agent = office[Role.DEAN], office[Role.CS_CHIEF], office[Role.CS_AGENT]
    soon = datetime.now(UTC) + timedelta(hours=1)
    said = {"values": figures(), "effectiveFrom": soon, "approvedBy": chief.id}
    head = office.casebook.head()
    assert dean.refused("complaintPolicyPublish", **{**said, "values": figures()[1:]})["code"] == "policy.incomplete"
    assert dean.refused("complaintPolicyPublish", **{**said, "values": figures(form=0)})["code"] == "policy.amount"
    assert dean.refused("complaintPolicyPublish", **{**said, "approvedBy": dean.id})["field"] == "approvedBy"
    assert dean.refused("complaintPolicyPublish", **{**said, "approvedBy": uuid4()})["code"] == "staff.unknown"
    past = datetime.now(UTC) - timedelta(days=1)
    assert dean.refused("complaintPolicyPublish", **{**said, "effectiveFrom": past})["code"] == "policy.backdated"
    assert agent.refused("complaintPolicyPublish", **said)["code"] == "access.role"
    assert office.casebook.head() == head
