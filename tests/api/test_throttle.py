"""Whoever guesses is slowed down, nobody is locked out for ever, and nothing of it grows without bound."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network
from uuid import uuid4

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from structlog.testing import capture_logs

from api.access import password as passwords
from api.access.local_user import find_user
from api.access.throttle import (
    ACCOUNT_DELAY_MAX,
    ACCOUNT_FREE,
    ADDRESS_FREE,
    BUCKETS,
    STRANGERS_MAX,
    Attempts,
    Slowed,
    Strangers,
    _bucket,
    client_address,
    delay,
)
from api.access.token import issue_token
from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import Casebook, House
from tests.api.conftest import SETTINGS, Edge, open_office, running
from tests.api.people import ADDRESSES, GOOD, PROXY, User, behind_a_proxy, pass_time, with_password
from tests.api.served import served
from tests.conftest import MASTER_KEY, Database


@pytest.fixture(scope="module")
def door(house: House) -> Generator[Edge]:
    with behind_a_proxy(house) as edge:
        yield edge


@pytest.fixture
def user(door: Edge, casebook: Casebook) -> User:
    return with_password(open_office(door, casebook))


def tries(attempts: Attempts, account: str, address: str, times: int) -> list[int]:
    """The seconds to wait that each try is answered with, 0 for one that may be made."""
    said: list[int] = []
    for _ in range(times):
        try:
            attempts.begin(account, address)
            said.append(0)
        except Slowed as slowed:
            said.append(slowed.seconds)
    return said


# accounts


def test_guessing_at_an_account_takes_longer_and_longer(user: User, house: House) -> None:
    assert [user.refused() for _ in range(ACCOUNT_FREE)] == ["sign_in.refused"] * ACCOUNT_FREE
    waits: list[int] = []
    for _ in range(6):
        status, said, headers = user.sign_in()
        assert (status, said["errors"][0]["extensions"]["code"]) == (429, "sign_in.throttled"), "nor the right one"
        waits.append(int(headers["retry-after"]))
        pass_time(house, waits[-1])
        assert user.refused() == "sign_in.refused"
    assert waits == [1, 2, 4, 8, 16, 32]
    pass_time(house, ACCOUNT_DELAY_MAX)
    user.session()
    assert [user.refused() for _ in range(3)] == ["sign_in.refused"] * 3, "who got in begins anew"


def test_nobody_can_lock_an_account_out_for_ever_from_elsewhere(user: User, house: House) -> None:
    attempts, account, guesser = Attempts(house.pool), f"{user.office.code}\0{user.number}", next(ADDRESSES)

    def guess_everywhere() -> None:
        for _ in range(16):
            address = next(ADDRESSES)
            tries(attempts, account, address, 1)
            pass_time(house, ACCOUNT_DELAY_MAX)
            assert tries(attempts, account, address, 1) == [0]

    user.session()
    guess_everywhere()
    user.session()  # from an address known to the account: at once
    guess_everywhere()
    away = User(user.edge, user.office, user.id, user.number)
    status, _, headers = away.sign_in()
    assert (status, headers["retry-after"]) == (429, f"{ACCOUNT_DELAY_MAX:.0f}")
    for _ in range(15):  # whoever guesses goes on, and does not lengthen the wait of another
        tries(attempts, account, guesser, 3)
        pass_time(house, ACCOUNT_DELAY_MAX / 15)
    away.session()


def test_who_comes_from_many_addresses_waits_at_each(user: User, house: House) -> None:
    for _ in range(ACCOUNT_FREE):
        assert User(user.edge, user.office, user.id, user.number).refused() == "sign_in.refused"
    for _ in range(3):
        assert User(user.edge, user.office, user.id, user.number).refused() == "sign_in.throttled"


def test_an_account_that_is_not_there_is_slowed_down_alike(user: User, house: House) -> None:
    other = with_password(user.office)
    known = [other.refused() for _ in range(ACCOUNT_FREE + 2)]
    assert [user.refused(number=str(uuid4())) for _ in range(2)] == ["sign_in.refused"] * 2
    nobody = str(uuid4())
    assert [user.refused(number=nobody) for _ in range(ACCOUNT_FREE + 2)] == known


def test_many_guesses_at_once_gain_nothing(house: House) -> None:
    attempts, account, address = Attempts(house.pool), str(uuid4()), next(ADDRESSES)
    with ThreadPoolExecutor(8) as together:
        said = [
            t for f in [together.submit(tries, attempts, account, address, 5) for _ in range(8)] for t in f.result()
        ]
    assert said.count(0) == ACCOUNT_FREE


# addresses


def test_an_address_that_tries_many_accounts_is_slowed_down_and_forgiven(house: House) -> None:
    attempts, address = Attempts(house.pool), next(ADDRESSES)
    said = [tries(attempts, str(uuid4()), address, 1)[0] for _ in range(ADDRESS_FREE + 3)]
    assert said[:ADDRESS_FREE] == [0] * ADDRESS_FREE
    assert any(said[ADDRESS_FREE:])
    assert tries(attempts, str(uuid4()), next(ADDRESSES), 1) == [0]
    pass_time(house, 3600)
    assert [tries(attempts, str(uuid4()), address, 1) for _ in range(10)] == [[0]] * 10


def test_a_colleague_who_signs_in_does_not_pardon_who_guesses_beside_them(house: House) -> None:
    attempts, address, own = Attempts(house.pool), next(ADDRESSES), str(uuid4())
    for _ in range(ADDRESS_FREE - 1):
        assert tries(attempts, str(uuid4()), address, 1) == [0]
    for _ in range(5):
        assert tries(attempts, own, address, 1) == [0]
        attempts.succeeded(own, address)
    assert any(tries(attempts, str(uuid4()), address, 1)[0] for _ in range(3))


def test_all_processes_count_together(house: House, user: User) -> None:
    with running(create_app(SETTINGS.model_copy(update={"trusted_proxies": (PROXY,)}), house)) as other:
        twin = User(other, user.office, user.id, user.number, user.address)
        said = [(user, twin)[n % 2].refused() for n in range(ACCOUNT_FREE + 1)]
    assert said == ["sign_in.refused"] * ACCOUNT_FREE + ["sign_in.throttled"]


def test_what_is_kept_of_failures_has_a_bound_and_names_nobody(house: House, user: User) -> None:
    user.refused()
    with house.pool.connection() as connection:
        rows = connection.execute("SELECT t::text FROM sign_in_attempt AS t").fetchall()
    assert rows
    assert not any(word in row for (row,) in rows for word in (user.number, user.address, user.office.code))
    assert all(0 <= _bucket("account", str(n)) < BUCKETS for n in range(1000))
    assert len({_bucket("account", str(n)) for n in range(1000)}) > 990


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_failures_never_wait_less_and_never_too_long(fewer: float, more: float) -> None:
    fewer, more = sorted((fewer, more))
    assert 0 <= delay(fewer, 5, 900.0) <= delay(more, 5, 900.0) <= 900


# tokens nobody knows


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_that_sends_unknown_tokens_is_slowed_down(house: House) -> None:
    few = SETTINGS.model_copy(update={"trusted_proxies": (PROXY,), "unknown_tokens_max": 3})
    with running(create_app(few, house)) as edge:
        office = open_office(edge, house.casebook("SLW"))
        known = with_password(office)
        session = known.session()
        assert known.me(session)[0] == 200
        said = [known.me("anjuan_" + "x" * 43) for _ in range(6)]
        assert said[:3] == [(401, "access.token")] * 3
        assert said[5] == (429, "access.throttled")
        assert known.me("nonsense") == (429, "access.throttled")
        assert known.me(session)[0] == 200, "a token that is known opens, whoever errs beside it"
        assert User(edge, office, known.id, known.number).me("anjuan_" + "y" * 43) == (401, "access.token")
        ended = issue_token(house, office.code, known.id, "brief", timedelta(microseconds=1))
        away = User(edge, office, known.id, known.number)
        assert {away.me(ended) for _ in range(6)} == {(401, "access.token_expired")}, "a program is told why"


def test_unknown_tokens_are_forgiven_and_floods_take_no_memory() -> None:
    clock = Clock()
    strangers = Strangers(3, clock)
    for _ in range(3):
        strangers.may_try("a")
        strangers.failed("a")
    with pytest.raises(Slowed) as slowed:
        strangers.may_try("a")
    assert slowed.value.seconds == 1
    clock.now += 1
    strangers.may_try("a")
    for _ in range(40):
        strangers.failed("a")
    with pytest.raises(Slowed) as slowed:
        strangers.may_try("a")
    assert slowed.value.seconds == 60
    clock.now += 120
    strangers.failed("a")
    strangers.may_try("a")
    for number in range(STRANGERS_MAX + 100):
        strangers.failed(f"{number}")
    assert len(strangers) == STRANGERS_MAX


# who it is


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "address"),
    [
        ("198.51.100.7", [], [], "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.9"], [], "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.9"], ["10.0.0.0/8"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9, 10.0.0.2"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], ["10.0.0.0/8"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:4711"], ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], ["10.0.0.0/8"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", [], [], "2001:db8:1:2::/64"),
        ("::1", ["203.0.113.9"], ["::1"], "203.0.113.9"),
        ("::ffff:198.51.100.7", [], [], "198.51.100.7"),
        ("10.0.0.1", ["nonsense"], ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense"], ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", [], ["10.0.0.0/8"], "10.0.0.1"),
        (None, ["203.0.113.9"], ["10.0.0.0/8"], ""),
        ("somewhere", ["203.0.113.9"], ["0.0.0.0/0"], ""),
    ],
)
def test_only_a_trusted_proxy_says_whom_it_speaks_for(
    peer: str | None, forwarded: list[str], trusted: list[str], address: str
) -> None:
    scope = {
        "type": "http",
        "client": peer and (peer, 1),
        "headers": [(b"x-forwarded-for", said.encode()) for said in forwarded],
    }
    assert client_address(Request(scope), [ip_network(t) for t in trusted]) == address


# the rest of the house


def test_signing_in_is_refused_rather_than_starving_the_rest(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING_MAX", 0)
    session = user.session()
    with ThreadPoolExecutor(6) as together:
        others = [with_password(user.office) for _ in range(6)]
        answers = [f.result() for f in [together.submit(other.sign_in) for other in others]]
    statuses = {status for status, _, _ in answers}
    assert 503 in statuses
    assert statuses <= {200, 503}
    assert {said["errors"][0]["extensions"]["code"] for status, said, _ in answers if status == 503} == {"sign_in.busy"}
    assert all(int(headers["retry-after"]) > 0 for status, _, headers in answers if status == 503)
    assert user.me(session)[0] == 200


def test_the_log_says_who_came_in_and_who_did_not_and_no_secret(user: User) -> None:
    typed = "the password in the wrong field"
    with capture_logs() as lines:
        session = user.session()
        user.refused()
        user.refused(number=typed)
        for _ in range(ACCOUNT_FREE + 1):
            user.refused()
        user.me(session)
        user.me("anjuan_" + "z" * 43)
        user.send("/password", {"old": GOOD, "new": "short"}, session)
        user.send("/sign-out", token=session)
    said = repr(lines)
    for secret in (session, session.removeprefix("anjuan_"), GOOD, "not the right one", typed, "z" * 43, "$argon2id$"):
        assert secret not in said
    told = [
        (line["event"], line.get("why"), line.get("number"))
        for line in lines
        if line["event"].startswith(("sign", "pass"))
    ]
    assert told[:3] == [
        ("signed in", None, user.number),
        ("sign-in failed", "password", user.number),
        ("sign-in failed", "unknown", None),
    ]
    assert ("sign-in throttled", None, user.number) in told
    assert all(line["address"] == user.address for line in lines if line["event"].startswith("sign"))


def test_no_secret_is_kept_in_any_table(database: Database) -> None:
    """Tokens and passwords are nowhere in the database, whatever column they might have strayed into."""
    with House(database.app, MASTER_KEY) as house, behind_a_proxy(house) as edge:
        someone = with_password(open_office(edge, house.casebook("SAFE")), Role.ADMIN)
        session = someone.session()
        someone.refused("an almost right one")
        program = issue_token(house, "SAFE", someone.id, "程序", timedelta(days=1))
        assert find_user(house, "SAFE", someone.number)
    with psycopg.connect(database.owner) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'anjuan'::regnamespace AND relkind = 'r'"
        ).fetchall()
        rows = [
            row
            for (table,) in tables
            for (row,) in connection.execute(f'SELECT t::text FROM anjuan."{table}" AS t'.encode()).fetchall()
        ]
    for kept in ("$argon2id$", "staff.token_issued", "staff.password_set", "SAFE"):
        assert any(kept in row for row in rows)
    for secret in (session, program, session.removeprefix("anjuan_"), GOOD, "an almost right one"):
        for form in (secret, secret.encode().hex()):
            assert not any(form in row for row in rows)


def test_a_served_process_believes_no_proxy_it_was_not_told_of(database: Database) -> None:
    """The server's own belief in X-Forwarded-For from this machine is off; the setting's is on where it is made."""
    body = {"institution": "BJ", "number": "1", "password": "not the right one"}
    for trusted, addresses in (("", {"127.0.0.1"}), ("127.0.0.1", {"203.0.113.9"})):
        with served(database, trusted_proxies=trusted) as process:
            url = str(httpx.URL(process.url).join("/sign-in"))
            answer = httpx.post(url, json=body, headers={"X-Forwarded-For": "203.0.113.9"}, timeout=60)
            assert answer.status_code == 401
            assert process.wait_for("sign-in failed")["address"] in addresses
