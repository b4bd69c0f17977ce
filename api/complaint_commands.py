"""The decisions on a complaint case as mutations: one table, from which the GraphQL fields are made."""

import dataclasses
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry.tools import create_type

from api.access.roles import CASE_WORKERS
from api.command import Asked, Command, Work, mutation
from api.complaint import Complaint, case_as_of, unknown
from api.context import Info
from api.refusal import Refusal
from api.scalars import BigInt
from domain.complaint import COMPLAINT, ComplaintCase, receive
from domain.complaint_inquiry import ComplaintAccepted
from domain.complaint_state import APPROVERS, DESK, DIRECTORS
from domain.kernel import Event, Refused, Role, named
from domain.series import COMPLAINT_SERIES, SERIES, NumberSeries, complaint_number_in, month, numbered, series_id
from domain.store.casebook import Receipt


@strawberry.type(description="已记录 – what a decision did, or had done when it was sent before.")
class ComplaintDecided:
    """The receipt of a command."""

    complaint_id: UUID
    version: BigInt = strawberry.field(description="案卷版本 – the case's version now; send it as expectedVersion.")
    position: BigInt = strawberry.field(description="机构内位置 – send it as consistentWith to read your own write.")
    topics: list[str] = strawberry.field(description="The events, in order; none when it was so already.")
    repeated: bool = strawberry.field(description="True when nothing new was stored: known already.")

    @strawberry.field(description="投诉案件 – the case as this decision left it.")
    async def complaint(self, info: Info) -> Complaint:
        """Folded from the events, so it does not wait for the list."""
        info.context.may_ask("complaint")
        bounds = {"version": int(self.version)}
        # under the id the case has now, so that a client that holds the case has it anew; not if it was long ago
        return await case_as_of(info.context, self.complaint_id, bounds, latest=not self.repeated)


ComplaintAnswer = Annotated[
    ComplaintDecided | Refusal, strawberry.union("ComplaintAnswer", description="A receipt, or why not.")
]


def decided(id: UUID, receipt: Receipt) -> ComplaintDecided:
    """The receipt as GraphQL shows it."""
    return ComplaintDecided(
        complaint_id=id,
        version=BigInt(receipt.version),
        position=BigInt(receipt.position),
        topics=[event.topic for event in receipt.events],
        repeated=receipt.repeated or not receipt.events,
    )


def _receiving(command: Command, asked: Asked) -> Work:
    """The first record; a complainant nobody has named yet gets an id that follows from the case's."""
    known = asked.given.get("complainant_id") or named(asked.casebook.institution, "complainant", str(asked.id))

    named_so = dataclasses.replace(asked, given={**asked.given, "complainant_id": known})

    def decide(case: ComplaintCase | None) -> Event | None:
        return command.call(case, named_so)

    return Work(decide)


def _accepting(command: Command, asked: Asked) -> Work:
    """Acceptance with the next number of the month it happens in, in one append (CC-07, CC-08)."""
    place = asked.policy.place
    period = month(asked.stamp.at, place.time_zone)

    def decide(case: ComplaintCase, series: NumberSeries | None) -> tuple[Event, ...] | Event | None:
        def numbered_as(number: int) -> ComplaintAccepted | None:
            return command.call(case, asked, number=complaint_number_in(place.code, period, number))

        if case.number is not None:
            return command.call(case, asked, number=case.number)
        return numbered(
            series, asked.stamp, numbered_as, institution=place.code, series=COMPLAINT_SERIES, period=period
        )

    return Work(decide, also=((SERIES, series_id(place.code, COMPLAINT_SERIES, period)),))


def _case(name: str, term: str, decide: object, *roles: Role) -> Command:
    """A decision on a case that exists; anyone who works on cases may ask unless posts are named."""
    assert callable(decide)
    return Command(name, term, COMPLAINT, decide, frozenset(roles) or CASE_WORKERS, _unknown)


def _unknown(id: UUID) -> Refused:
    return unknown(id)


LEADERS = (*DIRECTORS, Role.CS_CHIEF)

COMMANDS: tuple[Command, ...] = (
    Command(
        "complaintReceive",
        "接诉登记",
        COMPLAINT,
        receive,
        CASE_WORKERS,
        _unknown,
        begins=True,
        prepare=_receiving,
        optional=frozenset({"complainant_id"}),
    ),
    Command(
        "complaintAccept",
        "受理",
        COMPLAINT,
        ComplaintCase.accept,
        frozenset({Role.CS_DIRECTOR, Role.CS_CHIEF}),
        _unknown,
        prepare=_accepting,
        supplied=frozenset({"number"}),
    ),
    _case("complaintMakeFirstContact", "首次联系", ComplaintCase.make_first_contact, *DESK),
    _case("complaintGatherEvidence", "调查取证", ComplaintCase.gather_evidence, *DESK),
    _case("complaintCompleteInvestigation", "完成调查", ComplaintCase.complete_investigation, *DIRECTORS),
    _case("complaintQualify", "分析定性", ComplaintCase.qualify, *DIRECTORS),
    _case("complaintAttributeResponsibility", "责任判定", ComplaintCase.attribute_responsibility, *LEADERS),
    _case("complaintInformRights", "告知权利", ComplaintCase.inform_rights, *DESK),
    _case("complaintProposePlan", "提出方案", ComplaintCase.propose_plan, *DIRECTORS),
    _case("complaintReturnPlan", "退回方案", ComplaintCase.return_plan, *APPROVERS),
    _case("complaintApprovePlan", "批准方案", ComplaintCase.approve_plan, *APPROVERS),
    _case("complaintRecordNegotiation", "记录协商", ComplaintCase.record_negotiation, *DESK),
    _case("complaintAgree", "达成一致", ComplaintCase.agree, *DESK),
    _case("complaintFailNegotiation", "协商未果", ComplaintCase.fail_negotiation, *LEADERS),
    _case("complaintSignDocuments", "签署文件", ComplaintCase.sign_documents, *DESK),
    _case("complaintCompleteFormalities", "办结手续", ComplaintCase.complete_formalities, *DESK, Role.CASHIER),
    _case("complaintGiveFeedback", "反馈结果", ComplaintCase.give_feedback, *DESK),
    _case("complaintClose", "结案", ComplaintCase.close, Role.CS_DIRECTOR),
    _case("complaintProposeInternalHandling", "提出内部处理", ComplaintCase.propose_internal_handling, Role.CS_CHIEF),
    _case("complaintProposeImprovement", "提出改善", ComplaintCase.propose_improvement, *LEADERS),
    _case("complaintWaiveImprovement", "无需改善", ComplaintCase.waive_improvement, *LEADERS),
    _case("complaintExecuteImprovement", "执行改善", ComplaintCase.execute_improvement),
    _case("complaintConfirmImprovement", "确认改善效果", ComplaintCase.confirm_improvement, *LEADERS, Role.GM_OFFICE),
    _case("complaintFollowUp", "回访", ComplaintCase.follow_up, *DESK),
    _case("complaintReopen", "重新开启", ComplaintCase.reopen, *DESK, Role.DEAN),
    _case("complaintEscalate", "上报", ComplaintCase.escalate),
    _case("complaintOfferTransfer", "移交", ComplaintCase.offer_transfer),
    _case("complaintAcceptTransfer", "接收移交", ComplaintCase.accept_transfer),
    _case("complaintDeclineTransfer", "拒收移交", ComplaintCase.decline_transfer),
)
"""Every decision a person may ask for, in the order of the walk. Imports have their own road."""

ComplaintMutation = create_type(
    "ComplaintMutation", [mutation(command, decided, ComplaintAnswer) for command in COMMANDS]
)
