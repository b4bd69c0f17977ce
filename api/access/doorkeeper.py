"""Who may come in: a bearer token stands for a staff member, whose own history says what the token and they may do."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import anyio.to_thread
from psycopg_pool import AsyncConnectionPool

from api.access.roles import Principal
from api.access.throttle import Slowed, Strangers
from api.access.token import TOKEN_MARK, digest, token_id
from api.settings import Environment, Settings
from domain.credential import Scope
from domain.staff import STAFF, Staff
from domain.store.casebook import House

REMEMBERED_MAX = 10_000

CHALLENGE = 'Bearer realm="anjuan"'


class Unauthenticated(Exception):
    """No token, or one that does not open anything. The sentence is for the person who asked."""

    def __init__(self, sentence: str, code: str = "access.token", status: int = 401, **headers: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        challenge = {"WWW_Authenticate": f'{CHALLENGE}, error="invalid_token"'} if status == 401 else {}
        self.headers = {name.replace("_", "-"): value for name, value in {**challenge, **headers}.items()}


@dataclass(frozen=True)
class Known:
    """Whom an issuer's token is about."""

    issuer: str
    subject: str
    token_id: str


class Issuer(Protocol):
    """Whoever else's tokens are accepted here."""

    async def verified(self, token: str) -> Known:
        """Whom the token is about; raises Unauthenticated."""
        ...


FIND = """
    SELECT token.institution, token.staff_id, token.label IS NULL, token.expires_at, clock_timestamp(),
           (SELECT max(originator_version) FROM event
             WHERE institution = token.institution AND originator_id = token.staff_id)
    FROM api_token AS token
    WHERE token_sha256 = %s
"""
"""Of a token's SHA-256: whose history to ask, the present, and which version of that history is the last."""

_FIND_IDENTITY = """
    SELECT link.institution, link.staff_id, true, NULL, clock_timestamp(),
           (SELECT max(originator_version) FROM event
             WHERE institution = link.institution AND originator_id = link.staff_id)
    FROM identity_link AS link
    WHERE identity_sha256 = %s
"""

_ENTER = {
    FIND: "SELECT set_config('anjuan.institution', institution_of_token(%s), true)",
    _FIND_IDENTITY: "SELECT set_config('anjuan.institution', institution_of_identity(%s), true)",
}
"""Before it is known who comes in, row-level security is told of which institution the row is, if there is one."""


@dataclass(frozen=True)
class Remembered:
    """Whom a token let in before, by which version of their history and until when it holds."""

    sha256: bytes
    principal: Principal
    version: int
    expires_at: datetime

    def still(self, row: tuple[Any, ...] | None) -> bool:
        """Whether a row of `FIND`, asked with `sha256`, says that all of this still holds."""
        if row is None:
            return False
        institution, staff_id, _, _, now, version = row
        same = (institution, staff_id, version) == (self.principal.institution, self.principal.staff_id, self.version)
        return same and now < self.expires_at


