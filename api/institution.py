"""Who asks and where: the person, the institution, and how far its views have read."""

from datetime import datetime
from uuid import UUID

import strawberry

from api.context import Context, Info, in_thread
from api.identity import Identity
from api.node import Node, declare, own
from api.row import closed_set
from api.scalars import BigInt
from domain.institution import CalendarName, ClosingZone
from domain.kernel import Role
from domain.staff import STAFF, Staff
from projections.tracking import Lag, lag
from projections.views import VIEWS

for kind in (Role, ClosingZone, CalendarName):
    closed_set(kind)


@strawberry.type(description="本人 – who asks, as their token says.")
class Me(Node):
    """A staff member."""

    staff_id: UUID
    institution: str
    name: str
    number: str = strawberry.field(description="工号")
    department: str
    roles: list[Role] = strawberry.field(description="岗位 – the posts held now.")


@strawberry.type(name="Institution", description="机构 – the tenant all of this belongs to.")
class InstitutionShown(Node):
    """One institution."""

    code: str
    name: str
    group: str
    zone: ClosingZone
    time_zone: str
    calendar: CalendarName
    position: BigInt = strawberry.field(description="The position of its last event.")


@strawberry.type(description="视图进度 – how far one view is behind the institution's history.")
class ViewLag:
    """As `projections.tracking.Lag`."""

    view: str
    position: BigInt
    head: BigInt
    behind: BigInt = strawberry.field(description="Events not yet shown; negative: the history was set back, rebuild.")
    oldest_unread_at: datetime | None = strawberry.field(
        description="When the oldest event not yet shown was recorded."
    )
    parked: BigInt = strawberry.field(description="Keys whose fold failed and that wait to be repaired.")
    alive: bool = strawberry.field(description="Whether a runner of this view was seen lately.")


async def _me(context: Context) -> Me:
    principal = context.principal
    staff: Staff | None = await in_thread(lambda: context.casebook.read(STAFF, principal.staff_id))
    assert staff is not None, "whoever has a token is enrolled"
    return Me(
        staff_id=principal.staff_id,
        institution=principal.institution,
        name=staff.name,
        number=staff.number,
        department=staff.department,
        roles=sorted(principal.roles),
    )


async def _institution(context: Context) -> InstitutionShown:
    def read() -> InstitutionShown:
        known = context.reach.institution(context.institution)
        return InstitutionShown(
            code=known.place.code,
            name=known.name,
            group=known.group,
            zone=known.place.zone,
            time_zone=known.place.time_zone,
            calendar=known.place.calendar,
            position=BigInt(context.casebook.head()),
        )

    return await in_thread(read)


declare(
    Me,
    own(Identity("staff", ["uuid"]), "me", lambda me: me.staff_id, lambda context: context.principal.staff_id, _me),
)
declare(
    InstitutionShown,
    own(
        Identity("institution", ["text"]),
        "institution",
        lambda institution: institution.code,
        lambda context: context.institution,
        _institution,
    ),
)


@strawberry.type
class InstitutionQuery:
    """Questions about oneself and one's institution."""

    @strawberry.field(description="本人 – the person the token stands for.")
    async def me(self, info: Info) -> Me:
        """The person the token stands for."""
        info.context.may_ask("me")
        return await _me(info.context)

    @strawberry.field(description="机构 – the institution of whoever asks.")
    async def institution(self, info: Info) -> InstitutionShown:
        """The one institution the token opens."""
        info.context.may_ask("institution")
        return await _institution(info.context)

    @strawberry.field(description="视图进度 – how far each view has read the institution's history.")
    async def view_lag(self, info: Info) -> list[ViewLag]:
        """True also when no runner lives."""
        context = info.context
        context.may_ask("viewLag")
        return await view_lags(context, context.now)


async def view_lags(context: Context, now: datetime) -> list[ViewLag]:
    """The lag of every view in the institution of whoever asks."""
    found: list[Lag] = await in_thread(lambda: lag(context.reach.house, list(VIEWS.values()), context.institution))
    return [_shown(one, now) for one in found]


def _shown(one: Lag, now: datetime) -> ViewLag:
    since = None if one.seconds_behind is None else now.timestamp() - one.seconds_behind
    return ViewLag(
        view=one.view,
        position=BigInt(one.position),
        head=BigInt(one.head),
        behind=BigInt(one.behind),
        oldest_unread_at=None if since is None else datetime.fromtimestamp(since, tz=now.tzinfo),
        parked=BigInt(one.parked),
        alive=one.alive,
    )
