"""One complaint over GraphQL, from the first word heard to the last follow-up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from domain.kernel import Role
from tests.api.conftest import Office, intake
from tests.rules import rule

CASE = """
query ($id: UUID!, $position: BigInt) {
  complaint(id: $id, consistentWith: $position) {
    number stage owner complainant planAmount remedies: planRemedies closedAt satisfaction overdue version position
    clocks(first: 100) { totalCount edges { node { step kind outcome stoppedAt } } }
    history(first: 100) { totalCount edges { node { topic version actor changes { field values personal } } } }
  }
}
"""


@rule("CC-01", "CC-07", "CC-09", "CC-28", "CC-29", "CC-53")
def test_a_complaint_is_walked_from_intake_to_follow_up(office: Office) -> None:
    agent, director, chief = office[Role.CS_AGENT], office[Role.CS_DIRECTOR], office[Role.CS_CHIEF]
    cashier, medical = office[Role.CASHIER], office[Role.MEDICAL_DIRECTOR]
    case = uuid4()
    agent.done("complaintReceive", id=case, **intake(departments=["外科"], category="FEES"))
    assert agent.refused("complaintApprovePlan", id=case)["code"] == "access.role"
    accepted = director.done("complaintAccept", id=case, cause="等候", course="两小时", demand="退费")
    assert accepted["topics"] == ["complaint.accepted", "series.number_issued"]
    agent.done("complaintMakeFirstContact", id=case, account="患者称等候两小时")
    agent.done("complaintGatherEvidence", id=case, source="监控", content="确认等候两小时")
    director.done("complaintCompleteInvestigation", id=case, findings="属实")
    qualified = {"reason": "排班不当", "complexity": "SIMPLE", "category": "SERVICE_QUALITY", "severity": "ORDINARY"}
    director.done("complaintQualify", id=case, isDispute=False, **qualified)
    director.done("complaintAttributeResponsibility", id=case, responsible=[agent.id], reason="当班")
    plan = {"submittedTo": chief.id, "remedies": ["APOLOGY", "REFUND"], "content": "道歉并退费", "settlement": "REFUND"}
    director.done("complaintProposePlan", id=case, amount="300.50", **plan)
    assert chief.refused("complaintAgree", id=case, terms="先谈")["code"] == "complaint.not_negotiating"
    chief.done("complaintApprovePlan", id=case)
    agent.done("complaintRecordNegotiation", id=case, content="患者接受")
    agent.done("complaintAgree", id=case, terms="退费三百元五角", settlement="REFUND", amount="300.50")
    assert cashier.refused("complaintCompleteFormalities", id=case, payment="CASH")["code"] == "complaint.not_signed"
    agent.done("complaintSignDocuments", id=case, documents=["退费协议"])
    cashier.done("complaintCompleteFormalities", id=case, payment="CASH")
    assert director.refused("complaintClose", id=case, summary="结案")["code"] == "complaint.no_feedback"
    agent.done("complaintGiveFeedback", id=case, content="已告知")
    director.done("complaintClose", id=case, summary="已退费并道歉")
    chief.done("complaintProposeInternalHandling", id=case, persons=[agent.id], proposal="提醒谈话")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    director.done("complaintProposeImprovement", id=case, measure="调整排班", responsible=agent.id, executeBy=tomorrow)
    agent.done("complaintExecuteImprovement", id=case, account="已调整")
    medical.done("complaintConfirmImprovement", id=case, effective=True, finding="等候缩短")
    last = agent.done("complaintFollowUp", id=case, content="满意", satisfaction=9)

    office.follow()
    shown = director.ask(CASE, id=case, position=last["position"])["complaint"]
    month = datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")).strftime("%Y%m")
    assert shown["number"] == f"{office.code}{month}01"
    assert shown["stage"] == "FINISHED"
    assert shown["complainant"] == "王女士"
    assert shown["planAmount"] == "300.50"
    assert shown["remedies"] == ["APOLOGY", "REFUND"]
    assert shown["satisfaction"] == "9"
    assert shown["overdue"] == "0"
    assert shown["version"] == last["version"]
    assert shown["history"]["totalCount"] == last["version"]
    topics = [line["node"]["topic"] for line in shown["history"]["edges"]]
    assert topics[0] == "complaint.received"
    assert topics[-1] == "complaint.follow_up_made"
    assert all(clock["node"]["outcome"] for clock in shown["clocks"]["edges"]), "no clock runs in a finished case"
