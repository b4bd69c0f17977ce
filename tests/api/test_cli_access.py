"""Who may come in, said at a terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import psycopg
import pytest

from api.access.local_user import find_user
from api.access.password import verified
from domain.store.casebook import House
from tests.api.test_cli import Anjuan, anjuan
from tests.conftest import MASTER_KEY, Database

__all__ = ["anjuan"]
GOOD = "four white horses 过桥"


@pytest.fixture
def opened(anjuan: Anjuan) -> Anjuan:
    said = anjuan("open", "BJ", "--name", "测试医院")
    assert said.code == 0, said.err
    return anjuan


def made(said: str) -> str:
    found = re.search(r"anjuan_[\w-]{43}", said)
    assert found is not None, said
    return found[0]


def test_tokens_are_made_listed_and_revoked(opened: Anjuan) -> None:
    token = made(opened("token", "--role", "auditor").out)
    other = made(opened("token", "-n", "BJ-001", "--scope", "ask", "--label", "报表", "--days", "7").out)
    listed = opened("tokens").out
    assert token not in listed
    assert other not in listed
    (line,) = [line for line in listed.splitlines() if "报表" in line]
    id, number, label, scopes, *_ = line.split()
    assert (number, label, scopes) == ("BJ-001", "报表", "ask")
    assert "Revoked" in opened("revoke", id[:8], "--reason", "程序停用").out
    again = opened("revoke", id)
    assert (again.code, "no such token" in again.out) == (1, True)
    assert re.search(rf"{id}.*20\d\d.*20\d\d", opened("tokens").out)
    assert "Revoked" in opened("revoke", token).out, "or by the token itself"


def test_a_terminal_of_eighty_columns_shows_the_whole_id_of_a_token(
    opened: Anjuan, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("token", "-n", "BJ-001", "--label", "月度报表与科室看板的夜间任务", "--days", "30")
    monkeypatch.setenv("COLUMNS", "80")
    listed = opened("tokens").out
    ids = re.findall(r"^ ([0-9a-f]{12}) +BJ-001", listed, re.MULTILINE)
    assert ids
    assert "…" not in listed
    assert all("Revoked" in opened("revoke", id).out for id in ids)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["token", "-n", "nobody"], "staff.unknown"),
        (["token", "--days", "4000"], "token.validity"),
        (["revoke", "xyz"], "token.id"),
        (["revoke", "0" * 12, "-i", "NOPE"], "institution.unknown"),
        (["password", "-n", "nobody", "--stdin"], "staff.unknown"),
        (["link", "-n", "BJ-001", "--issuer", "nonsense", "--subject", "u"], "identity.issuer"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(opened: Anjuan, words: list[str], code: str) -> None:
    said = opened(*words)
    assert said.code == 1
    assert code in said.err
    assert "Traceback" not in said.err


def test_a_password_is_set_from_the_input_and_never_shown(
    opened: Anjuan, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed, refused in (("short\n", "password.length"), ("\n", "password.length"), ("passwordpassword\n", "common")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        said = opened("password", "-n", "BJ-001", "--stdin")
        assert (said.code, refused in said.err) == (1, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(GOOD + "\r\n"))
    said = opened("password", "-n", "BJ-001", "--stdin")
    assert said.code == 0, said.err
    assert GOOD not in said.out + said.err
    with House(database.app, MASTER_KEY) as house:
        user = find_user(house, "BJ", "BJ-001")
    assert user is not None
    assert verified(user.password_hash, GOOD)
    with psycopg.connect(database.owner) as connection:
        row = connection.execute("SELECT count(*) FROM anjuan.event WHERE topic = 'staff.password_set'").fetchone()
    assert row == (1,), "only what was set is told"


def test_identities_are_linked_and_unlinked(opened: Anjuan) -> None:
    who = ("--issuer", "https://login.example.cn", "--subject", "u-1")
    assert "Linked" in opened("link", "-n", "BJ-001", *who).out
    assert "already" in opened("link", "-n", "BJ-001", *who).out
    assert "identity.taken" in opened("link", "-n", "BJ-002", *who).err
    assert "Unlinked" in opened("unlink", "-n", "BJ-001", *who).out
    assert "not linked" in opened("unlink", "-n", "BJ-001", *who).out
    assert "Linked" in opened("link", "-n", "BJ-002", *who).out


def test_migrate_tells_of_tokens_of_an_earlier_version(opened: Anjuan, database: Database, tmp_path: Path) -> None:
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO anjuan.api_token (token_sha256, institution, staff_id, label, expires_at)"
            " SELECT sha256('old'), institution, originator_id, '旧程序', now() + interval '9 days'"
            " FROM anjuan.event WHERE topic = 'staff.enrolled' LIMIT 1"
        )
    said = opened("migrate")
    assert said.out.splitlines() == [
        "Tokens of an earlier version, now in their holders' histories: 1",
        "The schema is up to date.",
    ]
    assert opened("migrate").out.splitlines() == ["The schema is up to date."]
    assert "旧程序" in opened("tokens").out
