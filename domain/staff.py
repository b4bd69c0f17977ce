"""Staff (员工): who acts, under which posts, by which credentials. The full staff record comes with its own issue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from domain.credential import (
    CredentialEvent,
    IdentityLinked,
    IdentityUnlinked,
    PasswordSet,
    TokenIssued,
    TokenRevoked,
    keep,
)
from domain.glass import GlassBroken, GlassMended, Looker, look
from domain.kernel import Event, Fold, Refused, Role, StaffId, Stamp, SubjectId, named, text
from domain.personal import Personal

FOUNDER = named("founder")
"""Who acts at the machine itself, and while an institution has nobody yet."""


@dataclass(frozen=True, kw_only=True)
class StaffEnrolled(Event, topic="staff.enrolled"):
    """A person joined the institution under a staff number (工号) and may act in these posts."""

    staff_id: SubjectId
    name: Annotated[str, Personal("staff_id")]
    number: str
    roles: tuple[Role, ...]
    department: str


@dataclass(frozen=True, kw_only=True)
class RolesAssigned(Event, topic="staff.roles_assigned"):
    """A staff member holds these posts from now on, and no others."""

    roles: tuple[Role, ...]


@dataclass(frozen=True, kw_only=True)
class StaffLeft(Event, topic="staff.left"):
    """A staff member left the institution and may not act any more."""

    reason: str = ""


StaffEvent = StaffEnrolled | RolesAssigned | StaffLeft | CredentialEvent | GlassBroken | GlassMended


@dataclass(frozen=True, kw_only=True)
class Staff(Looker):
    """One staff member as decisions need them."""

    name: str
    number: str
    department: str
    roles: frozenset[Role]

    def may_act(self) -> frozenset[Role]:
        """The posts this person may act in now; none once they have left."""
        return frozenset() if self.left else self.roles

    def assign_roles(self, stamp: Stamp, roles: Iterable[Role]) -> RolesAssigned | None:
        """Give the person these posts instead of the present ones."""
        stamp.must_hold(Role.ADMIN, Role.HR)
        wanted = in_order(roles)
        if self.left:
            raise Refused("staff.left", "This person has left; enrol them again under a new number.")
        if frozenset(wanted) == self.roles:
            return None
        return RolesAssigned(**self.next(stamp), roles=wanted)

    def leave(self, stamp: Stamp, reason: str = "") -> StaffLeft | None:
        """The person leaves the institution."""
        stamp.must_hold(Role.ADMIN, Role.HR)
        if self.left:
            return None
        return StaffLeft(**self.next(stamp), reason=text(reason, "reason", required=False, longest=500))


def enrol(
    known: Staff | None,
    stamp: Stamp,
    *,
    id: StaffId,
    name: str,
    number: str,
    roles: Iterable[Role],
    department: str,
) -> StaffEnrolled | None:
    """Enrol a person; nothing new when they are enrolled with the same particulars already."""
    stamp.must_hold(Role.ADMIN, Role.HR)
    name, number = text(name, "name", longest=200), text(number, "number", longest=50)
    department, posts = text(department, "department", longest=200), in_order(roles)
    if known is not None:
        if (known.name, known.number, known.department, known.roles) == (name, number, department, frozenset(posts)):
            return None
        raise Refused("staff.enrolled", "This person is enrolled already; assign roles instead.", field="id")
    return StaffEnrolled(
        originator_id=id,
        originator_version=1,
        stamp=stamp,
        staff_id=id,
        name=name,
        number=number,
        roles=posts,
        department=department,
    )


def in_order(roles: Iterable[Role]) -> tuple[Role, ...]:
    """The posts without repetition, in an order that does not depend on who asked; at least one."""
    posts = tuple(sorted(set(roles)))
    if not posts:
        raise Refused("staff.no_role", "Name at least one post.", field="roles")
    return posts


def evolve(staff: Staff | None, event: StaffEvent) -> Staff:
    if isinstance(event, StaffEnrolled):
        return Staff(
            id=event.originator_id,
            version=event.originator_version,
            name=event.name,
            number=event.number,
            department=event.department,
            roles=frozenset(event.roles),
        )
    assert staff is not None, "staff begin with their enrolment"
    staff = replace(staff, version=event.originator_version)
    match event:
        case RolesAssigned():
            return replace(staff, roles=frozenset(event.roles))
        case StaffLeft():
            return replace(staff, left=True)
        case GlassBroken() | GlassMended():
            return look(staff, event)
        case _:
            return keep(staff, event)


STAFF = Fold(
    "staff",
    evolve,
    events=(
        StaffEnrolled,
        RolesAssigned,
        StaffLeft,
        TokenIssued,
        TokenRevoked,
        PasswordSet,
        IdentityLinked,
        IdentityUnlinked,
        GlassBroken,
        GlassMended,
    ),
)
