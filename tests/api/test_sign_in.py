"""People sign in with their staff number and a password, and nobody guesses one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

from api.access import password as passwords
from api.access.local_user import set_password
from api.access.password import COMMONEST, HASHER, NOBODYS, good_password, outdated
from api.access.token import at_the_machine, issue_token
from api.chinese.sentences import SENTENCES
from domain.credential import Scope
from domain.kernel import Refused, Role
from domain.staff import STAFF, Staff, enrol
from domain.store.casebook import Casebook, House
from tests.api.conftest import Edge, open_office, stamp
from tests.api.people import ADDRESSES, GOOD, User, behind_a_proxy, pass_time, with_password

OTHER = "seven umbrellas 在窗台上"


@pytest.fixture(scope="module")
def door(house: House) -> Generator[Edge]:
    with behind_a_proxy(house) as edge:
        yield edge


@pytest.fixture
def user(door: Edge, casebook: Casebook) -> User:
    return with_password(open_office(door, casebook))


# sign in, sign out


def test_a_session_is_a_token_for_asking_and_deciding(user: User) -> None:
    status, said, headers = user.sign_in()
    assert status == 200
    assert headers["cache-control"] == "no-store, no-transform", "a token is neither kept nor compressed"
    assert said.keys() == {"token", "tokenId", "expiresAt", "institution", "staffId", "name", "roles"}
    assert (said["institution"], said["staffId"], said["roles"]) == (user.office.code, str(user.id), ["CS_AGENT"])
    assert user.me(said["token"]) == (200, {"staffId": str(user.id), "roles": ["CS_AGENT"]})
    kept = user.staff.tokens[said["tokenId"]]
    assert kept.session
    assert kept.scopes == {Scope.ASK, Scope.DECIDE}
    assert kept.expires_at - kept.issued_at == timedelta(hours=12)
    assert datetime.fromisoformat(said["expiresAt"]) == kept.expires_at


def test_blanks_and_small_letters_of_the_institution_do_not_matter(user: User) -> None:
    assert user.sign_in(institution=f" {user.office.code.lower()} ", number=f"{user.number} ")[0] == 200
    assert user.refused(GOOD + " ") == "sign_in.refused", "those of a password do"


def test_whatever_keeps_somebody_out_is_said_in_chinese_too() -> None:
    said = {
        code
        for file in Path(passwords.__file__).parent.glob("*.py")
        for code in re.findall(r'"((?:access|sign_in|oidc|password|identity|token)\.[a-z_]+)"', file.read_text("utf-8"))
    }
    assert {"access.token_revoked", "sign_in.throttled", "oidc.away", "password.common", "identity.taken"} <= said
    assert said <= SENTENCES.keys()


def test_who_signed_out_must_sign_in_again(user: User) -> None:
    here, elsewhere = user.session(), user.session()
    assert user.send("/sign-out", token=here)[:2] == (200, {"signedOut": True})
    assert user.me(here) == (401, "access.token_revoked")
    assert user.me(elsewhere)[0] == 200
    assert user.send("/sign-out", token=here)[0] == 401, "replayed after its end"
    assert user.send("/sign-out")[1]["errors"][0]["extensions"]["code"] == "access.token"


def test_who_is_unknown_has_left_or_errs_is_told_the_same(user: User, house: House) -> None:
    left = with_password(user.office)
    said = stamp()
    user.office.casebook.act(STAFF, left.id, lambda staff: staff.leave(said), command_id=said.command_id)
    answers = [
        user.sign_in("not the right one"),
        user.sign_in(number="nobody"),
        user.sign_in(institution="NOWHERE"),
        user.sign_in(number=""),
        left.sign_in(),
    ]
    assert {status for status, _, _ in answers} == {401}
    assert len({json.dumps(said) for _, said, _ in answers}) == 1
    session = user.session()
    said = stamp()
    user.office.casebook.act(STAFF, user.id, lambda staff: staff.leave(said), command_id=said.command_id)
    assert user.me(session) == (401, "access.left"), "a session ends when its person leaves"


def test_a_password_is_checked_also_where_there_is_none(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work for an unknown number; the time itself is not measured."""
    checked: list[str] = []
    real = passwords.verified

    def watched(kept: str | None, password: str) -> bool:
        checked.append(kept or "nothing")
        return real(kept, password)

    monkeypatch.setattr(passwords, "verified", watched)
    assert user.refused(number="nobody") == user.refused() == "sign_in.refused"
    assert checked[0] == "nothing"
    assert checked[1].startswith("$argon2id$")
    assert extract_parameters(NOBODYS) == RFC_9106_LOW_MEMORY
    assert not passwords.verified(None, GOOD)
    verify: Callable[[str, str], bool] = HASHER.verify
    seen: list[str] = []

    def verifying(self: PasswordHasher, kept: str, word: str) -> bool:
        seen.append(kept)
        return verify(kept, word)

    monkeypatch.setattr(PasswordHasher, "verify", verifying)
    assert not real(None, GOOD)
    assert seen == [NOBODYS]
    monkeypatch.setattr(passwords, "NOBODYS", HASHER.hash(GOOD))
    assert not real(None, GOOD), "were it ever found out, it opens nothing"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"content": b"{}"}, 415, "request.content_type"),
        ({"data": {"institution": "A"}}, 415, "request.content_type"),
        ({"json": {}}, 400, "request.fields"),
        ({"json": []}, 400, "request.fields"),
        ({"json": {"institution": "A", "number": "1", "password": 7}}, 400, "request.fields"),
        ({"json": {"institution": "A", "number": "1", "password": "secret-word", "x": 1}}, 400, "request.fields"),
        (
            {"content": b'{"password": "secret-word', "headers": {"Content-Type": "application/json"}},
            400,
            "request.fields",
        ),
        ({"content": b'{"password": "\xff"}', "headers": {"Content-Type": "application/json"}}, 400, "request.fields"),
        ({"json": {"institution": "A", "number": "1", "password": "x" * 9000}}, 413, "request.too_large"),
        ({"json": {"institution": "A\0", "number": "1", "password": "secret-word"}}, 401, "sign_in.refused"),
        ({"json": {"institution": "A", "number": "' OR true --", "password": "secret-word"}}, 401, "sign_in.refused"),
    ],
)
def test_what_is_no_sign_in_is_refused_and_not_said_again(
    door: Edge, body: dict[str, Any], status: int, code: str
) -> None:
    headers = {"X-Forwarded-For": next(ADDRESSES), **body.pop("headers", {})}
    answer = door.send("POST", "/sign-in", headers=headers, **body)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (status, code)
    assert "secret-word" not in answer.text
    assert door.send("GET", "/sign-in").status_code == 405


