"""Staff enough to act: enrolled, given posts, gone."""

from typing import Any

from domain.kernel import Role
from domain.personal import personal_fields
from domain.staff import STAFF, Staff, StaffEnrolled, enrol
from tests.domain.given import BOSS, LI, ZHAO, given, refused, stamp

WORDS: dict[str, Any] = {"id": ZHAO, "name": "赵敏", "number": "0012", "roles": [Role.CS_AGENT], "department": "客服部"}


def enrolled(known: Staff | None = None, **said: Any) -> StaffEnrolled | None:
    return enrol(known, stamp(BOSS), **{**WORDS, **said})


def zhao() -> Staff:
    event = enrolled()
    assert event is not None
    return given(STAFF, event)


def test_a_person_is_enrolled_once() -> None:
    assert enrolled(zhao()) is None
    with refused("staff.enrolled"):
        enrolled(zhao(), number="0013")


def test_the_name_is_the_persons_own_data() -> None:
    assert personal_fields(StaffEnrolled) == {"name": "staff_id"}
    assert zhao().id == ZHAO


def test_new_posts_take_the_place_of_the_old() -> None:
    event = zhao().assign_roles(stamp(BOSS), [Role.CS_DIRECTOR, Role.CS_DIRECTOR])
    assert event is not None
    after = event and given(STAFF, *(e for e in (enrolled(), event) if e))
    assert after.may_act() == {Role.CS_DIRECTOR}
    assert after.assign_roles(stamp(BOSS), [Role.CS_DIRECTOR]) is None


def test_who_has_left_may_not_act() -> None:
    event = zhao().leave(stamp(BOSS), "退休")
    assert event is not None
    gone = given(STAFF, *(e for e in (enrolled(), event) if e))
    assert gone.may_act() == frozenset()
    assert gone.leave(stamp(BOSS)) is None
    with refused("staff.left"):
        gone.assign_roles(stamp(BOSS), [Role.CS_AGENT])


def test_enrolling_needs_a_post_and_the_right_to() -> None:
    with refused("staff.no_role", "roles"):
        enrolled(roles=[])
    with refused("access.role"):
        enrol(None, stamp(LI), **WORDS)
