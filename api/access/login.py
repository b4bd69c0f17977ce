"""Signing in and out, and changing one's password: `POST /sign-in`, `/sign-out`, `/password`, each with JSON.

Whoever signs in gets a session: a token like any other, for some hours. Nobody learns from an answer whether a person
exists: a wrong number, a wrong password and a person who has left are answered alike, by the same work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from api.access.doorkeeper import CHALLENGE, Doorkeeper, Unauthenticated, persons_scopes
from api.access.local_user import LocalUser, find_user, keep_hash, set_password, user_of
from api.access.password import Busy, Passwords, normal, outdated
from api.access.roles import Principal, must_be_in_scope
from api.access.throttle import Attempts, Slowed, client_address
from api.access.token import locate, new_secret
from api.context import Reach, in_thread
from api.edge.asked import Unacceptable
from api.edge.fault import presentable, wrapped
from api.edge.said import refused, said
from api.refusal import as_error
from api.watch.account import account
from domain.credential import Scope
from domain.kernel import Event, Refused, Stamp
from domain.staff import STAFF, Staff

BODY_BYTES_MAX = 8 * 1024
BUSY_SECONDS = 2

_log: structlog.stdlib.BoundLogger = structlog.get_logger("anjuan.sign_in")


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Who wants to come in."""

    institution: str
    number: str
    password: str


class NewPassword(msgspec.Struct, forbid_unknown_fields=True):
    """The password so far, and the one from now on."""

    old: str
    new: str


B = TypeVar("B", SignIn, NewPassword)