class Doorkeeper:
    """Tells from a request's Authorization header who asks. People are kept per version, so what is known is exact."""

    def __init__(
        self,
        house: House,
        pool: AsyncConnectionPool[Any],
        settings: Settings,
        issuer: Issuer | None = None,
    ) -> None:
        self._house = house
        self._pool = pool
        self._issuer = issuer
        self._persons_scopes = persons_scopes(settings)
        self._strangers = Strangers(settings.unknown_tokens_max)
        self._people: OrderedDict[tuple[str, UUID, int], Staff | None] = OrderedDict()
        self._remembered: OrderedDict[bytes, Remembered] = OrderedDict()
        self._vouched: OrderedDict[bytes, None] = OrderedDict()
        """Tokens of the issuer that have opened something; each is verified anew all the same."""

    async def principal(self, authorization: str | None, address: str = "") -> Principal:
        """Who holds this token, sent from this address; raises Unauthenticated."""
        token = _bearer(authorization)
        ours = token.startswith(TOKEN_MARK) and len(token) <= 200
        theirs = not ours and self._issuer is not None and token.count(".") == 2
        sha256 = digest(token)
        known = sha256 in self._remembered or sha256 in self._vouched
        if not known:  # one that has opened something is looked up whoever else asks from there
            self._not_too_often(address)
        try:
            if theirs:
                assert self._issuer is not None
                principal = await self._of_issuer(await self._issuer.verified(token))
                _put(self._vouched, sha256, None)
                return principal
            if not ours:
                raise Unauthenticated("Only bearer tokens issued here are accepted: Authorization: Bearer anjuan_….")
            return await self._of_ours(sha256)
        except Unauthenticated as problem:
            self._remembered.pop(sha256, None)
            self._vouched.pop(sha256, None)
            if not known and problem.code == "access.token":
                self._strangers.failed(address)
            raise

    def remembered(self, authorization: str | None) -> Remembered | None:
        """Whom this token of ours let in the last time; to be held against a row of `FIND` before it is believed."""
        scheme, _, token = (authorization or "").partition(" ")
        is_one = scheme.lower() == "bearer" and token.isascii()
        return self._remembered.get(digest(token.strip())) if is_one else None

    def _not_too_often(self, address: str) -> None:
        try:
            self._strangers.may_try(address)
        except Slowed as slowed:
            sentence = f"Too many tokens from your address opened nothing; try again in {slowed.seconds} s."
            raise Unauthenticated(sentence, "access.throttled", 429, Retry_After=str(slowed.seconds)) from None

    async def _of_ours(self, sha256: bytes) -> Principal:
        row = await self._found(FIND, sha256)
        if row is None:
            raise Unauthenticated("This token is not known; sign in, or ask the administrator for a new one.")
        _, staff_id, converted, expires_at, now, version = row
        staff = await self._person(row)
        id = token_id(sha256)
        token = staff.tokens.get(id)
        if not converted:
            raise Unauthenticated("An earlier version made this token; the administrator runs `anjuan migrate`.")
        if expires_at <= now:
            sentence = "This token has expired; sign in again, or ask the administrator for a new one."
            raise Unauthenticated(sentence, "access.token_expired")
        if token is None or token.sha256 != sha256.hex():
            raise Unauthenticated("This token is not known; sign in, or ask the administrator for a new one.")
        if not token.valid(now):
            sentence = "This token was revoked; sign in again, or ask the administrator for a new one."
            raise Unauthenticated(sentence, "access.token_revoked")
        principal = Principal(row[0], staff_id, staff.may_act(), token.scopes, id, staff.glasses)
        _put(self._remembered, sha256, Remembered(sha256, principal, version, token.expires_at))
        return principal

    async def _of_issuer(self, known: Known) -> Principal:
        row = await self._found(_FIND_IDENTITY, identity_sha256(known.issuer, known.subject))
        staff = None if row is None else await self._person(row)
        if row is None or staff is None or (known.issuer, known.subject) not in staff.identities:
            sentence = "Your sign-in is valid, but nobody here is linked to it; ask the administrator to link you."
            raise Unauthenticated(sentence, "access.identity_unknown")
        return Principal(row[0], row[1], staff.may_act(), self._persons_scopes, known.token_id, staff.glasses)

    async def _found(self, statement: Any, key: bytes) -> tuple[Any, ...] | None:
        async with self._pool.connection() as connection:
            # one round trip, which is one transaction
            async with connection.pipeline():
                await connection.execute(_ENTER[statement], (key,), prepare=True)
                found = await connection.execute(statement, (key,), prepare=True)
            return await found.fetchone()

    async def _person(self, row: tuple[Any, ...]) -> Staff:
        """The person as of this row's version or later; refused when they may not act."""
        institution, staff_id, _, _, _, version = row
        staff = self._people.get((institution, staff_id, version or 0))
        if staff is None:
            staff = await anyio.to_thread.run_sync(self._house.casebook(institution).read, STAFF, staff_id)
            if staff is not None:
                _put(self._people, (institution, staff_id, staff.version), staff)
        if staff is None or not staff.may_act():
            sentence = "The person this token stands for may not act here any more."
            raise Unauthenticated(sentence, "access.left")
        return staff


def persons_scopes(settings: Settings) -> frozenset[Scope]:
    """What people who signed in themselves may do; documents of their own belong to development and to programs."""
    develops = settings.environment == Environment.DEVELOPMENT
    return frozenset(Scope) if develops else frozenset({Scope.ASK, Scope.DECIDE})


def identity_sha256(issuer: str, subject: str) -> bytes:
    """What is stored in the place of an identity."""
    return digest(f"{issuer}\0{subject}")


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if not token:
        # RFC 6750, section 3.1: whoever sent nothing is told no error
        raise Unauthenticated("Send a token: Authorization: Bearer anjuan_….", WWW_Authenticate=CHALLENGE)
    if scheme.lower() != "bearer" or not token.isascii():
        raise Unauthenticated("Only bearer tokens issued here are accepted: Authorization: Bearer anjuan_….")
    return token


def _put(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)
