"""Staff over GraphQL: who joins, in which posts, who leaves. The full staff record comes with its own issue."""

from uuid import UUID

from strawberry.tools import create_type

from api.command import Command, mutation
from api.decided import Answer, decided
from domain.kernel import Refused, Role
from domain.staff import STAFF, Staff, enrol


def unknown(id: UUID) -> Refused:
    return Refused("staff.unknown", f"Your institution has nobody with the id {id}; enrol them first.", field="id")


KEEPERS_OF_STAFF = frozenset({Role.ADMIN, Role.HR})

COMMANDS: tuple[Command, ...] = (
    Command("staffEnrol", "员工登记", STAFF, enrol, KEEPERS_OF_STAFF, unknown, begins=True),
    Command("staffAssignRoles", "调整岗位", STAFF, Staff.assign_roles, KEEPERS_OF_STAFF, unknown),
    Command("staffLeave", "员工离职", STAFF, Staff.leave, KEEPERS_OF_STAFF, unknown),
)

StaffMutation = create_type("StaffMutation", [mutation(command, decided, Answer) for command in COMMANDS])
