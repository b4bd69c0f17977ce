"""People who sign in here with their staff number and a password: table `local_user`, and the events that tell of it.

A password is told to the person's history before it is kept: none is set without a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from api.access.password import HASHER, good_password
from domain.institution import INSTITUTION, Institution, institution_id
from domain.kernel import Event, Refused, StaffId, Stamp
from domain.staff import STAFF, Staff
from domain.store.casebook import House


@dataclass(frozen=True)
class LocalUser:
    """Whose staff number it is, and the hash of their password."""

    institution: str
    number: str
    staff_id: UUID
    password_hash: str


def find_user(house: House, institution: str, number: str) -> LocalUser | None:
    """Who signs in under this number, whatever was typed. Blocks."""
    if not (institution + number).isprintable():  # no NUL and no surrogate: nothing that could be stored
        return None
    with house.within(institution) as connection:
        row = connection.execute(
            "SELECT institution, number, staff_id, password_hash FROM local_user"
            " WHERE institution = %s AND number = %s",
            (institution, number),
        ).fetchone()
    return None if row is None else LocalUser(*row)


def user_of(house: House, institution: str, staff_id: StaffId) -> LocalUser | None:
    """How this person signs in. Blocks."""
    with house.within(institution) as connection:
        row = connection.execute(
            "SELECT institution, number, staff_id, password_hash FROM local_user"
            " WHERE institution = %s AND staff_id = %s",
            (institution, staff_id),
        ).fetchone()
    return None if row is None else LocalUser(*row)


def set_password(
    house: House,
    institution: str,
    staff_id: StaffId,
    password: str,
    stamp: Stamp,
    *,
    keep: str | None = None,
    hashed: Callable[[str], str] = HASHER.hash,
) -> None:
    """Let the person sign in with this password from now on; every session ends but the one to `keep`. Blocks.

    Refuses a password that is not good enough, a stranger, who has left, and a number another person signs in with.
    """
    casebook = house.casebook(institution)
    staff: Staff | None = casebook.read(STAFF, staff_id)
    if staff is None:
        raise Refused("staff.unknown", f"There is no such person at {institution}; enrol them first.", field="staff_id")
    place: Institution | None = casebook.read(INSTITUTION, institution_id(institution))
    staff.set_password(stamp)  # refuses before a hash is made for nothing
    password_hash = hashed(good_password(password, staff, institution, place.name if place else ""))
    _must_be_free(house, institution, staff)

    def decide(known: Staff | None) -> Event:
        assert known is not None
        return known.set_password(stamp, keep=keep)

    casebook.act(STAFF, staff_id, decide, command_id=stamp.command_id)
    with house.within(institution) as connection:
        connection.execute(
            "INSERT INTO local_user (institution, number, staff_id, password_hash) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (institution, number) DO UPDATE"
            " SET staff_id = excluded.staff_id, password_hash = excluded.password_hash, set_at = clock_timestamp()",
            (institution, staff.number, staff_id, password_hash),
        )


def keep_hash(house: House, user: LocalUser, password_hash: str) -> None:
    """Keep the same password by another hash, unless it was set anew in between. Blocks."""
    with house.within(user.institution) as connection:
        connection.execute(
            "UPDATE local_user SET password_hash = %s"
            " WHERE institution = %s AND number = %s AND staff_id = %s AND password_hash = %s",
            (password_hash, user.institution, user.number, user.staff_id, user.password_hash),
        )


def _must_be_free(house: House, institution: str, staff: Staff) -> None:
    """Two people with one number could not be told apart; who has left no longer needs theirs."""
    other = find_user(house, institution, staff.number)
    if other is None or other.staff_id == staff.id:
        return
    holder: Staff | None = house.casebook(institution).read(STAFF, other.staff_id)
    if holder is not None and not holder.left:
        sentence = f"Somebody else signs in with the number {staff.number}; enrol this person under another."
        raise Refused("password.number_taken", sentence, field="number")
