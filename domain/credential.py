"""What a person comes in with (凭证): tokens, a password, identities elsewhere. Kept in the person's own history.

Never in an event: a token, a password or its hash. A token is told by the SHA-256 of its 256 random bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeVar, assert_never
from urllib.parse import urlsplit

from domain.kernel import Event, Refused, Role, StaffId, Stamp, State, SubjectId, text
from domain.personal import Personal

TOKENS_MAX = 50
"""How many tokens of a person may be valid at once, sessions apart."""
SESSIONS_MAX = 20
"""How many places a person may be signed in at; one more ends the oldest."""
SUBJECT_LENGTH_MAX = 255
"""OpenID Connect Core 1.0, section 2: `sub` has at most so many characters."""


class Scope(StrEnum):
    """What a token lets its holder do at most; what they may do is decided by their posts, as ever."""

    ASK = "ask"  # 查询
    DECIDE = "decide"  # 操作
    OWN_DOCUMENTS = "own_documents"  # 自拟文档


@dataclass(frozen=True, kw_only=True)
class TokenIssued(Event, topic="staff.token_issued"):
    """A token was made that stands for this person until it expires; a session when they signed in themselves."""

    token_id: str
    label: str
    scopes: tuple[Scope, ...]
    expires_at: datetime
    sha256: str
    session: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenRevoked(Event, topic="staff.token_revoked"):
    """A token was ended before its time, by its holder or an administrator."""

    token_id: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PasswordSet(Event, topic="staff.password_set"):
    """A password was set, by the person or an administrator; the sessions begun with the old one ended."""

    sessions_ended: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IdentityLinked(Event, topic="staff.identity_linked"):
    """Whoever an OpenID issuer calls this subject is this person."""

    staff_id: SubjectId
    issuer: str
    subject: Annotated[str, Personal("staff_id")]


@dataclass(frozen=True, kw_only=True)
class IdentityUnlinked(Event, topic="staff.identity_unlinked"):
    """Whoever an OpenID issuer calls this subject is no longer taken for this person."""

    staff_id: SubjectId
    issuer: str
    subject: Annotated[str, Personal("staff_id")]


CredentialEvent = TokenIssued | TokenRevoked | PasswordSet | IdentityLinked | IdentityUnlinked


@dataclass(frozen=True)
class Token:
    """What is known of a token: everything but the token."""

    id: str
    label: str
    scopes: frozenset[Scope]
    sha256: str
    session: bool
    issued_at: datetime
    issued_by: StaffId
    expires_at: datetime
    revoked_at: datetime | None = None

    def valid(self, at: datetime) -> bool:
        """Whether it opens anything at this moment."""
        return self.revoked_at is None and at < self.expires_at


@dataclass(frozen=True, kw_only=True)
class Holder(State):
    """A person with what they come in with. Tokens that expired before the last was issued are forgotten."""

    left: bool = False
    tokens: Mapping[str, Token] = field(default_factory=dict[str, Token])
    identities: frozenset[tuple[str, str]] = frozenset()

    def issue_token(
        self,
        stamp: Stamp,
        *,
        token_id: str,
        sha256: str,
        label: str,
        scopes: Iterable[Scope],
        valid_for: timedelta,
        valid_max: timedelta = timedelta.max,
        tokens_max: int = TOKENS_MAX,
    ) -> TokenIssued:
        """Give the person a token for a program of theirs: they themselves, or an administrator."""
        self._must_be_theirs(stamp)
        wanted = tuple(sorted(set(scopes)))
        if not wanted:
            raise Refused("token.scopes", "Name what the token is for: ask, decide or own_documents.", field="scopes")
        if not timedelta() < valid_for <= valid_max:
            most = f"to {valid_max.days}" if valid_max < timedelta.max else "or more"
            raise Refused("token.validity", f"Say for how many days the token is valid, 1 {most}.", field="days")
        if len([t for t in self.valid_tokens(stamp.at) if not t.session]) >= tokens_max:
            sentence = f"This person has {tokens_max} tokens already; revoke those that are no longer used."
            raise Refused("token.too_many", sentence, field="id")
        return TokenIssued(
            **self.next(stamp),
            token_id=token_id,
            label=text(label, "label", longest=200),
            scopes=wanted,
            expires_at=stamp.at + valid_for,
            sha256=sha256,
        )

    def open_session(
        self, stamp: Stamp, *, token_id: str, sha256: str, scopes: Iterable[Scope], valid_for: timedelta
    ) -> list[Event]:
        """The person signed in: a token for as long as they work, in place of the oldest if there are too many."""
        assert stamp.by == self.id, "nobody signs in for another"
        self._must_be_here()
        sessions = sorted((t for t in self.valid_tokens(stamp.at) if t.session), key=lambda t: (t.issued_at, t.id))
        ended = [
            TokenRevoked(**self.next(stamp, number), token_id=token.id, reason=f"more than {SESSIONS_MAX} sessions")
            for number, token in enumerate(sessions[: max(0, len(sessions) - SESSIONS_MAX + 1)])
        ]
        return [
            *ended,
            TokenIssued(
                **self.next(stamp, len(ended)),
                token_id=token_id,
                label="sign-in",
                scopes=tuple(sorted(set(scopes))),
                expires_at=stamp.at + valid_for,
                sha256=sha256,
                session=True,
            ),
        ]

    def revoke_token(self, stamp: Stamp, token_id: str, reason: str = "") -> TokenRevoked | None:
        """End a token: its holder, or an administrator. Nothing happens if it has ended already."""
        if stamp.by != self.id:
            stamp.must_hold(Role.ADMIN)
        token = self.tokens.get(token_id)
        if token is None:
            raise Refused("token.unknown", "This person has no token of this id; list them first.", field="token_id")
        if not token.valid(stamp.at):
            return None
        return TokenRevoked(
            **self.next(stamp), token_id=token_id, reason=text(reason, "reason", required=False, longest=500)
        )

    def set_password(self, stamp: Stamp, *, keep: str | None = None) -> PasswordSet:
        """The person, or an administrator, sets a password; every session ends but the one to `keep`."""
        self._must_be_theirs(stamp)
        ended = sorted(t.id for t in self.valid_tokens(stamp.at) if t.session and t.id != keep)
        return PasswordSet(**self.next(stamp), sessions_ended=tuple(ended))

    def link_identity(self, stamp: Stamp, issuer: str, subject: str) -> IdentityLinked | None:
        """Take whoever this OpenID issuer calls so for this person. Never guessed from a name or an address."""
        stamp.must_hold(Role.ADMIN)
        self._must_be_here()
        issuer, subject = identity(issuer, subject)
        if (issuer, subject) in self.identities:
            return None
        return IdentityLinked(**self.next(stamp), staff_id=self.id, issuer=issuer, subject=subject)

    def unlink_identity(self, stamp: Stamp, issuer: str, subject: str) -> IdentityUnlinked | None:
        """No longer take whoever this OpenID issuer calls so for this person."""
        stamp.must_hold(Role.ADMIN)
        issuer, subject = identity(issuer, subject)
        if (issuer, subject) not in self.identities:
            return None
        return IdentityUnlinked(**self.next(stamp), staff_id=self.id, issuer=issuer, subject=subject)

    def valid_tokens(self, at: datetime) -> list[Token]:
        """The tokens that open something at this moment."""
        return [token for token in self.tokens.values() if token.valid(at)]

    def _must_be_theirs(self, stamp: Stamp) -> None:
        if stamp.by != self.id:
            stamp.must_hold(Role.ADMIN)
        self._must_be_here()

    def _must_be_here(self) -> None:
        if self.left:
            raise Refused("staff.left", "This person has left the institution and cannot come in.", field="id")


def identity(issuer: str, subject: str) -> tuple[str, str]:
    """Issuer and subject as they are compared, to the letter; refused when they cannot be any."""
    issuer = text(issuer, "issuer", longest=1000)
    parts = urlsplit(issuer)
    if parts.scheme not in ("https", "http") or not parts.netloc or parts.query or parts.fragment:
        sentence = "Name the issuer by its address as its tokens say it, for example https://login.example.cn."
        raise Refused("identity.issuer", sentence, field="issuer")
    return issuer, text(subject, "subject", longest=SUBJECT_LENGTH_MAX)


H = TypeVar("H", bound=Holder)


def keep(holder: H, event: CredentialEvent) -> H:
    """The part of the person's fold that is about what they come in with."""
    match event:
        case TokenIssued():
            issued = Token(
                id=event.token_id,
                label=event.label,
                scopes=frozenset(event.scopes),
                sha256=event.sha256,
                session=event.session,
                issued_at=event.stamp.at,
                issued_by=event.stamp.by,
                expires_at=event.expires_at,
            )
            lasting = {t.id: t for t in holder.tokens.values() if t.expires_at > event.stamp.at}
            return replace(holder, tokens={**lasting, issued.id: issued})
        case TokenRevoked():
            return _ended(holder, (event.token_id,), event.stamp.at)
        case PasswordSet():
            return _ended(holder, event.sessions_ended, event.stamp.at)
        case IdentityLinked():
            return replace(holder, identities=holder.identities | {(event.issuer, event.subject)})
        case IdentityUnlinked():
            return replace(holder, identities=holder.identities - {(event.issuer, event.subject)})
        case _:
            assert_never(event)


def _ended(holder: H, ids: Iterable[str], at: datetime) -> H:
    ended = {id: replace(holder.tokens[id], revoked_at=at) for id in ids if id in holder.tokens}
    return replace(holder, tokens={**holder.tokens, **ended})
