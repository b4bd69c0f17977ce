"""What a person comes in with: tokens, sessions, a password, identities elsewhere; all in their own history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st

from domain.credential import (
    SESSIONS_MAX,
    TOKENS_MAX,
    IdentityLinked,
    IdentityUnlinked,
    PasswordSet,
    Scope,
    TokenIssued,
    TokenRevoked,
)
from domain.kernel import Event
from domain.personal import personal_fields
from domain.staff import STAFF, Staff
from tests.domain.given import BOSS, LI, ZHAO, given, hours, refused, stamp
from tests.domain.test_staff import enrolled

DAY = timedelta(days=1)
ISSUER, SUBJECT = "https://login.example.cn/realms/group", "8f14e45f-ceea"


class Person:
    """赵敏, and what happened to her credentials."""

    def __init__(self) -> None:
        first = enrolled()
        assert first is not None
        self.events: list[Event] = [first]

    @property
    def now(self) -> Staff:
        return given(STAFF, *self.events)

    def then(self, *events: Event | None) -> Staff:
        self.events += [event for event in events if event is not None]
        return self.now

    def token(self, name: str, at: float = 1, by: Any = ZHAO, **more: Any) -> TokenIssued:
        said: dict[str, Any] = {"label": "程序", "scopes": [Scope.ASK], "valid_for": DAY, **more}
        event = self.now.issue_token(stamp(by, at), token_id=name, sha256=digest(name), **said)
        self.then(event)
        return event

    def session(self, name: str, at: float = 1) -> list[Event]:
        said: dict[str, Any] = {"scopes": [Scope.ASK, Scope.DECIDE], "valid_for": timedelta(hours=12)}
        events = self.now.open_session(stamp(ZHAO, at), token_id=name, sha256=digest(name), **said)
        self.then(*events)
        return events


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def valid(person: Person, at: float) -> set[str]:
    return {token.id for token in person.now.valid_tokens(hours(at))}


def test_a_token_is_valid_from_its_issue_until_it_expires_or_is_revoked() -> None:
    person = Person()
    issued = person.token("t1", 1, scopes=[Scope.DECIDE, Scope.ASK, Scope.ASK])
    assert (issued.scopes, issued.expires_at) == ((Scope.ASK, Scope.DECIDE), hours(25))
    person.token("t2", 2)
    assert valid(person, 3) == {"t1", "t2"}
    assert valid(person, 25) == {"t2"}, "a token is not valid at the moment it expires"
    assert valid(person, 24.99) == {"t1", "t2"}
    person.then(person.now.revoke_token(stamp(ZHAO, 4), "t2", "丢失"))
    assert valid(person, 4) == {"t1"}
    assert person.now.revoke_token(stamp(ZHAO, 5), "t2") is None
    assert person.now.revoke_token(stamp(ZHAO, 30), "t1") is None, "it had expired"


def test_only_its_holder_and_an_administrator_issue_and_revoke_a_token() -> None:
    person = Person()
    person.token("own")
    person.token("given", by=BOSS)
    assert person.now.tokens["given"].issued_by == BOSS
    with refused("access.role"):
        person.token("not theirs", by=LI)
    with refused("access.role"):
        person.now.revoke_token(stamp(LI), "own")
    assert person.now.revoke_token(stamp(BOSS, 2), "own") is not None
    with refused("token.unknown", "token_id"):
        person.now.revoke_token(stamp(ZHAO), "nothing")


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"scopes": []}, "token.scopes", "scopes"),
        ({"label": " "}, "text.empty", "label"),
        ({"label": "字" * 201}, "text.too_long", "label"),
        ({"valid_for": timedelta()}, "token.validity", "days"),
        ({"valid_for": -DAY}, "token.validity", "days"),
        ({"valid_for": 2 * DAY, "valid_max": DAY}, "token.validity", "days"),
    ],
)
def test_a_token_says_what_it_is_for_and_for_how_long(said: dict[str, Any], code: str, field: str) -> None:
    with refused(code, field):
        Person().token("t", **said)
    assert Person().token("t", valid_for=DAY, valid_max=DAY)


def test_tokens_that_expired_are_forgotten_and_do_not_count() -> None:
    person = Person()
    for number in range(TOKENS_MAX):
        person.token(f"t{number}", 1)
    with refused("token.too_many", "id"):
        person.token("one more", 2)
    person.then(person.now.revoke_token(stamp(ZHAO, 3), "t0"))
    person.token("in its place", 4)
    person.token("next day", 26)
    assert set(person.now.tokens) == {"in its place", "next day"}


def test_one_session_too_many_ends_the_oldest() -> None:
    person = Person()
    person.token("program")
    for number in range(SESSIONS_MAX):
        person.session(f"s{number}", 1 + number / 100)
    ended, begun = person.session("one more", 2)
    assert isinstance(ended, TokenRevoked)
    assert isinstance(begun, TokenIssued)
    assert (ended.token_id, begun.session) == ("s0", True)
    assert valid(person, 2) == {"program", "one more"} | {f"s{n}" for n in range(1, SESSIONS_MAX)}


def test_a_new_password_ends_the_sessions_of_the_old_one_and_no_programs_tokens() -> None:
    person = Person()
    person.token("program")
    person.session("here")
    person.session("elsewhere")
    person.then(person.now.set_password(stamp(ZHAO, 2), keep="here"))
    assert valid(person, 2) == {"program", "here"}
    person.then(person.now.set_password(stamp(BOSS, 3)))
    assert valid(person, 3) == {"program"}
    with refused("access.role"):
        person.now.set_password(stamp(LI))


def test_an_identity_is_linked_by_an_administrator_and_by_nobody_else() -> None:
    person = Person()
    for by in (ZHAO, LI):
        with refused("access.role"):
            person.now.link_identity(stamp(by), ISSUER, SUBJECT)
    person.then(person.now.link_identity(stamp(BOSS), ISSUER, SUBJECT))
    assert person.now.identities == {(ISSUER, SUBJECT)}
    assert person.now.link_identity(stamp(BOSS, 2), ISSUER, SUBJECT) is None
    assert person.now.unlink_identity(stamp(BOSS, 2), ISSUER, SUBJECT.upper()) is None, "compared to the letter"
    with refused("access.role"):
        person.now.unlink_identity(stamp(ZHAO), ISSUER, SUBJECT)
    person.then(person.now.unlink_identity(stamp(BOSS, 2), ISSUER, SUBJECT))
    assert person.now.identities == frozenset()


@pytest.mark.parametrize(
    ("issuer", "subject", "field"),
    [
        ("login.example.cn", SUBJECT, "issuer"),
        ("ftp://login.example.cn", SUBJECT, "issuer"),
        ("https://", SUBJECT, "issuer"),
        ("https://login.example.cn?x=1", SUBJECT, "issuer"),
        ("https://login.example.cn#x", SUBJECT, "issuer"),
        (ISSUER, " ", "subject"),
        (ISSUER, "s" * 256, "subject"),
    ],
)
def test_what_cannot_be_an_identity_is_refused(issuer: str, subject: str, field: str) -> None:
    person = Person()
    for decide in (person.now.link_identity, person.now.unlink_identity):
        with pytest.raises(Exception, match=field):
            decide(stamp(BOSS), issuer, subject)


def test_who_an_issuer_calls_so_is_personal() -> None:
    for event in (IdentityLinked, IdentityUnlinked):
        assert personal_fields(event) == {"subject": "staff_id"}


def test_who_has_left_is_given_nothing_and_loses_what_an_administrator_takes() -> None:
    person = Person()
    person.token("old")
    person.then(person.now.leave(stamp(BOSS, 1.5)))
    for decide in (
        lambda: person.token("new", by=BOSS),
        lambda: person.session("new"),
        lambda: person.now.set_password(stamp(BOSS)),
        lambda: person.now.link_identity(stamp(BOSS), ISSUER, SUBJECT),
    ):
        with refused("staff.left"):
            decide()
    assert person.now.revoke_token(stamp(BOSS, 2), "old") is not None


@sampled(st.lists(st.tuples(st.sampled_from(["token", "session", "revoke", "password"]), st.integers(0, 4))))
def test_whatever_happens_ended_tokens_stay_ended(steps: list[tuple[str, int]]) -> None:
    """Compared with a plain book of what was issued and ended."""
    person, book = Person(), dict[str, bool]()
    for number, (step, which) in enumerate(steps):
        at, ids = 1 + number / 1000, sorted(book)
        match step:
            case "token" if sum(book.values()) < 10:
                person.token(f"t{number}", at)
                book[f"t{number}"] = True
            case "session" if sum(book.values()) < 10:
                person.session(f"s{number}", at)
                book[f"s{number}"] = True
            case "revoke" if ids:
                person.then(person.now.revoke_token(stamp(ZHAO, at), ids[which % len(ids)]))
                book[ids[which % len(ids)]] = False
            case "password":
                person.then(person.now.set_password(stamp(ZHAO, at)))
                book |= {id: False for id in ids if id.startswith("s")}
            case _:
                pass
    assert valid(person, 2) == {id for id, lives in book.items() if lives}


def examples() -> Iterator[Event]:
    """One event of each kind, for those that are kept."""
    person = Person()
    person.token("0f5a9c21be77", scopes=list(Scope))
    person.session("77be219c5a0f", 1.5)
    person.then(person.now.set_password(stamp(BOSS, 2)))
    person.then(person.now.revoke_token(stamp(BOSS, 2.5), "0f5a9c21be77", "程序停用"))
    person.then(person.now.link_identity(stamp(BOSS, 3), ISSUER, SUBJECT))
    person.then(person.now.unlink_identity(stamp(BOSS, 3.5), ISSUER, SUBJECT))
    yield from person.events
    assert {type(e) for e in person.events} >= {TokenRevoked, PasswordSet, IdentityLinked, IdentityUnlinked}