def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(user: User, house: House) -> None:
    def kept() -> str:
        with house.within(user.office.code) as connection:
            row = connection.execute("SELECT password_hash FROM local_user WHERE staff_id = %s", (user.id,)).fetchone()
        assert row is not None
        return row[0]

    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)
    with house.within(user.office.code) as connection:
        connection.execute("UPDATE local_user SET password_hash = %s WHERE staff_id = %s", (weak, user.id))
    assert user.refused() == "sign_in.refused"
    assert kept() == weak, "only whoever knows the password renews its hash"
    user.session()
    assert not outdated(kept())
    first = kept()
    user.session()
    assert kept() == first


# passwords


def test_a_changed_password_ends_the_other_sessions(user: User) -> None:
    here, elsewhere = user.session(), user.session()
    program = issue_token(user.office.casebook.house, user.office.code, user.id, "程序", timedelta(days=1))
    status, said, _ = user.send("/password", {"old": GOOD, "new": OTHER}, here)
    assert (status, said) == (200, {"changed": True})
    assert [user.me(token)[0] for token in (here, elsewhere, program)] == [200, 401, 200]
    assert user.refused(GOOD) == "sign_in.refused"
    user.session(OTHER)


def test_a_password_is_changed_by_whoever_knows_it_only(user: User) -> None:
    session = user.session()

    def change(old: str, new: str, token: str | None = session) -> tuple[int, str, str | None]:
        status, said, _ = user.send("/password", {"old": old, "new": new}, token)
        extensions = said["errors"][0]["extensions"]
        return status, extensions["code"], extensions.get("field")

    assert change("not the right one", OTHER) == (400, "password.wrong", "old")
    assert change(GOOD, GOOD) == (400, "password.same", "new")
    assert change(GOOD, "short") == (400, "password.length", "password")
    assert change(GOOD, OTHER, None) == (401, "access.token", None)
    house, code = user.office.casebook.house, user.office.code
    asking = issue_token(house, code, user.id, "只读", timedelta(days=1), scopes=[Scope.ASK])
    assert change(GOOD, OTHER, asking) == (403, "access.scope", None)
    other = issue_token(house, code, user.office.enrolled(Role.GUIDE), "无密码", timedelta(days=1))
    assert change(GOOD, OTHER, other) == (400, "password.none", None)
    last = [change("not the right one", OTHER) for _ in range(6)][-1]
    assert last[:2] == (429, "sign_in.throttled"), "guessing by a stolen session is slowed down too"
    pass_time(house, 1000)
    user.session()


