"""Bearer tokens: each stands for one staff member of one institution.

A token is 256 random bits, shown once. Its holder's history says what it is for and until when, and when it was
revoked; table `api_token` only says whose history that is.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection

from domain.credential import Scope, TokenIssued
from domain.credential import Token as Kept
from domain.kernel import Event, Refused, Role, StaffId, Stamp
from domain.staff import FOUNDER, STAFF, Staff
from domain.store.casebook import Casebook, House

TOKEN_MARK = "anjuan_"  # noqa: S105 - what tokens begin with, so that leak scanners find them
ID_LENGTH = 12
ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True)
class Secret:
    """A new token, as it is handed out this once."""

    token: str

    @property
    def id(self) -> str:
        """The start of its SHA-256, to name it by."""
        return token_id(digest(self.token))

    @property
    def sha256(self) -> str:
        """What its holder's history knows it by."""
        return digest(self.token).hex()

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r})"


@dataclass(frozen=True)
class Token:
    """What is known of a token: everything but the token."""

    id: str
    staff_id: UUID
    label: str
    scopes: frozenset[Scope]
    session: bool
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def digest(token: str) -> bytes:
    """What is stored in a token's place."""
    return hashlib.sha256(token.encode()).digest()


def token_id(sha256: bytes) -> str:
    """What a token is called: it opens nothing."""
    return sha256.hex()[:ID_LENGTH]


def new_secret() -> Secret:
    """A token nobody has yet."""
    return Secret(TOKEN_MARK + secrets.token_urlsafe(32))


def issue_token(
    house: House,
    institution: str,
    staff_id: UUID,
    label: str,
    valid_for: timedelta,
    *,
    scopes: Collection[Scope] = ALL_SCOPES,
    by: Stamp | None = None,
) -> str:
    """A new token for an enrolled staff member, by whoever is at the machine unless it is said by whom.

    It is shown this once and cannot be found again. Refuses an unknown person, one who has left, a blank label, no
    scope and a validity of nothing or less.
    """
    made, said = new_secret(), by or at_the_machine()

    def decide(staff: Staff | None) -> Event:
        return enrolled(staff, institution).issue_token(
            said, token_id=made.id, sha256=made.sha256, label=label, scopes=scopes, valid_for=valid_for
        )

    receipt = house.casebook(institution).act(STAFF, staff_id, decide, command_id=said.command_id)
    locate(house, institution, staff_id, receipt.events)
    return made.token


def locate(house: House, institution: str, staff_id: StaffId, events: Sequence[Event]) -> None:
    """Say whose history knows the tokens these events issued; from here on they open something."""
    with house.within(institution) as connection:
        for event in events:
            if isinstance(event, TokenIssued):
                connection.execute(
                    "INSERT INTO api_token (token_sha256, institution, staff_id, expires_at) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (token_sha256) DO UPDATE SET label = NULL",
                    (bytes.fromhex(event.sha256), institution, staff_id, event.expires_at),
                )


def revoke_token(house: House, institution: str, id: str, *, reason: str = "") -> bool:
    """End a token named by its id, or by the token itself; whether there was one that was still valid."""
    known = digest(id).hex() if id.startswith(TOKEN_MARK) else id.lower()
    if len(known) < 8 or any(c not in "0123456789abcdef" for c in known):
        raise Refused("token.id", "Name the token by its id, eight or more hexadecimal digits.", field="id")
    with house.within(institution) as connection:
        rows = connection.execute(
            "SELECT staff_id, token_sha256 FROM api_token"
            " WHERE institution = %s AND starts_with(encode(token_sha256, 'hex'), %s)",
            (institution, known),
        ).fetchall()
    if len(rows) > 1:
        raise Refused("token.id", f"{len(rows)} tokens begin so; write more of its id.", field="id")
    return any(_end(house.casebook(institution), holder, token_id(sha256), reason) for holder, sha256 in rows)


def _end(casebook: Casebook, staff_id: StaffId, id: str, reason: str) -> bool:
    said = at_the_machine()

    def decide(staff: Staff | None) -> Event | None:
        if staff is None or id not in staff.tokens:
            return None  # expired so long ago that it is forgotten
        return staff.revoke_token(said, id, reason)

    return bool(casebook.act(STAFF, staff_id, decide, command_id=said.command_id).events)


def tokens(house: House, institution: str) -> list[Token]:
    """The tokens of an institution that its people's histories still know, the newest first."""
    casebook = house.casebook(institution)
    with house.within(institution) as connection:
        holders = connection.execute(
            "SELECT DISTINCT staff_id FROM api_token WHERE institution = %s", (institution,)
        ).fetchall()
    found: list[Token] = []
    for (staff_id,) in holders:
        staff: Staff | None = casebook.read(STAFF, staff_id)
        found += [shown(staff_id, kept) for kept in staff.tokens.values()] if staff else []
    return sorted(found, key=lambda token: (token.created_at, token.id), reverse=True)


def has_tokens(house: House, institution: str) -> bool:
    """Whether the institution was ever given a token."""
    with house.within(institution) as connection:
        row = connection.execute("SELECT FROM api_token WHERE institution = %s LIMIT 1", (institution,)).fetchone()
    return row is not None


def shown(staff_id: StaffId, kept: Kept) -> Token:
    """A token as its holder and administrators see it."""
    return Token(
        id=kept.id,
        staff_id=staff_id,
        label=kept.label,
        scopes=kept.scopes,
        session=kept.session,
        created_at=kept.issued_at,
        expires_at=kept.expires_at,
        revoked_at=kept.revoked_at,
    )


def convert_tokens(house: House) -> int:
    """Tell the tokens an earlier version made to their holders' histories; how many still open something by that.

    They keep their label, their expiry and every scope. Those revoked or expired stay as they are: they open nothing.
    """
    with house.everywhere.connection() as connection:
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT institution, staff_id, token_sha256, label, expires_at FROM api_token"
            " WHERE label IS NOT NULL AND revoked_at IS NULL AND expires_at > clock_timestamp()"
        ).fetchall()
    return sum(_convert(house, *row) for row in rows)


def _convert(
    house: House, institution: str, staff_id: StaffId, sha256: bytes, label: str, expires_at: datetime
) -> bool:
    said, id = at_the_machine(), token_id(sha256)

    def decide(staff: Staff | None) -> Event | None:
        if staff is None or staff.left or id in staff.tokens:
            return None
        return staff.issue_token(
            said,
            token_id=id,
            sha256=sha256.hex(),
            label=label,
            scopes=ALL_SCOPES,
            valid_for=expires_at - said.at,
            tokens_max=len(staff.tokens) + 1,
        )

    receipt = house.casebook(institution).act(STAFF, staff_id, decide, command_id=said.command_id)
    with house.within(institution) as connection:
        forget_label(connection, sha256)
    return bool(receipt.events)


def forget_label(connection: Connection[Any], sha256: bytes) -> None:
    """From here on the holder's history alone says what this token opens."""
    connection.execute("UPDATE api_token SET label = NULL WHERE token_sha256 = %s", (sha256,))


def enrolled(staff: Staff | None, institution: str) -> Staff:
    """The person, or a refusal: nobody who is not enrolled has credentials."""
    if staff is None:
        raise Refused("staff.unknown", f"There is no such person at {institution}; enrol them first.", field="staff_id")
    return staff


def at_the_machine() -> Stamp:
    """The stamp of whoever is at the machine itself."""
    return Stamp(by=FOUNDER, at=datetime.now(UTC), command_id=uuid4(), roles=frozenset({Role.ADMIN}))
