"""Who may come in, and what their posts let them ask for.

A bearer token stands for one staff member of one institution; only its SHA-256 is stored. What the person may do
follows from the posts their own history gives them now. `QUERIES` and the lists beside it are the one place that says
which post may ask what; who may decide is said once more, exactly, by the decisions themselves (`Stamp.must_hold`),
and separation of duties is the domain's alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import anyio.to_thread
from psycopg_pool import AsyncConnectionPool

from domain.kernel import Refused, Role, text
from domain.staff import STAFF, Staff
from domain.store.casebook import House

TOKEN_MARK = "anjuan_"  # noqa: S105 - what tokens begin with, so that leak scanners find them
REMEMBERED_MAX = 10_000

EVERYONE = frozenset(Role)
NO_CASES = frozenset({Role.ADMIN, Role.KEEPER, Role.HR})
"""Posts that do not see complaint cases by themselves: what patients say is on a need-to-know basis."""
CASE_READERS = EVERYONE - NO_CASES
CASE_WORKERS = EVERYONE - {Role.AUDITOR}
"""Posts that may act on a case at all; the auditor looks and never touches."""
OVERSEERS = frozenset({Role.AUDITOR, Role.ADMIN, Role.GM_OFFICE})
EXPLORERS = frozenset({Role.AUDITOR, Role.ADMIN})
"""Posts the schema itself is shown to in production: introspection, and suggestions for misspelt names."""

QUERIES: dict[str, frozenset[Role]] = {
    "me": EVERYONE,
    "institution": EVERYONE,
    "complaint": CASE_READERS,
    "complaints": CASE_READERS,
    "complaintClocks": CASE_READERS,
    "complaintAsOf": CASE_READERS,
    "complaintBlame": CASE_READERS,
    "history": frozenset({Role.AUDITOR, Role.GM_OFFICE, Role.CS_CHIEF, Role.DEAN}),
    "complaintPolicy": EVERYONE,
    "viewLag": OVERSEERS,
}
"""Which posts may ask which question; a question that is not here may be asked by nobody."""


class Unauthenticated(Exception):
    """No token, or one that does not open anything. The sentence is for the person who asked."""


@dataclass(frozen=True)
class Principal:
    """Who asks: a staff member of one institution, with the posts they hold now."""

    institution: str
    staff_id: UUID
    roles: frozenset[Role]


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


_FIND = """
    SELECT token.institution, token.staff_id, token.revoked_at IS NULL, token.expires_at > clock_timestamp(),
           (SELECT max(originator_version) FROM event
             WHERE institution = token.institution AND originator_id = token.staff_id)
    FROM api_token AS token
    WHERE token_sha256 = %s
"""


class Doorkeeper:
    """Tells from a request's Authorization header who asks. Posts are kept per version of the person, so are exact."""

    def __init__(self, house: House, pool: AsyncConnectionPool[Any]) -> None:
        self._house = house
        self._pool = pool
        self._remembered: dict[tuple[str, UUID, int], Principal] = {}

    async def principal(self, authorization: str | None) -> Principal:
        """Who holds this token; raises Unauthenticated."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if not token:
            raise Unauthenticated("Send a token: Authorization: Bearer anjuan_….")
        if scheme.lower() != "bearer" or not token.startswith(TOKEN_MARK) or len(token) > 200 or not token.isascii():
            raise Unauthenticated("Only bearer tokens issued here are accepted: Authorization: Bearer anjuan_….")
        async with self._pool.connection() as connection:
            found = await (await connection.execute(_FIND, (digest(token),), prepare=True)).fetchone()
        if found is None:
            raise Unauthenticated("This token is not known; ask the administrator for a new one.")
        institution, staff_id, stands, lives, version = found
        if not stands:
            raise Unauthenticated("This token was revoked; ask the administrator for a new one.")
        if not lives:
            raise Unauthenticated("This token has expired; ask the administrator for a new one.")
        known = self._remembered.get((institution, staff_id, version))
        return known or await anyio.to_thread.run_sync(self._read, institution, staff_id)

    def _read(self, institution: str, staff_id: UUID) -> Principal:
        staff: Staff | None = self._house.casebook(institution).read(STAFF, staff_id)
        if staff is None or not staff.may_act():
            raise Unauthenticated("The person this token stands for may not act here any more.")
        principal = Principal(institution, staff_id, staff.may_act())
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[institution, staff_id, staff.version] = principal
        return principal


def must_be_allowed(principal: Principal, allowed: frozenset[Role], what: str) -> None:
    """Refuse with `access.role` unless one of the person's posts may do this."""
    if not principal.roles & allowed:
        raise Refused("access.role", f"Your posts do not allow {what}; ask {_some(sorted(allowed))}.")


def _some(roles: Sequence[Role]) -> str:
    return "somebody who may" if len(roles) > 4 or not roles else " or ".join(roles)


def lifetime(days: int, days_max: int) -> timedelta:
    """A token's validity, or a refusal when more is asked than is allowed."""
    if not 1 <= days <= days_max:
        raise Refused("token.validity", f"A token is valid for 1 to {days_max} days.", field="days")
    return timedelta(days=days)
