"""Who may come in: a bearer token stands for a staff member, whose own history gives their posts now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import anyio.to_thread
from psycopg_pool import AsyncConnectionPool

from api.access.roles import Principal
from api.access.token import TOKEN_MARK, digest
from domain.credential import Scope
from domain.kernel import Role
from domain.staff import STAFF, Staff
from domain.store.casebook import House

REMEMBERED_MAX = 10_000


class Unauthenticated(Exception):
    """No token, or one that does not open anything. The sentence is for the person who asked."""


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
        self._remembered: dict[tuple[str, UUID, int], frozenset[Role]] = {}

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
        roles = self._remembered.get((institution, staff_id, version))
        if roles is None:
            roles = await anyio.to_thread.run_sync(self._read, institution, staff_id)
        return Principal(institution, staff_id, roles, frozenset(Scope), digest(token).hex()[:12])

    def _read(self, institution: str, staff_id: UUID) -> frozenset[Role]:
        staff: Staff | None = self._house.casebook(institution).read(STAFF, staff_id)
        if staff is None or not staff.may_act():
            raise Unauthenticated("The person this token stands for may not act here any more.")
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[institution, staff_id, staff.version] = staff.may_act()
        return staff.may_act()
