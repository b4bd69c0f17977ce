"""Whose identity at an OpenID issuer is whose here: table `identity_link` finds the history that says so.

An identity stands for one person of one institution. It is claimed here before the history is told, so that no two
people are told to be the same; a claim that no history bears out binds nobody of the same institution.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from api.access.doorkeeper import identity_sha256
from domain.credential import identity
from domain.kernel import Event, Refused, StaffId, Stamp
from domain.staff import STAFF, Staff
from domain.store.casebook import House


def claim(house: House, institution: str, staff_id: StaffId, issuer: str, subject: str) -> bool:
    """Keep the identity for this person; whether that was news. Refused when it is somebody else's. Blocks."""
    issuer, subject = identity(issuer, subject)
    key = identity_sha256(issuer, subject)
    with house.within(institution) as connection:
        made = connection.execute(
            "INSERT INTO identity_link (identity_sha256, institution, staff_id) VALUES (%s, %s, %s)"
            " ON CONFLICT (identity_sha256) DO NOTHING",
            (key, institution, staff_id),
        )
        if made.rowcount:
            return True
        holder = _holder(connection, key, institution)
        if holder == staff_id:
            return False
        if holder is not None and not _bears_out(house, institution, holder, issuer, subject):
            connection.execute(
                "UPDATE identity_link SET staff_id = %s WHERE identity_sha256 = %s AND institution = %s",
                (staff_id, key, institution),
            )
            return True
    sentence = "This identity is linked to somebody else; unlink it there first."
    raise Refused("identity.taken", sentence, field="subject")


def release(house: House, institution: str, staff_id: StaffId, issuer: str, subject: str) -> None:
    """Let go of an identity this person has had. Blocks."""
    with house.within(institution) as connection:
        connection.execute(
            "DELETE FROM identity_link WHERE identity_sha256 = %s AND institution = %s AND staff_id = %s",
            (identity_sha256(*identity(issuer, subject)), institution, staff_id),
        )


def link(house: House, institution: str, staff_id: StaffId, issuer: str, subject: str, stamp: Stamp) -> bool:
    """Link an identity at the machine; whether that was news. Blocks."""
    fresh = claim(house, institution, staff_id, issuer, subject)

    def decide(staff: Staff | None) -> Event | None:
        if staff is None:
            raise Refused("staff.unknown", f"There is no such person at {institution}; enrol them first.", field="id")
        return staff.link_identity(stamp, issuer, subject)

    try:
        receipt = house.casebook(institution).act(STAFF, staff_id, decide, command_id=stamp.command_id)
    except Refused:
        if fresh:
            release(house, institution, staff_id, issuer, subject)
        raise
    return bool(receipt.events)


def unlink(house: House, institution: str, staff_id: StaffId, issuer: str, subject: str, stamp: Stamp) -> bool:
    """End a link at the machine; whether there was one. Blocks."""

    def decide(staff: Staff | None) -> Event | None:
        return None if staff is None else staff.unlink_identity(stamp, issuer, subject)

    receipt = house.casebook(institution).act(STAFF, staff_id, decide, command_id=stamp.command_id)
    if receipt.events:
        release(house, institution, staff_id, issuer, subject)
    return bool(receipt.events)


def _holder(connection: Connection[Any], key: bytes, institution: str) -> StaffId | None:
    """Who of this institution has claimed it; None when another institution's has."""
    row = connection.execute(
        "SELECT staff_id FROM identity_link WHERE identity_sha256 = %s AND institution = %s", (key, institution)
    ).fetchone()
    return None if row is None else row[0]


def _bears_out(house: House, institution: str, staff_id: StaffId, issuer: str, subject: str) -> bool:
    staff: Staff | None = house.casebook(institution).read(STAFF, staff_id)
    return staff is not None and (issuer, subject) in staff.identities