def staff(name: str = "欧阳文静", number: str = "BJ-0042") -> Staff:
    return Staff(id=uuid4(), name=name, number=number, department="客服部", roles=frozenset({Role.CS_AGENT}))


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password.length"),
        ("elevenchars", "password.length"),
        ("x" * 201, "password.length"),
        ("ｓｈｏｒｔ", "password.length"),
        ("passwordpassword", "password.common"),
        ("PassWord1234", "password.common"),
        ("aaaaaaaaaaaa", "password.common"),
        ("abcabcabcabcabc", "password.common"),
        ("abcdabcdabcdab", "password.common"),
        ("123456789012", "password.common"),
        ("210987654321", "password.common"),
        ("hgfedcba" * 2, "ok"),
        ("zyxwvutsrqpo", "password.common"),
        ("qwertyuiopas", "password.common"),
        ("欧阳文静的密码是这个句子", "password.personal"),
        ("my desk is bj-0042 upstairs", "password.personal"),
        ("working at BJ since spring", "password.personal"),
        ("北京长虹整形医院门口的石狮子", "password.personal"),
        ("an objective measurement", "ok"),
        ("correct horse battery", "ok"),
        ("患者满意是我们的目标啊啊", "ok"),
    ],
)
def test_a_password_is_long_not_common_and_not_about_the_person(password: str, code: str) -> None:
    words = (staff(), "BJ", "北京长虹整形医院")
    if code == "ok":
        assert good_password(password, *words) == password
        return
    with pytest.raises(Refused) as caught:
        good_password(password, *words)
    assert (caught.value.code, caught.value.field) == (code, "password")
    assert not password or password not in str(caught.value)


def test_the_list_of_common_passwords_is_worth_its_length() -> None:
    assert len(COMMONEST) > 90
    assert all(len(word) >= passwords.LENGTH_MIN and word == word.casefold() for word in COMMONEST), (
        "shorter are too short anyway"
    )


def test_two_people_with_one_number_cannot_both_sign_in(user: User) -> None:
    house, code = user.office.casebook.house, user.office.code
    said, twin = stamp(), uuid4()
    user.office.casebook.act(
        STAFF,
        twin,
        lambda known: enrol(
            known, said, id=twin, name="同号", number=user.number, roles=[Role.GUIDE], department="前台"
        ),
        command_id=said.command_id,
    )
    with pytest.raises(Refused, match=r"password\.number_taken"):
        set_password(house, code, twin, OTHER, at_the_machine())
    user.session()
    said = stamp()
    user.office.casebook.act(STAFF, user.id, lambda staff: staff.leave(said), command_id=said.command_id)
    set_password(house, code, twin, OTHER, at_the_machine())
    assert user.sign_in(OTHER)[1]["staffId"] == str(twin)
    with pytest.raises(Refused, match=r"staff\.left"):
        set_password(house, code, user.id, OTHER, at_the_machine())
    with pytest.raises(Refused, match=r"staff\.unknown"):
        set_password(house, code, uuid4(), OTHER, at_the_machine())
