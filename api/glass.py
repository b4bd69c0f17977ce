"""Break-glass over GraphQL: seeing one case unmasked in need, ending that, and the list of all such looks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry

from api.access.mask import sees
from api.access.roles import CASE_READERS
from api.command import Asked, Command, Work, carry_out, only
from api.complaint import unknown as unknown_case
from api.context import Info
from api.decided import Answer, decided
from api.narrow import argument, narrowed
from api.node import Node, node_of
from api.page import After, Before, Connection, ConsistentWith, First, Last, page_of
from api.reads import PersonalRead, reads_of
from api.refusal import Refusal, refusal
from api.row import of_row
from api.scalars import BigInt
from api.staff import unknown
from domain.complaint import COMPLAINT, ComplaintCase
from domain.glass import GlassBroken
from domain.kernel import Event, Refused
from domain.staff import STAFF, Staff
from domain.store.casebook import Receipt
from projections.complaint import COMPLAINTS
from projections.glass import GLASSES, LATEST_FIRST, GlassFilter, GlassRow
from projections.page import Pager, Slice
from projections.personal import personal_columns
from projections.read_log import ReadFilter


def _breaking(command: Command, asked: Asked) -> Work:
    """With the case it is for: whom it accuses may not look into it."""
    case_id: UUID = asked.given["case_id"]
    missing = unknown_case(case_id, "case_id")

    def decide(staff: Staff, case: ComplaintCase | None) -> Event | Sequence[Event] | None:
        if case is None:
            raise missing
        return command.call(staff, asked, case=case)

    return Work(decide, also=((only(COMPLAINT, missing), case_id),))


BREAK = Command(
    "glassBreak",
    "紧急查看",
    STAFF,
    Staff.break_glass,
    CASE_READERS,
    unknown,
    prepare=_breaking,
    supplied=frozenset({"case"}),
)
MEND = Command("glassMend", "结束紧急查看", STAFF, Staff.mend_glass, CASE_READERS, unknown)
COMMANDS: tuple[Command, ...] = (BREAK, MEND)
"""Everybody breaks and mends their own; who may at all, says the domain."""

CommandId = Annotated[
    UUID, strawberry.argument(description="指令编号 – made by you; the same command sent again gets its first answer.")
]


@strawberry.type(description="已开启紧急查看 – you see this one case unmasked until then; every look is logged.")
class GlassOpened:
    """The receipt of a broken glass."""

    glass_id: UUID = strawberry.field(description="紧急查看编号 – to end it by.")
    case_id: UUID = strawberry.field(description="案件标识")
    until: datetime = strawberry.field(description="截止时间 – it ends by itself then.")
    version: BigInt = strawberry.field(description="The version of your own history now.")
    position: BigInt = strawberry.field(description="机构内位置 – send it as consistentWith to read your own write.")
    repeated: bool = strawberry.field(description="True when nothing new was stored: known already.")


GlassAnswer = Annotated[GlassOpened | Refusal, strawberry.union("GlassAnswer", description="A glass, or why not.")]


def _opened(_: UUID, receipt: Receipt) -> GlassOpened:
    (event,) = receipt.events
    assert isinstance(event, GlassBroken)
    return GlassOpened(
        glass_id=event.glass_id,
        case_id=event.case_id,
        until=event.until,
        version=BigInt(receipt.version),
        position=BigInt(receipt.position),
        repeated=receipt.repeated,
    )


@strawberry.type
class GlassMutation:
    """Seeing what is masked, in need."""

    @strawberry.field(
        description="紧急查看 – in need, see one case's personal particulars unmasked for a while; needs a reason, and"
        " every look is logged."
    )
    async def glass_break(
        self,
        info: Info,
        command_id: CommandId,
        case_id: Annotated[UUID, strawberry.argument(description="案件标识")],
        reason: Annotated[
            str, strawberry.argument(description="理由 – why it must be seen now; without the patient's particulars.")
        ],
        minutes: Annotated[
            int, strawberry.argument(description="分钟数 – for how long; the policy says how long at most.")
        ],
    ) -> GlassAnswer:
        """One's own glass; refused to whoever sees all of a case anyway."""
        roles = info.context.principal.roles
        if all(sees(roles, COMPLAINTS.name, column) for column in personal_columns(COMPLAINTS.row)):
            return refusal(Refused("glass.needless", "Your post sees this case as it is; ask for it as ever."))
        said = {"case_id": case_id, "reason": reason, "minutes": minutes}
        return await carry_out(info.context, BREAK, _opened, _own(info, command_id, said))

    @strawberry.field(description="结束紧急查看 – see it masked again before the time is over.")
    async def glass_mend(
        self,
        info: Info,
        command_id: CommandId,
        glass_id: Annotated[UUID, strawberry.argument(description="紧急查看编号")],
    ) -> Answer:
        """One's own glass."""
        return await carry_out(info.context, MEND, decided, _own(info, command_id, {"glass_id": glass_id}))


def _own(info: Info, command_id: UUID, said: dict[str, Any]) -> dict[str, Any]:
    return {"command_id": command_id, "id": info.context.principal.staff_id, "occurred_at": None, **said}


@node_of(GLASSES, "brokenGlasses")
@of_row("紧急查看记录 – one broken glass: who saw which case unmasked, from when to when, and why.")
class BrokenGlass(GlassRow, Node):
    """One broken glass."""

    @strawberry.field(description="是否仍有效 – neither mended nor over.")
    def open(self, info: Info) -> bool:
        """Whether it shows anything at the moment of the request."""
        return self.mended_at is None and self.until > info.context.now

    @strawberry.field(description="期间查阅 – what was read through it, the latest first.")
    async def reads(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[PersonalRead]:
        """The entries of the log under this glass."""
        info.context.may_ask("personalReads")
        return await reads_of(info.context, ReadFilter(glass=self.glass_id), Slice(first, after, last, before))


_LATEST = Pager(GLASSES, BrokenGlass, LATEST_FIRST)


@strawberry.type
class GlassQuery:
    """Questions about broken glasses."""

    @strawberry.field(description="紧急查看记录 – broken glasses, the latest first.")
    async def broken_glasses(
        self,
        info: Info,
        staff: Annotated[UUID | None, argument(GlassFilter, "staff")] = None,
        case: Annotated[UUID | None, argument(GlassFilter, "case")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        consistent_with: ConsistentWith = None,
    ) -> Connection[BrokenGlass]:
        """A page of the list."""
        context = info.context
        context.may_ask("brokenGlasses")
        await context.consistent([GLASSES], consistent_with)
        which = narrowed(GlassFilter, context, {"staff": staff, "case": case})
        return await page_of(context, _LATEST, Slice(first, after, last, before), which.conditions())
