"""Believing a token before the database has said that it still holds, and holding it to that before anything follows.

Who came with this token before is remembered. The question is asked on their behalf in the same round trip that asks
whether all of it still holds; if not, the answer is thrown away and the request begins anew. So a revocation, a change
of posts and an expiry count from the moment they are committed, as if the token had been looked up first.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from api.access.doorkeeper import FIND, Doorkeeper, Remembered
from api.access.roles import Principal

STATEMENT = FIND.replace("%s", "$1").encode()
"""What shows whether a token still holds, asked with its SHA-256."""


class Refuted(Exception):
    """The token does not open what it did: whoever came with it must be looked up anew."""


class Proof:
    """That a token still opens what it did; nothing may be done or said by it until `holds` was awaited or shown."""

    def __init__(self, doorkeeper: Doorkeeper, remembered: Remembered) -> None:
        self._doorkeeper = doorkeeper
        self._remembered = remembered
        self._holds: bool | None = None

    @property
    def principal(self) -> Principal:
        """Who the token stood for the last time."""
        return self._remembered.principal

    @property
    def sha256(self) -> bytes:
        """What STATEMENT is asked with."""
        return self._remembered.sha256

    @property
    def wanted(self) -> bool:
        """Whether it is still to be shown."""
        return self._holds is None

    def show(self, lines: list[list[bytes | None]]) -> None:
        """Take what STATEMENT answered, as text. Raises Refuted."""
        self._holds = len(lines) == 1 and self._remembered.still(_row(lines[0]))
        if not self._holds:
            raise Refuted

    async def holds(self) -> bool:
        """Whether all still holds; asked of the database unless it was shown."""
        if self._holds is None:
            self._holds = self._remembered.still(await self._doorkeeper._found(FIND, self.sha256))
        return self._holds

    async def must_hold(self) -> None:
        """Raise Refuted unless all still holds."""
        if not await self.holds():
            raise Refuted


def _row(line: list[bytes | None]) -> tuple[str, UUID, bool, datetime, datetime, int | None]:
    institution, staff_id, converted, expires_at, now, version = [None if v is None else v.decode() for v in line]
    assert institution is not None
    assert expires_at is not None
    assert now is not None
    return (
        institution,
        UUID(staff_id),
        converted == "t",
        datetime.fromisoformat(expires_at),
        datetime.fromisoformat(now),
        None if version is None else int(version),
    )
