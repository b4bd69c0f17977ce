"""Passwords: which are good enough, and how they are kept.

Rules follow NIST SP 800-63B-4, section 3.1.1: length counts, composition does not, the commonest and what is known of
the person are refused, nothing expires. Kept by Argon2id with the low-memory profile of RFC 9106.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from domain.kernel import Refused
from domain.staff import Staff

T = TypeVar("T")

LENGTH_MIN, LENGTH_MAX = 12, 200
PATTERN_MAX = 4
"""A password that repeats so few characters over and over is no longer than they are."""
AT_ONCE = 2
"""How many passwords one process checks at once: each takes 64 MiB and four threads for a moment."""
WAITING_MAX = 50

HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$c29tZWJvZHkgZWxzZSdzIQ$m5jJ5mWm2yHh3WjLZ8yYq9vJm3a7uQeJm1V2o9b1p0E"
"""What the password of somebody unknown is checked against: the hash of a password nobody was told."""

SEQUENCES = (
    "0123456789" * 3,
    "1234567890" * 3,
    "abcdefghijklmnopqrstuvwxyz" * 2,
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)
COMMONEST = frozenset(Path(__file__).with_name("commonest.txt").read_text("utf-8").split())
"""What guessing begins with, of twelve characters or more: words, names of the keyboard, years, and China's own."""


class Busy(Exception):
    """Too many wait for their password to be checked."""


def normal(password: str) -> str:
    """The password as it is kept, however the keyboard composed it (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def good_password(password: str, staff: Staff, *words: str) -> str:
    """The password as it is kept, or a refusal that says what to do; `words` are others it may not hold."""
    password = normal(password)
    try:
        password.encode()
    except UnicodeEncodeError:
        raise Refused("text.surrogate", "The text is not valid Unicode; send it as UTF-8.", field="password") from None
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        sentence = f"A password has {LENGTH_MIN} to {LENGTH_MAX} characters; a sentence is easy to remember."
        raise Refused("password.length", sentence, field="password")
    plain = password.casefold()
    if plain in COMMONEST or _is_pattern(plain):
        sentence = "Everybody who guesses begins with this password; choose another, for example four unrelated words."
        raise Refused("password.common", sentence, field="password")
    if any(_holds(plain, normal(word).casefold()) for word in (staff.name, staff.number, *words)):
        sentence = "The password holds your name, number or institution; leave them out."
        raise Refused("password.personal", sentence, field="password")
    return password


def _is_pattern(plain: str) -> bool:
    """Whether it is a few characters over and over, or a run of the alphabet, the digits or the keyboard."""
    repeats = any(plain == (plain[:n] * len(plain))[: len(plain)] for n in range(1, PATTERN_MAX + 1))
    runs = any(plain in row or plain[::-1] in row for row in SEQUENCES)
    return repeats or runs


def _holds(plain: str, word: str) -> bool:
    """Whether the word is in it: one of three letters or digits and less only where it stands by itself."""
    if not word:
        return False
    if len(word) > 3 or not word.isascii():
        return word in plain
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", plain) is not None


class Passwords:
    """Makes and checks hashes beside the event loop, few at once, so that signing in cannot starve the rest."""

    def __init__(self) -> None:
        self._limiter: CapacityLimiter | None = None

    def full(self) -> bool:
        """Whether another check would be refused."""
        if self._limiter is None:
            return False
        at = self._limiter.statistics()
        return at.borrowed_tokens >= AT_ONCE and at.tasks_waiting >= WAITING_MAX

    async def right(self, kept: str | None, password: str) -> bool:
        """Whether this is the password kept; as slow where there is none. Raises Busy."""
        return await self.slowly(partial(verified, kept, normal(password)))

    async def hashed(self, password: str) -> str:
        """The hash of a good password. Raises Busy."""
        return await self.slowly(partial(HASHER.hash, password))

    async def slowly(self, work: Callable[[], T]) -> T:
        """Do what takes a hash, in a thread, when there is a turn. Raises Busy."""
        if self.full():
            raise Busy
        if self._limiter is None:  # belongs to the event loop it is made in
            self._limiter = CapacityLimiter(AT_ONCE)
        return await run_sync(work, limiter=self._limiter)


def verified(kept: str | None, password: str) -> bool:
    """Whether this is the password kept. Blocks for about a tenth of a second, also where nothing is kept."""
    try:
        right = HASHER.verify(kept or NOBODYS, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False
    return right and kept is not None


def outdated(kept: str) -> bool:
    """Whether a hash was made with parameters of the past."""
    return HASHER.check_needs_rehash(kept)
