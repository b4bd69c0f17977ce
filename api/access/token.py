"""Bearer tokens: each stands for one staff member of one institution, and only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.kernel import Refused, text
from domain.staff import STAFF, Staff
from domain.store.casebook import House

TOKEN_MARK = "anjuan_"  # noqa: S105 - what tokens begin with, so that leak scanners find them


@dataclass(frozen=True)
class Token:
    """What is kept of a token: everything but the token. `id` is the start of its SHA-256, to name it by."""

    id: str
    staff_id: UUID
    label: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def digest(token: str) -> bytes:
    """What is stored in a token's place."""
    return hashlib.sha256(token.encode()).digest()


def issue_token(house: House, institution: str, staff_id: UUID, label: str, valid_for: timedelta) -> str:
    """A new token for an enrolled staff member. It is shown this once and cannot be found again.

    Refuses an unknown person, one who has left, a blank label and a validity of nothing or less.
    """
    label = text(label, "label", longest=200)
    if valid_for <= timedelta():
        raise Refused("token.validity", "Say for how many days the token is valid, one or more.", field="valid_for")
    staff: Staff | None = house.casebook(institution).read(STAFF, staff_id)
    if staff is None:
        raise Refused("staff.unknown", f"There is no such person at {institution}; enrol them first.", field="staff_id")
    if not staff.may_act():
        raise Refused("staff.left", "This person has left and can be given no token.", field="staff_id")
    token = TOKEN_MARK + secrets.token_urlsafe(32)
    with house.pool.connection() as connection:
        connection.execute(
            "INSERT INTO api_token (token_sha256, institution, staff_id, label, expires_at)"
            " VALUES (%s, %s, %s, %s, clock_timestamp() + %s)",
            (digest(token), institution, staff_id, label, valid_for),
        )
    return token


def revoke_token(house: House, institution: str, id: str) -> bool:
    """End a token named by its id, or by the token itself; whether there was one that was still valid."""
    known = digest(id).hex() if id.startswith(TOKEN_MARK) else id.lower()
    if len(known) < 8 or any(c not in "0123456789abcdef" for c in known):
        raise Refused("token.id", "Name the token by its id, eight or more hexadecimal digits.", field="id")
    with house.pool.connection() as connection:
        ended = connection.execute(
            "UPDATE api_token SET revoked_at = clock_timestamp()"
            " WHERE institution = %s AND starts_with(encode(token_sha256, 'hex'), %s) AND revoked_at IS NULL",
            (institution, known),
        )
    return ended.rowcount > 0


def tokens(house: House, institution: str) -> list[Token]:
    """The tokens of an institution, the newest first."""
    with house.pool.connection() as connection:
        rows = connection.execute(
            "SELECT left(encode(token_sha256, 'hex'), 12), staff_id, label, created_at, expires_at, revoked_at"
            " FROM api_token WHERE institution = %s ORDER BY created_at DESC, token_sha256",
            (institution,),
        ).fetchall()
    return [Token(*row) for row in rows]