class Desk:
    """What the three routes share."""

    def __init__(self, reach: Reach, doorkeeper: Doorkeeper, clock: Callable[[], datetime]) -> None:
        self._house = reach.house
        self._wake = reach.wake
        self._settings = reach.settings
        self._doorkeeper = doorkeeper
        self._clock = clock
        self._attempts = Attempts(reach.house.pool)
        self._passwords = Passwords()

    async def sign_in(self, request: Request) -> Response:
        """A session for whoever has a staff number and its password."""
        return await self._answered(self._sign_in, request)

    async def sign_out(self, request: Request) -> Response:
        """The end of the token this is sent with."""
        return await self._answered(self._sign_out, request)

    async def change_password(self, request: Request) -> Response:
        """Another password for whoever knows the present one; their other sessions end."""
        return await self._answered(self._change_password, request)

    async def _sign_in(self, request: Request) -> Response:
        asked = await _body(request, SignIn)
        address = client_address(request, self._settings.trusted_proxies)
        institution, number = asked.institution.strip().upper(), asked.number.strip()
        name = f"{institution}\0{number}"
        found = await in_thread(partial(find_user, self._house, institution, number))
        user = await self._checked(found, name, address, asked.password)
        session = await in_thread(partial(self._session, user))
        if session is None:
            raise _not_in(user, address, "left")
        await in_thread(partial(self._attempts.succeeded, name, address))
        if outdated(user.password_hash):
            renewed = await self._passwords.hashed(normal(asked.password))
            await in_thread(partial(keep_hash, self._house, user, renewed))
        _log.info("signed in", **_who(user), address=address, token=session["tokenId"])
        self._wake()
        # a token is never compressed beside what somebody else wrote (see `api.edge.coding`)
        return said(session, headers={"Cache-Control": "no-store, no-transform"})

    async def _checked(self, user: LocalUser | None, name: str, address: str, password: str) -> LocalUser:
        """The user whose password this is; raises Unauthenticated, after the same work where there is no such user."""
        if self._passwords.full():
            raise Busy
        try:
            await in_thread(partial(self._attempts.begin, name, address))
        except Slowed as slowed:
            _log.warning("sign-in throttled", **_who(user), address=address, seconds=slowed.seconds)
            sentence = f"Too many sign-ins failed; try again in {slowed.seconds} s."
            raise Unauthenticated(sentence, "sign_in.throttled", 429, Retry_After=str(slowed.seconds)) from None
        right = await self._passwords.right(user and user.password_hash, password)
        if user is None or not right:
            raise _not_in(user, address, "password" if user else "unknown")
        return user

    def _session(self, user: LocalUser) -> dict[str, Any] | None:
        """A session as it is answered; None for who has left. Blocks."""
        made, casebook = new_secret(), self._house.casebook(user.institution)
        staff: Staff | None = casebook.read(STAFF, user.staff_id)
        if staff is None or not staff.may_act():
            return None
        stamp = Stamp(by=user.staff_id, at=self._clock(), command_id=uuid4())

        def decide(known: Staff | None) -> list[Event]:
            assert known is not None
            return known.open_session(
                stamp,
                token_id=made.id,
                sha256=made.sha256,
                scopes=persons_scopes(self._settings),
                valid_for=timedelta(hours=self._settings.session_hours),
            )

        receipt = casebook.act(STAFF, user.staff_id, decide, command_id=stamp.command_id)
        locate(self._house, user.institution, user.staff_id, receipt.events)
        return {
            "token": made.token,
            "tokenId": made.id,
            "expiresAt": stamp.at + timedelta(hours=self._settings.session_hours),
            "institution": user.institution,
            "staffId": str(user.staff_id),
            "name": staff.name,
            "roles": sorted(role.upper() for role in staff.roles),
        }

    async def _sign_out(self, request: Request) -> Response:
        principal = await self._principal(request)
        stamp, address = self._stamp(principal), client_address(request, self._settings.trusted_proxies)

        def decide(known: Staff | None) -> Event | None:
            assert known is not None
            if principal.token_id not in known.tokens:
                sentence = "Another issuer made this token; sign out there."
                raise Refused("sign_in.elsewhere", sentence)
            return known.revoke_token(stamp, principal.token_id, "signed out")

        casebook = self._house.casebook(principal.institution)
        await in_thread(lambda: casebook.act(STAFF, principal.staff_id, decide, command_id=stamp.command_id))
        _log.info(
            "signed out",
            institution=principal.institution,
            staff=str(principal.staff_id),
            address=address,
            token=principal.token_id,
        )
        self._wake()
        return said({"signedOut": True})

    async def _change_password(self, request: Request) -> Response:
        principal = await self._principal(request)
        must_be_in_scope(principal, Scope.DECIDE)
        asked = await _body(request, NewPassword)
        address = client_address(request, self._settings.trusted_proxies)
        user = await in_thread(partial(user_of, self._house, principal.institution, principal.staff_id))
        if user is None:
            raise Refused("password.none", "You have no password here; the administrator sets the first one.")
        name = f"{user.institution}\0{user.number}"
        try:
            await self._checked(user, name, address, asked.old)
        except Unauthenticated as problem:
            if problem.status == 401:
                raise Refused("password.wrong", "The present password is wrong.", field="old") from None
            raise
        await in_thread(partial(self._attempts.succeeded, name, address))
        if normal(asked.new) == normal(asked.old):
            raise Refused("password.same", "This is the present password; choose another.", field="new")
        stamp = self._stamp(principal)
        await self._passwords.slowly(
            partial(
                set_password,
                self._house,
                principal.institution,
                principal.staff_id,
                asked.new,
                stamp,
                keep=principal.token_id,
            )
        )
        _log.info("password changed", **_who(user), address=address)
        self._wake()
        return said({"changed": True})

    async def _principal(self, request: Request) -> Principal:
        address = client_address(request, self._settings.trusted_proxies)
        principal = await self._doorkeeper.principal(request.headers.get("authorization"), address)
        account().institution, account().staff = principal.institution, principal.staff_id
        return principal

    def _stamp(self, principal: Principal) -> Stamp:
        return Stamp(by=principal.staff_id, at=self._clock(), command_id=uuid4(), roles=principal.roles)

    async def _answered(self, work: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """The answer, also to what went wrong, in GraphQL's own shape."""
        try:
            return await work(request)
        except Unauthenticated as problem:
            return refused(problem.status, code=problem.code, sentence=str(problem), headers=problem.headers)
        except Unacceptable as problem:
            return refused(problem.status, code=problem.code, sentence=str(problem), headers=problem.headers)
        except Busy:
            sentence = f"Too many sign in at once; try again in {BUSY_SECONDS} s."
            return refused(503, code="sign_in.busy", sentence=sentence, headers={"Retry-After": str(BUSY_SECONDS)})
        except Refused as problem:
            account().refused(problem.code)
            return said({"errors": [as_error(problem).formatted]}, 403 if problem.code.startswith("access.") else 400)
        except Exception as problem:
            error = presentable(wrapped(problem), account().correlation, at_length=False)
            account().refused(error["extensions"]["code"])
            return said({"errors": [error]}, 500 if error["extensions"]["code"] == "internal" else 503)


async def _body(request: Request, kind: type[B]) -> B:
    """What was sent, read no further than the limit; raises Unacceptable."""
    if request.headers.get("content-type", "").lower().partition(";")[0].strip() != "application/json":
        raise Unacceptable(415, "request.content_type", "Send application/json in UTF-8.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Unacceptable(413, "request.too_large", f"The request has more than {BODY_BYTES_MAX} bytes.")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        names = ", ".join(kind.__struct_fields__)
        # what was sent may hold a password, so nothing of it is said again
        raise Unacceptable(
            400, "request.fields", f"Send a JSON object of the texts {names}, and nothing else."
        ) from None


def _not_in(user: LocalUser | None, address: str, why: str) -> Unauthenticated:
    """What everybody is told who is not let in; the log says why."""
    _log.warning("sign-in failed", **_who(user), address=address, why=why)
    sentence = "Institution, staff number or password is wrong."
    return Unauthenticated(sentence, "sign_in.refused", WWW_Authenticate=CHALLENGE)


def _who(user: LocalUser | None) -> dict[str, str]:
    """What the log may say of a person: nothing that was typed, since people type passwords into the wrong field."""
    return {} if user is None else {"institution": user.institution, "number": user.number, "staff": str(user.staff_id)}
